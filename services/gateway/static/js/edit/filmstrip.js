/** The strip of photos: each with its versions in the order in which they were made. */

import { byId, create, icon } from "../page/dom.js";
import { count, language, t } from "../page/texts.js";
import { isOpen } from "../kept/history.js";
import { WORDS } from "./tasks.js";

/**
 * @typedef {import("../kept/history.js").Entry} Entry
 * @typedef {import("../kept/history.js").Roll} Roll
 * @typedef {import("../studio.js").Studio} Studio
 */

/** @type {Record<Entry["status"], string>} */
const STATUS = {
  queued: t("waiting"),
  running: t("running"),
  done: t("done"),
  failed: t("failed"),
  cancelled: t("cancelled"),
  expired: t("expired"),
};

/** Shows the history and opens versions. */
export class Filmstrip {
  #strip = byId("strip", HTMLElement);
  #empty = byId("film-empty", HTMLElement);
  #forget = byId("forget", HTMLButtonElement);
  /** @type {string | null} */
  #current = null;

  /** @param {Studio} studio */
  constructor(studio) {
    this.studio = studio;
    this.#forget.addEventListener("click", () => this.#forgetAll());
    studio.history.addEventListener("change", () => this.render());
    studio.history.addEventListener("trimmed", (event) => this.#reportTrimmed(/** @type {CustomEvent} */ (event).detail));
    this.render();
  }

  /** @param {string | null} id  of the version or the photo on the stage */
  mark(id) {
    const moved = id !== this.#current;
    this.#current = id;
    for (const button of this.#strip.querySelectorAll("button")) {
      const isCurrent = button.dataset.id === id || button.dataset.original === id;
      if (isCurrent) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
      if (isCurrent && moved) button.scrollIntoView({ block: "nearest", inline: "nearest" });
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

  render() {
    const { entries, rolls } = this.studio.history;
    const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset : {};
    const waiting = [...rolls.values()].filter(({ waits }) => waits).map(({ id }) => id);
    const ids = [...new Set([...entries.map(({ roll }) => roll), ...waiting])];
    this.#strip.replaceChildren(...ids.map((id) => this.#roll(id, rolls.get(id))));
    this.#empty.hidden = ids.length > 0;
    this.#forget.hidden = entries.every(isOpen) && !waiting.length;
    const current = this.#current;
    this.#current = null;
    this.mark(current);
    const wanted = focused.id ?? focused.original;
    if (!wanted) return;
    const buttons = [...this.#strip.querySelectorAll("button")];
    buttons.find(({ dataset }) => dataset.id === wanted || dataset.original === wanted)?.focus();
  }

  /**
   * @param {string} id
   * @param {Roll | undefined} roll
   */
  #roll(id, roll) {
    const versions = this.studio.history.versionsOf(id);
    const frames = versions.map((entry, index) => this.#item(entry, index ? versions[index - 1].id : null));
    const list = create("ol", { className: "roll", ariaLabel: roll?.name ?? versions[0].name });
    if (roll) list.append(create("li", {}, this.#original(roll)));
    list.append(...frames);
    return create("li", {}, list);
  }

  /** @param {Roll} roll */
  #original(roll) {
    const label = t("The original, {name}", { name: roll.name });
    const button = this.#button(roll.thumb, label);
    button.classList.add("original");
    button.dataset.original = roll.id;
    button.addEventListener("click", () => this.studio.steps.showVersion(roll, null));
    return button;
  }

  /**
   * A version. It starts a branch if it was not made from the version before it.
   * @param {Entry} entry
   * @param {string | null} before
   */
  #item(entry, before) {
    const parent = this.studio.history.find(entry.parent);
    const isBranch = entry.parent !== before;
    const item = create("li", { className: isBranch ? "branch" : "" });
    const from = parent ? t("from version {number}", { number: parent.number }) : t("from the original");
    if (isBranch) item.title = from;
    item.append(this.#frame(entry, isBranch ? `, ${from}` : ""));
    return item;
  }

  /**
   * @param {Entry} entry
   * @param {string} from
   */
  #frame(entry, from) {
    const time = new Date(entry.at).toLocaleTimeString(language, { hour: "2-digit", minute: "2-digit" });
    const version = t("Version {number}", { number: entry.number });
    const label = `${version}, ${WORDS[entry.task].run}, ${entry.name}, ${STATUS[entry.status]}, ${time}${from}`;
    const button = this.#button(entry.thumb, label);
    button.dataset.id = entry.id;
    button.dataset.status = entry.status;
    if (entry.status === "done") button.append(create("span", { className: "number" }, String(entry.number)));
    if (entry.status === "failed" || entry.status === "expired") button.append(icon("alert"));
    if (entry.status === "cancelled") button.append(icon("close"));
    button.addEventListener("click", () => this.studio.reopen(entry));
    return button;
  }

  /**
   * @param {string} thumb
   * @param {string} label
   */
  #button(thumb, label) {
    const picture = create("img", { src: thumb, alt: "", width: 56, height: 56 });
    return create("button", { type: "button", className: "frame", ariaLabel: label, title: label }, picture);
  }

  #forgetAll() {
    const { history, notices } = this.studio;
    const removed = history.clear();
    const text =
      removed.length === 1
        ? t("One edit was forgotten.")
        : t("{count} edits were forgotten.", { count: count(removed.length) });
    notices.inform(text, { label: t("Undo"), act: () => history.bringBack(removed) });
  }

  /** @param {number} number */
  #reportTrimmed(number) {
    const text =
      number === 1
        ? t("The oldest edit has left the list, which keeps 200.")
        : t("The oldest edits have left the list, which keeps 200.");
    this.studio.notices.inform(text);
  }
}
