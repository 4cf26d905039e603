/** The page's texts for each task. */

import { t } from "../page/texts.js";

/**
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {import("../stage/pane.js").ToolName} ToolName
 * @typedef {{run: string, doing: string, done: string, ending: string, prompt: string,
 *   hints: Partial<Record<ToolName, string>>}} Words
 */

/** @type {Record<Task, Words>} */
export const WORDS = {
  removal: {
    run: t("Remove"),
    doing: t("Removing"),
    done: t("Removed"),
    ending: "removed",
    prompt: t("What should be there instead?"),
    hints: {
      click: t("Click what you want to remove."),
      box: t("Draw a box around what you want to remove."),
      brush: t("Paint over what you want to remove."),
      eraser: t("Erase what should stay."),
    },
  },
  insertion: {
    run: t("Insert"),
    doing: t("Inserting"),
    done: t("Inserted"),
    ending: "inserted",
    prompt: t("A cup of coffee on the table"),
    hints: {
      click: t("Click the thing that the object replaces."),
      box: t("Draw a box where the object should go."),
      brush: t("Paint where the object should go."),
      eraser: t("Erase what is too much."),
    },
  },
  "white-balance": {
    run: t("Balance colours"),
    doing: t("Balancing colours"),
    done: t("Balanced"),
    ending: "balanced",
    prompt: "",
    hints: {},
  },
  "cut-out": {
    run: t("Cut out"),
    doing: t("Cutting out…"),
    done: t("The object is cut out"),
    ending: "cut-out",
    prompt: "",
    hints: {
      click: t("Click what you want to cut out."),
      box: t("Draw a box around what you want to cut out."),
      brush: t("Paint over what you want to cut out."),
      eraser: t("Erase what is not part of it."),
    },
  },
};

/**
 * Whether a task edits a marked region; another one edits the whole photo.
 * @param {Task} task
 */
export const isMasked = (task) => Object.keys(WORDS[task].hints).length > 0;

/** @type {Partial<Record<ToolName, string>>} */
export const OBJECT_HINTS = {
  click: t("Click the object to insert."),
  box: t("Draw a box around the object."),
  brush: t("Paint over the object."),
  eraser: t("Erase what is not part of the object."),
};
