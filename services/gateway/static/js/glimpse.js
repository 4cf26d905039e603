/** How a running edit looks by now: small and coarse as the worker sends it, laid into the sharp photo where it is edited. */

import { drawing } from "./dom.js";

/**
 * The photo as large as on the screen, or nothing where the browser cannot read what was sent.
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
  const context = drawing(width, height);
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
