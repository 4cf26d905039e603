/** A photo: its original bytes, its size after EXIF rotation, and a small copy for fast drawing. */

import { coloursOf, drawing } from "../page/dom.js";
import { PlainError } from "../page/failures.js";
import { t } from "../page/texts.js";
import { ApiError, readShown } from "../server/api.js";
import { Upload } from "../server/upload.js";

const PREVIEW_PX = 2048; // long side: sharp on large screens, and a 12-megapixel photo needs 13 MB instead of 48
const THUMB_PX = 112;
const ON_SERVER = /(hei[cf]|tiff?)$/i; // formats that Chromium cannot show, by type, or by name where the type is empty
const SEARCHED_PX = 128; // side of the copy in which the page looks for colours beyond sRGB
const BEYOND = 3; // levels of Display P3 that a colour loses in sRGB; a smaller loss is rounding
export const BACKGROUND = "#fff"; // behind transparent images, as on the server

/** @typedef {{blob: Blob, x: number, y: number}} Patch  a picture and its place, in pixels of the photo */

/** Not for masks, because a mask has no colours and no bytes of its own. */
export class Photo {
  /** Whether the preview shows a ground that the photo does not have. */
  isTransparent = false;

  /**
   * @param {Upload} upload
   * @param {string} name  without folder and ending
   * @param {number} width  of the upright photo
   * @param {number} height
   * @param {HTMLCanvasElement} preview
   */
  constructor(upload, name, width, height, preview) {
    this.name = name;
    this.width = width;
    this.height = height;
    this.preview = preview;
    this.upload = upload;
  }

  /**
   * Read an image. Throws PlainError if the file is no image.
   * @param {Blob} blob
   * @param {string} name
   * @param {string} [sha256]
   * @param {string | null} [ground]  without it, transparent parts stay transparent
   */
  static async open(blob, name, sha256, ground = BACKGROUND) {
    const bitmap = await decode(blob).catch((error) => decodeOnServer(blob, name, error));
    const { width, height } = bitmap;
    const scale = Math.min(1, PREVIEW_PX / Math.max(width, height));
    const { colorSpace, isTransparent } = factsOf(bitmap);
    const preview = drawScaled(bitmap, width * scale, height * scale, ground, colorSpace);
    bitmap.close();
    const photo = new Photo(new Upload(blob, sha256), name.replace(/\.[^.]+$/, "") || "photo", width, height, preview);
    return Object.assign(photo, { isTransparent });
  }

  /**
   * A photo that differs from another one in a rectangle. Throws PlainError if the patch is no image.
   * @param {Photo} before
   * @param {Patch} patch
   * @param {Upload} upload  of the whole new photo
   */
  static async patched({ name, width, height, scale, preview, isTransparent }, { blob, x, y }, upload) {
    const bitmap = await decode(blob);
    const context = drawing(preview.width, preview.height, coloursOf(preview.getContext("2d")));
    context.drawImage(preview, 0, 0);
    /** @type {[number, number, number, number]} */
    const place = [x * scale, y * scale, bitmap.width * scale, bitmap.height * scale];
    context.fillStyle = BACKGROUND;
    context.fillRect(...place);
    context.imageSmoothingQuality = "high";
    context.drawImage(bitmap, ...place);
    bitmap.close();
    return Object.assign(new Photo(upload, name, width, height, context.canvas), { isTransparent });
  }

  /** Preview pixels per pixel of the photo. */
  get scale() {
    return this.preview.width / this.width;
  }

  /** A square thumbnail as a data URL, small enough for the browser's storage. */
  thumbnail() {
    const { width, height } = this.preview;
    const side = Math.min(width, height);
    const context = drawing(THUMB_PX, THUMB_PX);
    context.fillStyle = BACKGROUND;
    context.fillRect(0, 0, THUMB_PX, THUMB_PX);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.preview, (width - side) / 2, (height - side) / 2, side, side, 0, 0, THUMB_PX, THUMB_PX);
    return context.canvas.toDataURL("image/jpeg", 0.7);
  }
}

/** @param {Blob} blob */
async function decode(blob) {
  try {
    return await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new PlainError(t("This file is not an image that this browser can show; choose a JPEG, PNG or WebP."));
  }
}

/**
 * Let the server make a picture of a file that this browser cannot show. Throws `error` if it cannot.
 * @param {Blob} blob
 * @param {string} name
 * @param {unknown} error
 */
async function decodeOnServer(blob, name, error) {
  if (!ON_SERVER.test(blob.type || name)) throw error;
  try {
    return await decode(await readShown(await new Upload(blob).send()));
  } catch (refusal) {
    throw refusal instanceof ApiError && refusal.status !== 422 ? refusal : error;
  }
}

/**
 * @param {ImageBitmap} bitmap
 * @param {number} width
 * @param {number} height
 * @param {string | null} ground
 * @param {PredefinedColorSpace} colorSpace
 */
function drawScaled(bitmap, width, height, ground, colorSpace) {
  const context = drawing(Math.max(1, Math.round(width)), Math.max(1, Math.round(height)), { colorSpace });
  context.fillStyle = ground ?? "transparent";
  context.fillRect(0, 0, context.canvas.width, context.canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, context.canvas.width, context.canvas.height);
  return context.canvas;
}

/**
 * Whether a picture has colours outside sRGB, and whether it has transparent parts. A picture without such colours stays
 * in sRGB, because its colours are exact there.
 * @param {ImageBitmap} bitmap
 * @returns {{colorSpace: PredefinedColorSpace, isTransparent: boolean}}
 */
function factsOf(bitmap) {
  const [whole, cut] = /** @type {PredefinedColorSpace[]} */ (["display-p3", "srgb"]).map((colorSpace) => {
    const context = drawing(SEARCHED_PX, SEARCHED_PX, { colorSpace, willReadFrequently: true });
    context.imageSmoothingEnabled = false; // a mean of two colours depends on the colour space
    context.drawImage(bitmap, 0, 0, SEARCHED_PX, SEARCHED_PX);
    return context.getImageData(0, 0, SEARCHED_PX, SEARCHED_PX, { colorSpace: "display-p3" }).data;
  });
  const isOpaque = (/** @type {number} */ at) => whole[at | 3] === 255; // transparent pixels have inexact numbers
  const isWide = whole.some((level, at) => Math.abs(level - cut[at]) > BEYOND && isOpaque(at));
  const isTransparent = !whole.every((_, at) => isOpaque(at));
  return { colorSpace: isWide ? "display-p3" : "srgb", isTransparent };
}
