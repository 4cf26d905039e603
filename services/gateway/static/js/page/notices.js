/** Notices to the user: failures in a bar that stays until dismissed, short messages for screen readers only. */

import { byId, create, icon } from "./dom.js";
import { isExpected, sentence } from "./failures.js";

/** @typedef {{label: string, act: () => void}} Action */

/** The page's alert region and its live region for screen readers. */
export class Notices {
  #bar = byId("notice", HTMLElement);
  #text = "";
  #announcer = byId("announcer", HTMLElement);

  /** @param {unknown} error */
  fail(error) {
    this.warn(this.reason(error));
  }

  /**
   * Show a failure as a sentence. A fault of the page itself is also logged in the console.
   * @param {unknown} error
   */
  reason(error) {
    if (!isExpected(error)) console.error(error);
    return sentence(error);
  }

  /**
   * @param {string} text
   * @param {Action} [action]
   */
  warn(text, action) {
    /** @type {Element[]} */
    const parts = [icon("alert"), create("p", {}, text)];
    if (action) {
      const button = create("button", { type: "button", className: "button small" }, action.label);
      button.addEventListener("click", () => {
        this.clear();
        action.act();
      });
      parts.push(button);
    }
    const close = create("button", { type: "button", className: "round small", ariaLabel: "Dismiss" }, icon("close"));
    close.addEventListener("click", () => this.clear());
    this.#text = text;
    this.#bar.replaceChildren(...parts, close);
  }

  /**
   * Remove a notice if it is still shown.
   * @param {string} text
   */
  withdraw(text) {
    if (this.#text === text) this.clear();
  }

  clear() {
    this.#text = "";
    this.#bar.replaceChildren();
  }

  /** @param {string} text */
  say(text) {
    this.#announcer.textContent = text;
  }
}
