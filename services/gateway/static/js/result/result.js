/** The view of an edit: before and after, also while it runs; after its end also the download and the receipt. */

import { byId } from "../page/dom.js";
import { isMasked } from "../edit/tasks.js";
import { ApiError, readReceipt } from "../server/api.js";
import { Compare } from "./compare.js";
import { Download } from "./download.js";
import { t } from "../page/texts.js";
import { glimpse } from "../photo/glimpse.js";
import { ReceiptCard } from "./receipt.js";

/**
 * @typedef {import("../kept/history.js").Entry} Entry
 * @typedef {import("../studio.js").Studio} Studio
 * @typedef {import("../photo/photo.js").Photo} Photo
 * @typedef {import("../marking/raster.js").Raster} Raster
 */

const BESIDE = 0.03; // of the width: the divider starts just left of the mask, so that the whole change is visible

/** Covers the photo's pane while it is shown. */
export class Result {
  /** @type {Photo | null} */
  photo = null;
  #receipt = new ReceiptCard();
  #onward = byId("continue-result", HTMLButtonElement);
  /** @type {import("./grounds.js").Grounds | null} */
  #grounds = null;

  /** @param {Studio} studio */
  constructor(studio) {
    const pane = studio.workspace.photo;
    this.pane = pane;
    this.download = new Download(studio);
    this.compare = new Compare(pane);
  }

  /**
   * Show the preview of a running edit. The divider does not move.
   * @param {Entry} entry
   * @param {string} url  of the picture that the worker sent
   * @param {() => boolean} isWanted  asked when the picture is there
   */
  async showSoFar(entry, url, isWanted) {
    const before = this.pane.photo;
    if (!before) return;
    const mask = this.#mask(entry);
    const preview = await glimpse(url, before.preview, mask?.tint.canvas ?? null);
    if (!preview || !isWanted()) return;
    this.compare.show(before, { preview }, this.compare.isShown ? this.compare.at : this.#beside(mask), t("So far"));
  }

  /**
   * Throws ApiError if there is no receipt; the image is shown in any case.
   * @param {Entry} entry
   * @param {Photo} before
   * @param {Photo} after
   */
  async show(entry, before, after) {
    this.photo = after;
    this.#onward.hidden = entry.task === "cut-out";
    if (entry.task === "cut-out") return this.#showCutOut(entry, before, after);
    this.compare.show(before, after, this.#beside(this.#mask(entry)));
    this.compare.focus();
    const offering = this.download.show(entry, after);
    const receipt = await this.#readReceipt(entry.id);
    if (receipt && this.photo === after) this.#receipt.show(receipt, after, isMasked(entry.task));
    await offering;
  }

  /**
   * Show a cut-out object on a ground of choice.
   * @param {Entry} entry
   * @param {Photo} before
   * @param {Photo} after
   */
  async #showCutOut(entry, before, after) {
    this.#grounds ??= new (await import("./grounds.js")).Grounds(this);
    if (this.photo !== after) return;
    this.compare.show(before, this.#grounds.show(entry, after), this.#beside(this.#mask(entry)));
    this.compare.focus();
    await this.download.show(entry, after);
  }

  /**
   * @param {string} id
   * @returns {Promise<import("../server/api.js").Receipt | null>} nothing if it has expired: the browser kept the picture
   */
  async #readReceipt(id) {
    try {
      return await readReceipt(id);
    } catch (error) {
      if (error instanceof ApiError && error.isGone) return null;
      throw error;
    }
  }

  /**
   * The edited region; nothing for the whole photo or a mask that could not be read.
   * @param {Entry} entry
   */
  #mask(entry) {
    const { raster } = this.pane;
    return entry.mask && raster?.coverage ? raster : null;
  }

  /**
   * The divider's first position.
   * @param {Raster | null} mask
   */
  #beside(mask) {
    return mask ? Math.max(0, mask.left - BESIDE) : 0.5;
  }

  hide() {
    this.photo = null;
    this.#grounds?.hide();
    this.download.hide();
    this.compare.hide();
    this.#receipt.hide();
  }
}
