/** The page's texts for each task. */

/**
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {import("../stage/pane.js").ToolName} ToolName
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
      eraser: "Erase what should stay.",
    },
  },
  insertion: {
    run: "Insert",
    doing: "Inserting",
    done: "Inserted",
    ending: "inserted",
    prompt: "A cup of coffee on the table",
    hints: {
      click: "Click the thing that the object replaces.",
      box: "Draw a box where the object should go.",
      brush: "Paint where the object should go.",
      eraser: "Erase what is too much.",
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
  click: "Click the object to insert.",
  box: "Draw a box around the object.",
  brush: "Paint over the object.",
  eraser: "Erase what is not part of the object.",
};
