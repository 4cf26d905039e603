/** The preview of a running edit: the worker's small image, drawn into the sharp photo where it is edited. */

import { coloursOf, drawing } from "../page/dom.js";

/**
 * The photo at screen size, or nothing if the browser cannot decode the preview.
 * @param {string} url
 * @param {HTMLCanvasElement} photo
 * @param {HTMLCanvasElement | null} mask  where it is edited; none: everywhere
 * @returns {Promise<HTMLCanvasElement | null>}
 */
export async function glimpse(url, photo, mask) {
  const sent = new Image();
  sent.src = url;
  await sent.decode().catch(() => {});
  if (!sent.naturalWidth) return null;
  const { width, height } = photo;
  const context = drawing(width, height, coloursOf(photo.getContext("2d")));
  context.imageSmoothingQuality = "high";
  context.drawImage(sent, 0, 0, width, height);
  if (mask) {
    context.globalCompositeOperation = "destination-in";
    context.drawImage(mask, 0, 0, width, height);
    context.globalCompositeOperation = "destination-over";
    context.drawImage(photo, 0, 0);
  }
  return context.canvas;
}
