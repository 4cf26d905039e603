/** What is shown of an edit that is done: before and after, the download, the receipt. */

import { readReceipt } from "./api.js";
import { Compare } from "./compare.js";
import { byId } from "./dom.js";
import { ReceiptCard } from "./receipt.js";
import { WORDS } from "./tasks.js";

/**
 * @typedef {import("./history.js").Entry} Entry
 * @typedef {import("./pane.js").Pane} Pane
 * @typedef {import("./photo.js").Photo} Photo
 */

const BESIDE = 0.03; // of the width: the divider begins just left of the mask, so that all that changed is seen

/** Lies over the photo's pane while it is shown. */
export class Result {
  /** @type {Photo | null} */
  photo = null;
  #receipt = new ReceiptCard();
  #download = byId("download", HTMLAnchorElement);

  /** @param {Pane} pane */
  constructor(pane) {
    this.pane = pane;
    this.compare = new Compare(pane);
  }

  /**
   * Throws ApiError if there is no receipt; the picture is shown all the same.
   * @param {Entry} entry
   * @param {Photo} before
   * @param {Photo} after
   */
  async show(entry, before, after) {
    this.photo = after;
    const { raster } = this.pane;
    this.compare.show(before, after, entry.mask && raster?.coverage ? Math.max(0, raster.left - BESIDE) : 0.5);
    this.compare.focus();
    const ending = after.upload.blob.type.split("/")[1] ?? "png";
    this.#offer(after.upload.blob);
    this.#download.download = `${entry.name}-${WORDS[entry.task].ending}.${ending}`;
    const receipt = await readReceipt(entry.id);
    if (this.photo === after) this.#receipt.show(receipt, after, entry.task !== "white-balance");
  }

  /**
   * Its address could not be opened by a link where the server asks for a key, and the bytes are here already.
   * @param {Blob} [blob]
   */
  #offer(blob) {
    URL.revokeObjectURL(this.#download.href);
    this.#download.href = blob ? URL.createObjectURL(blob) : "#";
  }

  hide() {
    this.photo = null;
    this.#offer();
    this.compare.hide();
    this.#receipt.hide();
  }
}
