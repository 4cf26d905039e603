/** The page's one primary button. */

import { byId } from "./dom.js";
import { WORDS } from "./tasks.js";

/**
 * @typedef {import("./api.js").Task} Task
 * @typedef {import("./workspace.js").View} View
 */

/** Only dimmed while something is missing, never disabled: pressed too early, it tells what. */
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
    const label = view === "result" ? "Run again" : WORDS[task].run;
    this.#label.textContent = sending ? "Sending…" : label;
  }
}
