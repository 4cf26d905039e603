/** The three things the studio does, in the words that the page uses for them. */

/**
 * @typedef {import("./api.js").Task} Task
 * @typedef {import("./pane.js").ToolName} ToolName
 * @typedef {{run: string, doing: string, done: string, ending: string, prompt: string,
 *   hints: Partial<Record<ToolName, string>>}} Words
 */

/** @type {Record<Task, Words>} */
export const WORDS = {
  removal: {
    run: "Remove",
    doing: "Removing",
    done: "Removed",
    ending: "removed",
    prompt: "What should be there instead?",
    hints: {
      click: "Click what you want to remove.",
      box: "Draw a box around what you want to remove.",
      brush: "Paint over what you want to remove.",
      eraser: "Paint away what shall stay.",
    },
  },
  insertion: {
    run: "Insert",
    doing: "Inserting",
    done: "Inserted",
    ending: "inserted",
    prompt: "A cup of coffee on the table",
    hints: {
      click: "Click the thing whose place the object takes.",
      box: "Draw a box where the object shall stand.",
      brush: "Paint where the object shall stand.",
      eraser: "Paint away what is too much.",
    },
  },
  "white-balance": {
    run: "Balance colours",
    doing: "Balancing colours",
    done: "Balanced",
    ending: "balanced",
    prompt: "",
    hints: {},
  },
};

/** @type {Partial<Record<ToolName, string>>} */
export const OBJECT_HINTS = {
  click: "Click the object that shall go in.",
  box: "Draw a box around the object.",
  brush: "Paint over the object.",
  eraser: "Paint away what is not the object.",
};
