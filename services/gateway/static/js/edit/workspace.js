/** The photos and masks of an edit, and its task. */

import { Choices } from "../marking/choices.js";
import { byId, create, inside } from "../page/dom.js";
import { PlainError, sentence } from "../page/failures.js";
import { ApiError } from "../server/api.js";
import { Pane } from "../stage/pane.js";
import { t } from "../page/texts.js";
import { Photo } from "../photo/photo.js";
import { isMasked, OBJECT_HINTS, WORDS } from "./tasks.js";
import { Toolbox } from "../marking/toolbox.js";

/**
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {import("../kept/history.js").Entry} Entry
 * @typedef {import("../marking/mask.js").MaskState} MaskState
 * @typedef {import("../marking/mask.js").Steps} Steps
 * @typedef {import("../page/notices.js").Notices} Notices
 * @typedef {import("./settings.js").Settings} Settings
 * @typedef {import("../server/upload.js").Upload} Upload
 * @typedef {"edit" | "work" | "result"} View
 */

const WORK_HINT = t("You can close this page: the edit continues, and you find it here later.");
const RESULT_HINT = t("Drag the divider to compare.");

const GROWTH_UNIT = 0.001; // of the photo's long side

/** One pane for the photo and one for the inserted object; one of them is active. Fires `ready`. */
export class Workspace extends EventTarget {
  /** @type {Task} */
  task = "removal";
  /** The text for work beside the marking. */
  busyText = "";
  /** @type {View} */
  #view = "edit";
  #choices = new Choices();
  #hint = byId("hint", HTMLElement);
  #facts = byId("mask-facts", HTMLElement);
  #opacity = byId("opacity", HTMLInputElement);
  #grow = byId("grow", HTMLInputElement);
  #growText = byId("grow-text", HTMLOutputElement);
  #tabs = byId("pane-tabs", HTMLElement);
  #empty = byId("reference-empty", HTMLElement);
  #change = byId("change-reference", HTMLElement);

