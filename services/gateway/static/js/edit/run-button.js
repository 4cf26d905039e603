/** The page's primary button. */

import { byId } from "../page/dom.js";
import { t } from "../page/texts.js";
import { WORDS } from "./tasks.js";

/**
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {import("./workspace.js").View} View
 */

/** Dimmed while something is missing, never disabled: a click then shows the missing item. */
export class RunButton {
  #button = byId("run", HTMLButtonElement);
  #label = byId("run-text", HTMLElement);

  /**
   * @param {Task} task
   * @param {View} view
   * @param {boolean} ready
   * @param {boolean} sending
   */
  show(task, view, ready, sending) {
    this.#button.hidden = view === "work";
    this.#button.classList.toggle("early", sending || !ready);
    this.#button.classList.toggle("primary", view !== "result"); // there the primary one is the download
    const label = view === "result" ? t("Run again") : WORDS[task].run;
    this.#label.textContent = sending ? t("Sending…") : label;
  }
}
