/** The /v1 API, one function per operation. Every failure is thrown as an ApiError. */

import { askForKey, currentKey } from "../page/access.js";

const TIMEOUT_MS = 120_000; // a large photo over a slow phone line

/** A failed request. `status` 0 means that there was no response. */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {string} code  a code of the server, or "offline" or "timeout"
   * @param {string} [detail]
   * @param {number | null} [retryAfterS]
   */
  constructor(status, code, detail = "", retryAfterS = null) {
    super(detail || code);
    this.name = "ApiError";
    this.status = status;
    this.code = code;
    this.detail = detail;
    this.retryAfterS = retryAfterS;
  }

  /** Whether the requested item does not exist or has expired. */
  get isGone() {
    return this.status === 404 || this.status === 410;
  }
}

/**
 * @typedef {{sha256: string, width: number, height: number, content_type: string, bytes: number}} StoredImage
 * @typedef {{sha256: string, score: number}} FoundMask
 * @typedef {{engine: string, note: string | null, candidates: FoundMask[]}} FoundMasks
 * @typedef {{points?: [number, number, 0 | 1][], box?: number[], mask?: string, auto?: boolean}} Prompt
 * @typedef {"removal" | "insertion" | "white-balance" | "cut-out"} Task  the last one is no job of the server
 * @typedef {"queued" | "running" | "done" | "failed" | "cancelled"} Status
 * @typedef {{id: string, status: Status, task: Task, progress: number, step: number | null,
 *   total_steps: number | null, message: string | null, ahead: number | null, eta_ms: number | null,
 *   engine: string | null, error: {code: string, message: string} | null, result: StoredImage | null,
 *   duration_ms: number | null, links: {events: string}}} JobState
 * @typedef {{seed: number, steps: number | null, engine: string, pixels_changed_outside_mask: number,
 *   timings_ms: Record<string, number>}} Receipt
 * @typedef {{name: string, url: string, width: number, height: number, credit: string}} Sample
 * @typedef {{engines: string[], parameters: string[], typical_s: number | null, formats: string[]}} TaskCapability
 */

/**
 * @param {string} path
 * @param {RequestInit} [options]
 * @param {boolean} [asks]  for a key, if the server requires one
 * @returns {Promise<Response>}
 */
async function request(path, options = {}, asks = true) {
  const key = currentKey();
  const response = await send(path, key, options);
  if (response.status === 401 && asks && (await askForKey(key))) return request(path, options);
  if (!response.ok) throw await problem(response);
  return response;
}

/**
 * @param {string} path
 * @param {string} key
 * @param {RequestInit} options
 */
async function send(path, key, options) {
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const signal = options.signal ? AbortSignal.any([options.signal, limit]) : limit;
  try {
    return await fetch(path, { ...options, headers, signal });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new ApiError(0, limit.aborted ? "timeout" : "offline");
  }
}

/** @param {Response} response */
async function problem(response) {
  const wait = Number(response.headers.get("Retry-After")) || null;
  const body = await response.json().catch(() => ({}));
  return new ApiError(response.status, String(body.code ?? ""), String(body.detail ?? ""), wait);
}

/**
 * @param {string} path
 * @param {unknown} body
 * @param {RequestInit} [options]
 */
async function post(path, body, options = {}) {
  const headers = { "Content-Type": "application/json", ...options.headers };
  const response = await request(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
  return response.json();
}

/**
 * Whether the server has an image already.
 * @param {string} sha256
 */
export async function hasImage(sha256) {
  try {
    await request(`v1/images/${sha256}`, { method: "HEAD" });
    return true;
  } catch (error) {
    if (error instanceof ApiError && error.status === 404) return false;
    throw error;
  }
}

/**
 * Store an image. Throws ApiError, also with the code "stopped" after the signal.
 * @param {Blob} blob
 * @param {(share: number) => void} report  how much is sent, 0 to 1
 * @param {AbortSignal} signal
 * @returns {Promise<StoredImage>}
 */
export async function storeImage(blob, report, signal) {
  const key = currentKey();
  const { status, answer, wait } = await sendBytes(blob, key, report, signal);
  if (status === 401 && (await askForKey(key))) return storeImage(blob, report, signal);
  if (status < 200 || status > 299)
    throw new ApiError(status, String(answer.code ?? ""), String(answer.detail ?? ""), wait);
  return answer;
}

/**
 * Send bytes with an XMLHttpRequest, because `fetch` does not report how much is sent.
 * @param {Blob} blob
 * @param {string} key
 * @param {(share: number) => void} report
 * @param {AbortSignal} signal
 * @returns {Promise<{status: number, answer: any, wait: number | null}>}
 */
function sendBytes(blob, key, report, signal) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", "v1/images");
    sending.responseType = "json";
    sending.setRequestHeader("Content-Type", blob.type || "application/octet-stream");
    if (key) sending.setRequestHeader("Authorization", `Bearer ${key}`);
    sending.upload.onprogress = ({ loaded, total }) => report(total ? loaded / total : 0);
    sending.onload = () => {
      const wait = Number(sending.getResponseHeader("Retry-After")) || null;
      resolve({ status: sending.status, answer: sending.response ?? {}, wait });
    };
    sending.onerror = () => reject(new ApiError(0, "offline"));
    sending.onabort = () => reject(new ApiError(0, "stopped"));
    signal.addEventListener("abort", () => sending.abort(), { once: true });
    sending.send(blob);
  });
}

