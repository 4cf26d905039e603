/** Error texts: one plain sentence with the cause and the next step. */

import { ApiError } from "../server/api.js";

/** A failure found by the page itself. Its message is already such a sentence. */
export class PlainError extends Error {}

/**
 * Whether this is an expected failure and not a fault in the page's code.
 * @param {unknown} error
 */
export function isExpected(error) {
  return error instanceof PlainError || error instanceof ApiError;
}

/** @type {Record<string, string>} */
const BY_CODE = {
  offline: "The server cannot be reached; check the connection and try again.",
  timeout: "The server took too long to answer; try again in a moment.",
  bad_image: "This file is not an image that the server can read; choose a JPEG, PNG or WebP.",
  too_large: "This photo is too large for the server; make it smaller and open it again.",
  nothing_found: "Nothing was found there; click the middle of the object, or paint over it with the brush.",
  image_not_found: "The photo is no longer on the server; open it again.",
  engine_failed: "The edit failed; try again, or mark a slightly different region.",
  card_lost: "The machine that worked on this edit had to stop; please try again.",
  engine_hung: "The edit failed; try again, or mark a slightly different region.",
  max_deliver: "The edit failed; try again, or mark a slightly different region.",
  unavailable: "A part of the service is not running; try again in a moment.",
  broker_unavailable: "A part of the service is not running; try again in a moment.",
  stopping: "The service is restarting; try again in a moment.",
};

export const EXPIRED = "This edit is unknown to the server or has expired; run it again.";

/** @type {Record<number, string>} */
const BY_STATUS = {
  401: "This studio requires a key; try again and enter it.",
  403: "Your key does not allow this; ask the operator of this studio for another key.",
  404: EXPIRED,
  409: "This edit is not finished yet; wait a moment and try again.",
  410: "This edit has no result; run it again.",
  413: "This photo is too large for the server; make it smaller and open it again.",
  415: "This file is not an image that the server can read; choose a JPEG, PNG or WebP.",
};

/**
 * @param {unknown} error
 * @returns {string}
 */
export function sentence(error) {
  if (error instanceof PlainError) return error.message;
  if (!(error instanceof ApiError)) return "Something went wrong in this page; reload it and try again.";
  if (error.status === 429 || error.code === "busy") return busy(error.retryAfterS);
  const known = BY_CODE[error.code] ?? BY_STATUS[error.status];
  if (known) return known;
  if (error.status === 422 && error.detail) return asSentence(error.detail);
  return "The server had a problem; try again in a moment.";
}

/**
 * Why a job ended without a result.
 * @param {{code: string, message: string} | null} error
 */
export function jobSentence(error) {
  const known = BY_CODE[error?.code ?? ""];
  if (known) return known;
  return error?.message ? `${asSentence(error.message).slice(0, -1)}; change that and run it again.` : sentence(null);
}

/** @param {number | null} seconds */
function busy(seconds) {
  const when = seconds ? `in ${seconds} ${seconds === 1 ? "second" : "seconds"}` : "in a moment";
  return `Everything is busy right now; try again ${when}.`;
}

/** @param {string} text */
function asSentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
