/** The white balance while its sliders move. It applies the server's gains to the photo, as the engine does. */

import { byId, coloursOf, drawing } from "../page/dom.js";
import { BACKGROUND, Photo } from "../photo/photo.js";
import { readGains } from "../server/api.js";
import { withStored } from "../server/upload.js";

/**
 * @typedef {import("../studio.js").Studio} Studio
 * @typedef {{colorSpace: PredefinedColorSpace}} Colours
 * @typedef {[number, number, number]} Triple  of R, G and B
 */

const LEVELS = 256;
const WARMER = [0.5, 0, -0.5]; // as in services/imageutils/white_balance.py: the logarithms of the gains at the slider's end
const LUMA = [0.2126, 0.7152, 0.0722];
const SMALL_PX = 256; // side of the copy from which the mean is computed

/** The linear light of each level. */
const LINEAR = Float64Array.from({ length: LEVELS }, (_, level) => {
  const share = level / (LEVELS - 1);
  return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
});

/** How likely a level is clipped, 0 to 1. A clipped channel follows the brightest one, so that white stays white. */
const CLIPPED = LINEAR.map((value) => Math.min(1, Math.max(0, (value - 0.8) / 0.2)));

/** Follows the photo on the stage, if an engine obeys a temperature. Other engines do not balance by gains. */
export class LiveBalance {
  /** @type {Photo | null} */
  #photo = null;
  /** @type {{gains: Triple, mean: Triple, pixels: ImageData} | null} */
  #known = null;
  /** The shown picture and its canvas.
   * @type {{context: CanvasRenderingContext2D, image: ImageData} | null} */
  #shown = null;
  #sliders = "";
  #frame = 0;
  #asking = new AbortController();

