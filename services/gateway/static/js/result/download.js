/** Takes a result out of the page: download in a chosen format, clipboard, and dragging. */

import { byId, create } from "../page/dom.js";
import { t } from "../page/texts.js";
import { ApiError, readRendition } from "../server/api.js";
import { WORDS } from "../edit/tasks.js";

/**
 * @typedef {import("../kept/history.js").Entry} Entry
 * @typedef {import("../photo/photo.js").Photo} Photo
 * @typedef {import("../studio.js").Studio} Studio
 */

const KEY = "artmancer.format";
const ORIGINAL = "original"; // the format of the upload
const LOSSLESS = "png"; // the stored result, which the receipt describes
/** @type {Record<string, string>} */
const FORMATS = { "image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp", "image/avif": "avif" };
/** @type {Record<string, string>} */
const ENDINGS = { jpeg: "jpg", "svg+xml": "svg" };

/** Holds the bytes of the shown result, because a plain link cannot send a key. */
export class Download {
  /** @type {{entry: Entry, photo: Photo, read: () => Promise<Blob>} | null} */
  #shown = null;
  #link = byId("download", HTMLAnchorElement);
  #format = byId("format", HTMLSelectElement);
  #copy = byId("copy", HTMLButtonElement);

  /** @param {Studio} studio */
  constructor(studio) {
    this.studio = studio;
    this.#link.addEventListener("click", (event) => this.#click(event));
    this.#link.addEventListener("dragstart", (event) => this.#drag(event));
    this.#copy.addEventListener("click", () => this.copy());
    this.#format.addEventListener("change", () => keepFormat(this.#format.value));
    this.#copy.hidden = typeof ClipboardItem === "undefined" || !navigator.clipboard?.write; // no clipboard over plain HTTP
    studio.capabilities.addEventListener("change", () => this.#offer());
  }

  /**
   * @param {Entry} entry
   * @param {Photo} photo
   * @param {() => Promise<Blob>} [read]  its bytes, if they are not those of the result
   */
  async show(entry, photo, read = () => photo.upload.blob()) {
    this.#shown = { entry, photo, read };
    this.#offer();
    this.#point();
    const bytes = await read();
    if (this.#shown?.read !== read) return;
    this.#link.download = fileName(entry, bytes.type);
    this.#point(bytes);
  }

  hide() {
    this.#shown = null;
    this.#point();
  }

  /** Save the result that is shown, or the version that is edited. */
  async save() {
    const { timeline, view } = this.studio;
    if (view === "result") {
      this.#link.click();
    } else if (timeline.entry) {
      await this.#fetchAndSave(timeline.entry);
    }
  }

  /** Put the picture into the clipboard, as PNG. */
  async copy() {
    const { notices } = this.studio;
    const read = this.#shown?.read;
    if (!read || this.#copy.hidden) return;
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": read() })]);
      notices.inform(t("The picture is in the clipboard."));
    } catch {
      notices.warn(t("The browser did not allow the copy; download the picture instead."));
    }
  }

  /** List the formats that the server offers. */
  #offer() {
    const task = this.#shown?.entry.task ?? "removal";
    const known = this.studio.capabilities.formats(task).filter((type) => type in FORMATS);
    this.#format.hidden = known.length < 2;
    const options = known.map((type) => create("option", { value: FORMATS[type] }, FORMATS[type].toUpperCase()));
    this.#format.replaceChildren(create("option", { value: ORIGINAL }, t("As photo")), ...options);
    this.#format.value = readFormat();
    if (!this.#format.value) this.#format.value = ORIGINAL;
  }

  /** @param {MouseEvent} event */
  #click(event) {
    const entry = this.#shown?.entry;
    if (!entry) event.preventDefault();
    const isReady = this.#link.getAttribute("href") !== "#";
    if (!entry || (isReady && (this.#format.hidden || this.#format.value === LOSSLESS))) return;
    event.preventDefault();
    this.#fetchAndSave(entry);
  }

  /** @param {Entry} entry */
  async #fetchAndSave(entry) {
    try {
      const bytes = await this.#read(entry);
      const url = URL.createObjectURL(bytes);
      create("a", { href: url, download: fileName(entry, bytes.type) }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000); // the browser reads it after the click
    } catch (error) {
      this.studio.notices.fail(error);
    }
  }

  /**
   * The picture in the chosen format; as PNG if the server is away or has forgotten it, and the browser has it.
   * @param {Entry} entry
   */
  async #read(entry) {
    const own = () => this.#shown?.read() ?? this.studio.vault.result(entry.id);
    if (this.#format.hidden) return own();
    try {
      return await readRendition(entry.id, this.#format.value);
    } catch (error) {
      if (!(error instanceof ApiError && (error.isGone || error.code === "offline"))) throw error;
      const bytes = await own();
      this.studio.notices.inform(t("The server could not send the picture in this format; it was saved as PNG."));
      return bytes;
    }
  }

  /** @param {DragEvent} event */
  #drag(event) {
    const { href, download } = this.#link;
    event.dataTransfer?.setData("DownloadURL", `image/png:${download}:${href}`);
  }

  /** @param {Blob} [bytes] */
  #point(bytes) {
    URL.revokeObjectURL(this.#link.href);
    this.#link.href = bytes ? URL.createObjectURL(bytes) : "#";
  }
}

/**
 * The name of a version's file.
 * @param {Entry} entry
 * @param {string} type  of its bytes
 */
function fileName({ name, task, number }, type) {
  const ending = type.split("/")[1] ?? "png";
  return `${name}-${WORDS[task].ending}${number > 1 ? `-${number}` : ""}.${ENDINGS[ending] ?? ending}`;
}

/** @param {string} format */
function keepFormat(format) {
  try {
    localStorage.setItem(KEY, format);
  } catch {
    // storage is blocked: the choice lasts until the page is closed
  }
}

function readFormat() {
  try {
    return localStorage.getItem(KEY) ?? ORIGINAL;
  } catch {
    return ORIGINAL; // storage is blocked
  }
}