  /**
   * @param {Notices} notices
   * @param {(sha256: string) => Promise<Blob>} read  an image of the server
   */
  constructor(notices, read) {
    super();
    this.notices = notices;
    this.toolbox = new Toolbox(() => this.active);
    const announce = (/** @type {string} */ text) => notices.announce(text);
    this.photo = new Pane(byId("photo-pane", HTMLElement), this.toolbox.options, read, announce);
    this.reference = new Pane(byId("reference-pane", HTMLElement), this.toolbox.options, read, announce);
    /** @type {Pane} */
    this.active = this.photo;
    for (const pane of [this.photo, this.reference]) this.#listen(pane);
    this.toolbox.addEventListener("tool", () => this.refresh());
    this.#change.addEventListener("click", () => this.clearReference());
    this.#tabs.addEventListener("click", (event) => {
      const tab = event.target instanceof Element ? event.target.closest("button") : null;
      if (tab) this.activate(tab.dataset.pane === "photo" ? this.photo : this.reference);
    });
    this.#listenToSliders();
  }

  /** @param {Task} task */
  setTask(task) {
    this.task = task;
    const inserting = task === "insertion";
    this.photo.boxIsArea = inserting;
    this.reference.element.hidden = !inserting;
    if (inserting && this.photo.toolName === "click") this.photo.toolName = "box";
    if (!inserting && this.photo.toolName === "box") this.photo.toolName = "click";
    byId("mask-group", HTMLElement).hidden = !isMasked(task);
    byId("balance-group", HTMLElement).hidden = task !== "white-balance";
    document.body.dataset.task = task;
    document.body.toggleAttribute("data-unmasked", !isMasked(task));
    inside(document, `#tasks [value=${task}]`, HTMLInputElement).checked = true;
    this.#setModes();
    this.activate(this.photo);
  }

  /**
   * Marking is possible in the view `edit` only.
   * @param {View} view
   */
  setView(view) {
    this.#view = view;
    byId("mask-group", HTMLElement).hidden = !isMasked(this.task) || view === "result";
    this.#setModes();
    this.refresh();
  }

  /** @param {Pane} pane */
  activate(pane) {
    this.active = pane;
    for (const one of [this.photo, this.reference]) one.element.classList.toggle("active", one === pane);
    document.body.dataset.pane = pane === this.photo ? "photo" : "reference";
    for (const tab of this.#tabs.querySelectorAll("button")) {
      tab.ariaPressed = String(tab.dataset.pane === document.body.dataset.pane);
    }
    this.refresh();
  }

  /**
   * Show a photo in a pane. The page finds the object of an object photo at once.
   * @param {Photo} photo
   * @param {Pane} pane
   */
  show(photo, pane) {
    pane.show(photo);
    photo.upload.addEventListener("progress", () => pane.busy && this.refresh());
    this.activate(pane);
    if (pane === this.reference) {
      this.#empty.hidden = true;
      this.#change.hidden = false;
      pane.auto();
    }
  }

  clearReference() {
    this.reference.stop();
    this.reference.photo = this.reference.raster = null;
    this.reference.mask.reset();
    this.#empty.hidden = false;
    this.#change.hidden = true;
    inside(this.#empty, "button", HTMLElement).focus();
  }

  /**
   * Show the photos and masks of an earlier edit. Throws ApiError if the object photo has expired.
   * @param {Entry} entry
   * @param {Photo} photo
   * @param {Steps} [steps]  of the mask, if they are known
   */
  async restore(entry, photo, steps) {
    if (this.task !== entry.task) this.setTask(entry.task);
    if (this.photo.photo !== photo) this.photo.show(photo);
    await this.#restoreMask(this.photo, entry.mask, steps);
    if (!entry.reference) return;
    if (this.reference.photo?.upload.sha256 !== entry.reference) {
      const object = await Photo.open(await this.reference.read(entry.reference), "object", entry.reference);
      this.showReference(object);
    }
    await this.#restoreMask(this.reference, entry.referenceMask);
  }

  /** @param {Photo} photo */
  showReference(photo) {
    this.reference.show(photo);
    this.#empty.hidden = true;
    this.#change.hidden = false;
  }

  /** The next missing item as a sentence, or an empty string. */
  get missing() {
    if (!this.photo.photo) return t("There is no photo yet; open one or choose a sample.");
    if (!isMasked(this.task)) return "";
    if (!this.photo.isMarked && !this.photo.busy) {
      if (this.task === "insertion")
        return t("There is no place yet; draw a box in your photo where the object should go.");
      return this.task === "removal"
        ? t("Nothing is marked yet; click what you want to remove.")
        : t("Nothing is marked yet; click what you want to cut out.");
    }
    if (this.task === "insertion" && !this.reference.photo) {
      return t("There is no object photo yet; choose one beside your photo.");
    }
    return "";
  }

  /**
   * The uploads and the submission of the edit, once `missing` is empty.
   * @param {Settings} settings
   * @returns {Promise<{uploads: Upload[], submission: (names: string[]) => Record<string, unknown>}>}
   */
  async submission(settings) {
    const { task, photo, reference } = this;
    /** @type {Record<string, Upload | null | undefined>} */
    const parts = { image: photo.photo?.upload };
    if (isMasked(task)) {
      parts.mask = await photo.maskUpload();
      if (!parts.mask) throw new PlainError(this.missing);
    }
    if (task === "insertion") {
      parts.reference = reference.photo?.upload;
      parts.reference_mask = await reference.maskUpload();
    }
    const given = Object.entries(parts).flatMap(([field, upload]) => (upload ? [{ field, upload }] : []));
    const rest = { ...settings.chosen, ...(parts.mask ? { mask_tool: handTool(photo.mask.state) } : {}) };
    return {
      uploads: given.map(({ upload }) => upload),
      submission: (names) => ({
        task,
        ...Object.fromEntries(given.map(({ field }, index) => [field, names[index]])),
        ...rest,
        class: "interactive",
      }),
    };
  }

  /** Show the state of the active pane. */
  refresh() {
    const pane = this.active;
    this.dispatchEvent(new Event("ready"));
    this.toolbox.refresh();
    this.#choices.show(pane);
    this.#opacity.value = String(Math.round(pane.opacity * 100));
    this.#showGrowth(pane.mask.state.grow);
    this.#facts.textContent = pane.isMarked ? t("{share} % of the photo", { share: percent(pane) }) : "";
    const text = pane.busy ? finding(pane) : this.busyText || this.#advice();
    if (this.#hint.textContent !== text) this.#hint.replaceChildren(create("span", {}, text));
    this.#hint.classList.toggle("busy", pane.busy || this.busyText !== "");
  }

  /** The hint for the next step. */
  #advice() {
    if (this.#view === "work") return WORK_HINT;
    if (this.#view === "result") return RESULT_HINT;
    const { active: pane } = this;
    const hints = pane === this.reference ? OBJECT_HINTS : WORDS[this.task].hints;
    return pane.photo ? (hints[pane.toolName] ?? "") : "";
  }

  #setModes() {
    const masked = isMasked(this.task);
    const editing = masked && this.#view === "edit";
    this.photo.setMode(editing ? "mark" : masked && this.#view === "work" ? "work" : "look");
    this.reference.setMode(editing ? "mark" : "look");
  }

  /** @param {Pane} pane */
  #listen(pane) {
    const use = () => pane !== this.active && this.activate(pane);
    pane.element.addEventListener("pointerdown", use, { capture: true });
    pane.element.addEventListener("focusin", use);
    pane.addEventListener("change", () => this.refresh());
    pane.addEventListener("busy", () => this.refresh());
    pane.addEventListener("note", (event) => this.notices.announce(String(/** @type {CustomEvent} */ (event).detail)));
    pane.addEventListener("found", () => {
      const share = percent(pane);
      this.notices.announce(t("Marked, {share} % of the photo.", { share }));
    });
    pane.addEventListener("failure", (event) => {
      const error = /** @type {CustomEvent} */ (event).detail;
      if (error instanceof ApiError && error.code === "nothing_found") this.notices.inform(sentence(error));
      else this.notices.fail(error);
    });
  }

  #listenToSliders() {
    this.#opacity.addEventListener("input", () => {
      this.active.opacity = this.#opacity.valueAsNumber / 100;
      byId("opacity-text", HTMLOutputElement).value = `${this.#opacity.value} %`;
      this.active.repaint();
    });
    const pixels = () => Math.round(this.#grow.valueAsNumber * this.#growthUnit());
    this.#grow.addEventListener("input", () => {
      this.#growText.value = signed(pixels());
      this.active.tryGrowth(pixels());
    });
    this.#grow.addEventListener("change", () => this.active.mask.commit({ grow: pixels() }, "grow"));
  }

  /** @param {number} px */
  #showGrowth(px) {
    this.#grow.value = String(Math.round(px / this.#growthUnit()));
    this.#growText.value = signed(px);
  }

  #growthUnit() {
    const { photo } = this.active;
    return photo ? Math.max(1, Math.max(photo.width, photo.height) * GROWTH_UNIT) : 1;
  }

  /**
   * @param {Pane} pane
   * @param {string | null} mask
   * @param {Steps} [steps]
   */
  async #restoreMask(pane, mask, steps) {
    if (steps) pane.mask.restore(steps);
    else if (!mask) pane.mask.reset();
    else if (pane.mask.found?.sha256 !== mask || !pane.mask.isAsFound) {
      await pane.adopt(mask).catch(() => {}); // the result needs no mask
    }
  }
}

/**
 * The tool that made the mask; the engines use it.
 * @param {MaskState} state
 */
function handTool({ candidates, marks }) {
  return candidates.length === 0 && marks.every(({ kind }) => kind === "rectangle") ? "box" : "brush";
}

/** @param {number} px */
function signed(px) {
  return `${px > 0 ? "+" : px < 0 ? "−" : ""}${Math.abs(px)} px`;
}

/**
 * The text for the wait after a click.
 * @param {Pane} pane
 */
function finding({ photo }) {
  const share = photo?.upload.share ?? null;
  if (photo?.upload.isWaiting) return t("Waiting for the connection");
  if (share === null || share === 1) return t("Finding the object…");
  return t("Sending the photo… {percent} %", { percent: Math.round(share * 100) });
}

/**
 * How much of a photo is marked, as people read it.
 * @param {Pane} pane
 */
function percent({ raster }) {
  const share = (raster?.coverage ?? 0) * 100;
  return share < 1 ? "<1" : Math.round(share);
}