  /** @param {Studio} studio */
  constructor(studio) {
    this.studio = studio;
    studio.workspace.addEventListener("ready", () => this.#follow());
    for (const id of ["strength", "temperature"]) {
      byId(id, HTMLInputElement).addEventListener("input", () => this.#paintSoon());
    }
    this.#follow();
  }

  #follow() {
    const { capabilities, view, workspace } = this.studio;
    const isOn = workspace.task === "white-balance" && capabilities.obeys(workspace.task, "temperature");
    if (!isOn || view === "result") this.#show(null);
    const photo = isOn ? workspace.photo.photo : null;
    if (photo !== this.#photo) this.#begin(photo);
    else if (isOn && view !== "result") this.#paintSoon();
  }

  /** @param {Photo | null} photo */
  async #begin(photo) {
    this.#asking.abort();
    const { signal } = (this.#asking = new AbortController());
    this.#photo = photo;
    this.#known = this.#shown = null;
    this.#show(null);
    if (!photo) return;
    try {
      const gains = await withStored([photo.upload], (sha256) => readGains(sha256, signal));
      if (signal.aborted) return;
      const preview = await withoutGround(photo);
      if (signal.aborted) return;
      const { width, height } = preview;
      const colours = await coloursOfFile(photo);
      if (signal.aborted) return;
      const pixels = read(preview, width, height, colours);
      this.#known = { gains, mean: meanOf(preview, colours), pixels };
      this.#shown = { context: drawing(width, height, colours), image: new ImageData(width, height, colours) };
      this.#sliders = "";
      this.studio.workspace.refresh();
    } catch {
      // the job still balances without a preview, and reports the cause if it fails
    }
  }

  /** Paint once a frame, and only after a change. */
  #paintSoon() {
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#frame = 0;
    const { settings, view, workspace } = this.studio;
    if (!this.#known || !this.#shown || view === "result" || workspace.task !== "white-balance") return;
    const { strength, temperature } = settings.all;
    const sliders = `${strength}/${temperature}`;
    if (sliders !== this.#sliders) {
      const { gains, mean, pixels } = this.#known;
      const { context, image } = this.#shown;
      apply(tablesOf(gains, mean, Number(strength), Number(temperature)), pixels.data, image.data);
      context.putImageData(image, 0, 0);
      context.globalCompositeOperation = "destination-over";
      context.fillStyle = BACKGROUND;
      context.fillRect(0, 0, image.width, image.height);
      this.#sliders = sliders;
    }
    this.#show(this.#shown.context.canvas);
  }

  /** @param {HTMLCanvasElement | null} picture */
  #show(picture) {
    const { photo } = this.studio.workspace;
    const isNew = photo.live !== picture;
    photo.live = picture;
    if (picture || isNew) photo.repaint();
    if (isNew) this.studio.hold.show();
  }
}

/**
 * The new value of each level of each channel. The mean brightness stays the same.
 * @param {Triple} gains  at full strength
 * @param {Triple} mean  of the photo, in linear light
 * @param {number} strength
 * @param {number} temperature
 */
function tablesOf(gains, mean, strength, temperature) {
  const wanted = gains.map((gain, channel) => Math.exp(strength * Math.log(gain) + (temperature / 100) * WARMER[channel]));
  const light = (/** @type {number[]} */ factors) =>
    factors.reduce((sum, factor, channel) => sum + LUMA[channel] * factor * mean[channel], 0);
  const scale = light([1, 1, 1]) / (light(wanted) || 1) || 1;
  return wanted.map((gain) => Uint8ClampedArray.from(LINEAR, (value) => 255 * encode(Math.min(1, value * gain * scale))));
}

/** @param {number} linear */
function encode(linear) {
  return linear <= 0.0031308 ? 12.92 * linear : 1.055 * linear ** (1 / 2.4) - 0.055;
}

/**
 * @param {Uint8ClampedArray[]} tables
 * @param {Uint8ClampedArray} from
 * @param {Uint8ClampedArray} to
 */
function apply([red, green, blue], from, to) {
  for (let at = 0; at < from.length; at += 4) {
    const brightest = Math.max(red[from[at]], green[from[at + 1]], blue[from[at + 2]]);
    to[at] = Math.max(red[from[at]], brightest * CLIPPED[from[at]]);
    to[at + 1] = Math.max(green[from[at + 1]], brightest * CLIPPED[from[at + 1]]);
    to[at + 2] = Math.max(blue[from[at + 2]], brightest * CLIPPED[from[at + 2]]);
    to[at + 3] = from[at + 3];
  }
}

/**
 * The photo's own colours, as the engine balances them, without the ground behind a transparent photo.
 * @param {Photo} photo
 */
async function withoutGround({ isTransparent, name, preview, upload }) {
  return isTransparent ? (await Photo.open(await upload.blob(), name, upload.sha256, null)).preview : preview;
}

/**
 * The colour space of the numbers in the photo's file, because the engine multiplies these numbers. It is the nearer
 * one of Display P3 and sRGB.
 * @param {Photo} photo
 * @returns {Promise<Colours>}
 */
async function coloursOfFile({ preview, upload }) {
  const known = coloursOf(preview.getContext("2d"));
  try {
    const numbers = await createImageBitmap(await upload.blob(), { colorSpaceConversion: "none" });
    const of = (/** @type {CanvasImageSource} */ picture, /** @type {PredefinedColorSpace} */ colorSpace) =>
      read(picture, SMALL_PX, SMALL_PX, { colorSpace }, BACKGROUND).data;
    const [wanted, wide, usual] = [of(numbers, "srgb"), of(preview, "display-p3"), of(preview, "srgb")];
    numbers.close();
    const far = (/** @type {Uint8ClampedArray} */ levels) =>
      levels.reduce((sum, level, at) => sum + Math.abs(level - wanted[at]), 0);
    return { colorSpace: far(wide) < far(usual) ? "display-p3" : "srgb" };
  } catch {
    return known; // a file that only the server can read
  }
}

/**
 * The pixels of a picture in these colours.
 * @param {CanvasImageSource} picture
 * @param {number} width
 * @param {number} height
 * @param {Colours} colours
 * @param {string} [ground]
 */
function read(picture, width, height, colours, ground = "transparent") {
  const context = drawing(width, height, { ...colours, willReadFrequently: true });
  context.fillStyle = ground;
  context.fillRect(0, 0, width, height);
  context.drawImage(picture, 0, 0, width, height);
  return context.getImageData(0, 0, width, height);
}

/**
 * The mean in linear light. Like the engine it takes invisible pixels for white ones.
 * @param {HTMLCanvasElement} preview
 * @param {Colours} colours
 * @returns {Triple}
 */
function meanOf(preview, colours) {
  const scale = Math.min(1, SMALL_PX / Math.max(preview.width, preview.height));
  const [width, height] = [preview.width, preview.height].map((side) => Math.max(1, Math.round(side * scale)));
  const { data } = read(preview, width, height, colours);
  /** @type {Triple} */
  const sum = [0, 0, 0];
  for (let at = 0; at < data.length; at++) if (at % 4 < 3) sum[at % 4] += data[at | 3] ? LINEAR[data[at]] : 1;
  return /** @type {Triple} */ (sum.map((value) => value / (width * height)));
}