/**
 * The gains of R, G and B in linear light that a white balance at full strength would take.
 * @param {string} sha256
 * @param {AbortSignal} signal
 * @returns {Promise<[number, number, number]>}
 */
export async function readGains(sha256, signal) {
  return (await (await request(`v1/images/${sha256}/white-balance/estimate`, { signal }, false)).json()).gains;
}

/**
 * @param {string} sha256
 * @param {AbortSignal} [signal]
 */
export async function readImage(sha256, signal) {
  return (await request(`v1/images/${sha256}`, { signal: signal ?? null })).blob();
}

/**
 * An upright image in a format that every browser shows.
 * @param {string} sha256
 */
export async function readShown(sha256) {
  return (await request(`v1/images/${sha256}?format=jpeg`)).blob();
}

/**
 * @param {string} image
 * @param {Prompt} prompt
 * @param {number} candidates  at most; more than one takes several times as long
 * @param {AbortSignal} signal
 * @returns {Promise<FoundMasks>}
 */
export async function findMasks(image, prompt, candidates, signal) {
  return post("v1/masks", { image, candidates, ...prompt }, { signal });
}

/**
 * The outline of the object that a click would select. A missing key is an ApiError: a dialog would disturb here.
 * @param {string} image
 * @param {[number, number]} point
 * @param {AbortSignal} signal
 * @returns {Promise<{status: "found" | "nothing" | "not-seen" | "superseded", outline: [number, number][][]}>}
 */
export async function outlineAt(image, point, signal) {
  const headers = { "Content-Type": "application/json" };
  const body = JSON.stringify({ image, point });
  return (await request("v1/masks/preview", { method: "POST", headers, body, signal }, false)).json();
}

/**
 * Cut a masked object out, at full size where it stands.
 * @param {string} image
 * @param {string} mask
 * @returns {Promise<StoredImage>}
 */
export async function cutOut(image, mask) {
  return post("v1/extractions", { image, mask, frame: "photo" });
}

/**
 * @param {object} submission
 * @param {string} key  the same key and submission never start a second job
 * @returns {Promise<JobState>}
 */
export async function submitJob(submission, key) {
  return post("v1/jobs", submission, { headers: { "Idempotency-Key": key } });
}

/**
 * @param {string} id
 * @returns {Promise<JobState>}
 */
export async function readJob(id) {
  return (await request(`v1/jobs/${id}`)).json();
}

/**
 * @param {string} id
 * @returns {Promise<JobState>}
 */
export async function cancelJob(id) {
  return (await request(`v1/jobs/${id}`, { method: "DELETE" })).json();
}

/**
 * @param {string} id
 * @returns {Promise<Receipt>}
 */
export async function readReceipt(id) {
  return (await request(`v1/jobs/${id}/receipt`)).json();
}

/** @param {string} id */
export async function readResult(id) {
  return (await request(`v1/jobs/${id}/result`)).blob();
}

/**
 * A result in another format.
 * @param {string} id
 * @param {string} format  "original": that of the upload
 */
export async function readRendition(id, format) {
  return (await request(`v1/jobs/${id}/result?format=${format}`)).blob();
}

/**
 * The changed rectangle of a result, or nothing and the whole result where the server sends no patches.
 * @param {string} id
 * @returns {Promise<{patch: import("../photo/photo.js").Patch | null, whole: Blob | null}>}
 */
export async function readPatch(id) {
  const response = await request(`v1/jobs/${id}/result?patch=true`);
  const [x, y] = ["X-Patch-X", "X-Patch-Y"].map((name) => response.headers.get(name));
  const blob = await response.blob();
  return x === null || y === null
    ? { patch: null, whole: blob }
    : { patch: { blob, x: Number(x), y: Number(y) }, whole: null };
}

/**
 * Open the event stream of a job.
 * @param {string} link  of the job; if the server requires a key, the link is signed and expires after some minutes
 * @param {string} after  the last event that was seen, or nothing
 */
export function listen(link, after) {
  const url = new URL(link, location.href);
  if (after) url.searchParams.set("last_event_id", after);
  return new EventSource(url);
}

/**
 * The engines and parameters of each task now. A missing key is an ApiError, because the page works without them.
 * @returns {Promise<Record<Task, TaskCapability>>}
 */
export async function readCapabilities() {
  return (await (await request("v1/capabilities", {}, false)).json()).tasks;
}

/** @returns {Promise<Sample[]>} */
export async function listSamples() {
  return (await request("v1/samples")).json();
}

/**
 * The bytes of one of the page's own files.
 * @param {string} url
 */
export async function readFile(url) {
  return (await request(url)).blob();
}
