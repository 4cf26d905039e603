/** Error texts: one plain sentence with the cause and the next step. */

import { ApiError } from "../server/api.js";
import { t } from "./texts.js";

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
  offline: t("The server cannot be reached; check the connection and try again."),
  stopped: t("The upload was stopped; try again when you like."),
  timeout: t("The server took too long to answer; try again in a moment."),
  bad_image: t("This file is not an image that the server can read; choose a JPEG, PNG or WebP."),
  too_large: t("This photo is too large for the server; make it smaller and open it again."),
  nothing_found: t("Nothing was found there; click the middle of the object, or paint over it with the brush."),
  image_not_found: t("The photo is no longer on the server; open it again."),
  engine_failed: t("The edit failed; try again, or mark a slightly different region."),
  card_lost: t("The machine that worked on this edit had to stop; please try again."),
  engine_hung: t("The edit failed; try again, or mark a slightly different region."),
  max_deliver: t("The edit failed; try again, or mark a slightly different region."),
  unavailable: t("A part of the service is not running; try again in a moment."),
  broker_unavailable: t("A part of the service is not running; try again in a moment."),
  stopping: t("The service is restarting; try again in a moment."),
};

/** An edit that the server has forgotten. */
export function expirySentence() {
  return t("This edit is unknown to the server or has expired; run it again.");
}

/** Details that name fields of the API. */
const FOR_PROGRAMS = /\bfields?\b/i;

/** @type {Record<number, string>} */
const BY_STATUS = {
  401: t("This studio requires a key; try again and enter it."),
  403: t("Your key does not allow this; ask the operator of this studio for another key."),
  404: expirySentence(),
  409: t("This edit is not finished yet; wait a moment and try again."),
  410: t("This edit has no result; run it again."),
  413: t("This photo is too large for the server; make it smaller and open it again."),
  415: t("This file is not an image that the server can read; choose a JPEG, PNG or WebP."),
};

/**
 * @param {unknown} error
 * @returns {string}
 */
export function sentence(error) {
  if (error instanceof PlainError) return error.message;
  if (!(error instanceof ApiError)) return t("Something went wrong in this page; reload it and try again.");
  if (error.status === 429 || error.code === "busy") return busy(error.retryAfterS);
  const known = BY_CODE[error.code] ?? BY_STATUS[error.status];
  if (known) return known;
  if (error.status === 422 && FOR_PROGRAMS.test(error.detail)) {
    return t("The server cannot use this photo with this mask; mark a larger part, or take a larger photo.");
  }
  if (error.status === 422 && error.detail) return asSentence(error.detail);
  return t("The server had a problem; try again in a moment.");
}

/**
 * Why a job ended without a result.
 * @param {{code: string, message: string} | null} error
 */
export function jobSentence(error) {
  const known = BY_CODE[error?.code ?? ""];
  if (known) return known;
  return error?.message
    ? t("{reason}; change that and run it again.", { reason: asSentence(error.message).slice(0, -1) })
    : sentence(null);
}

/** @param {number | null} seconds */
function busy(seconds) {
  if (!seconds) return t("Everything is busy right now; try again in a moment.");
  if (seconds === 1) return t("Everything is busy right now; try again in 1 second.");
  return t("Everything is busy right now; try again in {seconds} seconds.", { seconds });
}

/** @param {string} text */
function asSentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}
