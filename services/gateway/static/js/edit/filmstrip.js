/** The strip of earlier edits. */

import { byId, create, icon } from "../page/dom.js";
import { isOpen } from "./history.js";
import { WORDS } from "./tasks.js";

/**
 * @typedef {import("./history.js").Entry} Entry
 * @typedef {import("./history.js").History} History
 */

/** @type {Record<Entry["status"], string>} */
const STATUS = {
  queued: "waiting",
  running: "running",
  done: "done",
  failed: "failed",
  cancelled: "cancelled",
  expired: "expired",
};

/** Shows the history and reopens edits. */
export class Filmstrip {
  #strip = byId("strip", HTMLElement);
  #empty = byId("film-empty", HTMLElement);
  #forget = byId("forget", HTMLButtonElement);
  /** @type {string | null} */
  #current = null;

  /**
   * @param {History} history
   * @param {(entry: Entry) => void} open
   */
  constructor(history, open) {
    this.history = history;
    this.open = open;
    this.#forget.addEventListener("click", () => history.clear());
    history.addEventListener("change", () => this.#render());
    this.#render();
  }

  /** @param {string | null} id  of the edit on the stage */
  mark(id) {
    this.#current = id;
    for (const button of this.#strip.querySelectorAll("button")) {
      if (button.dataset.id === id) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }

  /**
   * @param {string} id
   * @param {number} progress
   */
  advance(id, progress) {
    for (const button of this.#strip.querySelectorAll("button")) {
      if (button.dataset.id === id) button.style.setProperty("--progress", String(progress));
    }
  }

  #render() {
    const { entries } = this.history;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.id : undefined;
    this.#strip.replaceChildren(...entries.map((entry) => create("li", {}, this.#frame(entry))));
    this.#empty.hidden = entries.length > 0;
    this.#forget.hidden = entries.every(isOpen);
    this.mark(this.#current);
    if (focused) [...this.#strip.querySelectorAll("button")].find(({ dataset }) => dataset.id === focused)?.focus();
  }

  /** @param {Entry} entry */
  #frame(entry) {
    const time = new Date(entry.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const label = `${WORDS[entry.task].run}, ${entry.name}, ${STATUS[entry.status]}, ${time}`;
    const picture = create("img", { src: entry.thumb, alt: "", width: 56, height: 56 });
    const button = create("button", { type: "button", className: "frame", ariaLabel: label, title: label }, picture);
    button.dataset.id = entry.id;
    button.dataset.status = entry.status;
    if (entry.status === "done") button.append(icon("check"));
    if (entry.status === "failed" || entry.status === "expired") button.append(icon("alert"));
    if (entry.status === "cancelled") button.append(icon("close"));
    button.addEventListener("click", () => this.open(entry));
    return button;
  }
}
