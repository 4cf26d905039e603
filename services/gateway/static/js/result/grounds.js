/** The ground of a cut-out object: nothing, a colour, or a soft shadow. It is shown, copied and downloaded with it. */

import { coloursOf, create, drawing } from "../page/dom.js";
import { PlainError } from "../page/failures.js";
import { t } from "../page/texts.js";

/**
 * @typedef {import("../kept/history.js").Entry} Entry
 * @typedef {import("../photo/photo.js").Photo} Photo
 * @typedef {import("./result.js").Result} Result
 * @typedef {"none" | "colour" | "shadow"} Ground
 */

const SQUARES = 40; // of the checkerboard, along the longer side
const LIGHT = "#f5f5f5"; // the ground and the shadow are those of /api/image-utils/add-shadow, on a square of 1024 px
const SHADOW = { px: 1024, right: 3, down: 5, blur: 7, colour: "rgb(0 0 0 / .4)" };
const SMALL_PX = 128; // enough to find the object's size

/** One bar of buttons in the dock, made at the first cut-out. */
export class Grounds {
  /** @type {Ground} */
  #chosen = "none";
  /** @type {{entry: Entry, photo: Photo, extent: number} | null} */
  #shown = null;
  /** The picture on the stage. */
  #after = { preview: drawing(1, 1).canvas };
  #colour = create("input", { type: "color", value: "#ffffff", className: "ground-colour", ariaLabel: t("Colour") });
  /** @type {[Ground, string][]} */
  #names = [
    ["none", t("Transparent")],
    ["colour", t("Colour")],
    ["shadow", t("Shadow")],
  ];
  #buttons = this.#names.map(([ground, name]) => {
    const button = create("button", { type: "button" }, name);
    button.dataset.ground = ground;
    button.addEventListener("click", () => this.#choose(ground));
    return button;
  });
  #bar = create("div", { className: "segments small grounds", role: "group", ariaLabel: t("Ground") }, ...this.#buttons);

  /** @param {Result} result */
  constructor(result) {
    this.result = result;
    this.#bar.append(this.#colour);
    document.getElementById("copy")?.before(this.#bar);
    this.#colour.addEventListener("input", () => this.#paint());
    this.#colour.addEventListener("change", () => this.#choose("colour"));
  }

  /**
   * Offer the grounds. Returns the picture to show.
   * @param {Entry} entry
   * @param {Photo} photo
   */
  show(entry, photo) {
    this.#shown = { entry, photo, extent: extentOf(photo) };
    this.#chosen = "none";
    this.#bar.hidden = false;
    this.#paint();
    return this.#after;
  }

  hide() {
    this.#shown = null;
    this.#bar.hidden = true;
    this.#after.preview = drawing(1, 1).canvas;
  }

  /** @param {Ground} ground */
  #choose(ground) {
    if (!this.#shown) return;
    this.#chosen = ground;
    this.#paint();
    const { entry, photo } = this.#shown;
    this.result.download
      .show(entry, photo, ground === "none" ? undefined : () => this.#compose(photo))
      .catch((error) => this.result.download.studio.notices.fail(error));
  }

  #paint() {
    if (!this.#shown) return;
    for (const button of this.#buttons) button.ariaPressed = String(button.dataset.ground === this.#chosen);
    this.#colour.hidden = this.#chosen !== "colour";
    const { preview } = this.#shown.photo;
    this.#after.preview = this.#draw(preview, preview.width, preview.height).canvas;
    this.result.pane.repaint();
  }

  /**
   * The whole picture, opaque, as a PNG. Throws PlainError if the browser cannot make one of this size.
   * @param {Photo} photo
   * @returns {Promise<Blob>}
   */
  async #compose(photo) {
    const bitmap = await createImageBitmap(await photo.upload.blob());
    const { canvas } = this.#draw(bitmap, photo.width, photo.height);
    bitmap.close();
    const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
    if (blob) return /** @type {Blob} */ (blob);
    throw new PlainError(t("This browser cannot make a picture of this size; download the transparent one."));
  }

  /**
   * @param {CanvasImageSource} object
   * @param {number} width
   * @param {number} height
   */
  #draw(object, width, height) {
    const context = drawing(width, height, coloursOf(this.#shown?.photo.preview.getContext("2d") ?? null));
    if (this.#chosen === "none") checker(context);
    else {
      context.fillStyle = this.#chosen === "colour" ? this.#colour.value : LIGHT;
      context.fillRect(0, 0, width, height);
    }
    if (this.#chosen === "shadow") {
      const unit = ((this.#shown?.extent ?? 1) * Math.max(width, height)) / SHADOW.px;
      context.shadowColor = SHADOW.colour;
      context.shadowOffsetX = SHADOW.right * unit;
      context.shadowOffsetY = SHADOW.down * unit;
      context.shadowBlur = SHADOW.blur * unit;
    }
    context.drawImage(object, 0, 0, width, height);
    return context;
  }
}

/** @param {CanvasRenderingContext2D} context */
function checker(context) {
  const { width, height } = context.canvas;
  const side = Math.max(1, Math.round(Math.max(width, height) / SQUARES));
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.fillStyle = "#d7d7d7";
  for (let y = 0; y < height; y += side) {
    for (let x = (y / side) % 2 ? side : 0; x < width; x += 2 * side) context.fillRect(x, y, side, side);
  }
}

/**
 * The longer side of the object, as a share of the photo's longer side.
 * @param {Photo} photo
 */
function extentOf({ preview }) {
  const context = drawing(SMALL_PX, SMALL_PX, { willReadFrequently: true });
  const scale = SMALL_PX / Math.max(preview.width, preview.height);
  context.drawImage(preview, 0, 0, preview.width * scale, preview.height * scale);
  const { data } = context.getImageData(0, 0, SMALL_PX, SMALL_PX);
  const [most, least] = [[0, 0], [SMALL_PX, SMALL_PX]];
  for (let at = 0; at < SMALL_PX * SMALL_PX; at++) {
    if (data[4 * at + 3] < 128) continue;
    for (const [axis, place] of [at % SMALL_PX, Math.floor(at / SMALL_PX)].entries()) {
      most[axis] = Math.max(most[axis], place + 1);
      least[axis] = Math.min(least[axis], place);
    }
  }
  return Math.max(most[0] - least[0], most[1] - least[1], 1) / SMALL_PX;
}
