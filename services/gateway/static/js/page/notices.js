/** Notices to the user: failures in a bar that stays until dismissed, short messages for screen readers only. */

import { byId, create, icon } from "./dom.js";
import { isExpected, sentence } from "./failures.js";
import { t } from "./texts.js";

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
   * The sentence for a failure. A fault of the page itself is also logged in the console.
   * @param {unknown} error
   */
  reason(error) {
    if (!isExpected(error)) console.error(error);
    return sentence(error);
  }

  /**
   * Show a failure.
   * @param {string} text
   * @param {Action} [action]
   */
  warn(text, action) {
    this.#show(text, "alert", action);
  }

  /**
   * Show a message that is no failure.
   * @param {string} text
   * @param {Action} [action]
   */
  inform(text, action) {
    this.#show(text, "status", action);
  }

  /**
   * @param {string} text
   * @param {"alert" | "status"} role
   * @param {Action} [action]
   */
  #show(text, role, action) {
    this.#bar.setAttribute("role", role);
    /** @type {Element[]} */
    const parts = [icon(role === "alert" ? "alert" : "info"), create("p", {}, text)];
    if (action) {
      const button = create("button", { type: "button", className: "button small" }, action.label);
      button.addEventListener("click", () => {
        this.clear();
        action.act();
      });
      parts.push(button);
    }
    const close = create(
      "button",
      { type: "button", className: "round small", ariaLabel: t("Dismiss") },
      icon("close"),
    );
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
  announce(text) {
    this.#announcer.textContent = text;
  }
}
