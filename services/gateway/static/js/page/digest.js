/** The names of images: the SHA-256 of their bytes. */

/**
 * The SHA-256 of a blob in hexadecimal, or nothing on insecure pages, where browsers offer no hashing.
 * @param {Blob} blob
 */
export async function digest(blob) {
  if (!globalThis.crypto?.subtle) return "";
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
