/** The progress card of the running job. */

import { byId, inside } from "../page/dom.js";
import { language, t } from "../page/texts.js";
import { mayAsk, showInTitle } from "../page/title.js";
import { WORDS } from "./tasks.js";

/**
 * @typedef {import("../server/job.js").Standing} Standing
 * @typedef {import("../server/api.js").Task} Task
 */

const ANNOUNCED_EVERY = 0.25;
const MOST_PERCENT = 99; // before the result is there
const OVERDUE_MS = -4000; // an estimate that is exceeded by more than this was wrong

/** Shows one job at a time. */
export class Progress {
  #card = byId("progress", HTMLElement);
  #title = byId("progress-title", HTMLElement);
  #left = byId("progress-left", HTMLElement);
  #step = byId("progress-step", HTMLElement);
  #track = byId("track", HTMLElement);
  #bar = inside(this.#track, "span", HTMLElement);
  #notify = byId("notify", HTMLButtonElement);
  #clock = 0;
  #announced = 0;
  /** @type {Standing | null} */
  #standing = null;

  /** @param {(text: string) => void} announce */
  constructor(announce) {
    this.announce = announce;
    this.#notify.addEventListener("click", async () => {
      await Notification.requestPermission();
      this.#notify.hidden = true;
    });
  }

  /**
   * @param {Standing} standing
   * @param {Task} task
   */
  show(standing, task) {
    const begins = this.#standing === null;
    this.#standing = standing;
    this.#card.hidden = false;
    this.#title.textContent = standing.status === "queued" ? t("Waiting") : WORDS[task].doing;
    this.#step.textContent = position(standing);
    const percent = Math.min(MOST_PERCENT, Math.round(standing.progress * 100));
    this.#track.setAttribute("aria-valuenow", String(percent));
    this.#track.setAttribute("aria-valuetext", t("{percent} percent. {step}", { percent, step: position(standing) }));
    this.#card.dataset.status = standing.status;
    showInTitle(`${percent} %`);
    this.#bar.style.transform = `scaleX(${percent / 100})`;
    this.#announceProgress(standing, begins);
    this.#showTimeLeft();
    this.#notify.hidden = !mayAsk();
    if (begins) this.#clock = setInterval(() => this.#showTimeLeft(), 1000);
  }

  /**
   * Show how much of the photo is sent.
   * @param {number} share  0 to 1
   * @param {number} bytes  of the whole photo
   * @param {boolean} isWaiting  for a lost connection
   */
  showSending(share, bytes, isWaiting) {
    const sent = t("{sent} of {all} MB", { sent: megabytes(share * bytes), all: megabytes(bytes) });
    const percent = Math.min(MOST_PERCENT, Math.round(share * 100));
    this.#card.hidden = false;
    this.#card.dataset.status = "sending";
    this.#title.textContent = isWaiting ? t("Waiting for the connection") : t("Sending the photo");
    this.#left.textContent = "";
    this.#step.textContent = sent;
    this.#bar.style.transform = `scaleX(${share})`;
    this.#track.setAttribute("aria-valuenow", String(percent));
    this.#track.setAttribute("aria-valuetext", t("{percent} percent. {step}", { percent, step: sent }));
  }

  hide() {
    this.#card.hidden = true;
    showInTitle("");
    this.#standing = null;
    this.#announced = 0;
    clearInterval(this.#clock);
  }

  #showTimeLeft() {
    const ends = this.#standing?.endsAt;
    this.#left.textContent = ends ? timeLeft(ends - Date.now()) : "";
  }

  /**
   * Announce the start and every quarter: an announcement of every step would disturb.
   * @param {Standing} standing
   * @param {boolean} begins
   */
  #announceProgress(standing, begins) {
    const part = Math.floor(standing.progress / ANNOUNCED_EVERY);
    if (begins || part > this.#announced) this.announce(`${this.#title.textContent}. ${position(standing)}`);
    this.#announced = part;
  }
}

/**
 * The text for the present step: the message of the engine, if there is one.
 * @param {Standing} standing
 */
function position({ status, ahead, step, totalSteps, message }) {
  if (status === "queued") return message ?? place(ahead);
  if (message) return t(message);
  return step !== null && totalSteps ? t("Step {step} of {count}", { step, count: totalSteps }) : t("Getting ready");
}

/** @param {number | null} ahead  edits before this one */
function place(ahead) {
  if (ahead === null) return t("Waiting for a worker");
  if (ahead === 0) return t("Next in the queue");
  return ahead === 1 ? t("1 edit before yours") : t("{count} edits before yours", { count: ahead });
}

/** @param {number} ms */
function timeLeft(ms) {
  if (ms < OVERDUE_MS) return t("longer than expected");
  const seconds = Math.ceil(ms / 1000);
  if (seconds <= 1) return t("nearly done");
  return seconds < 90
    ? t("about {count} s left", { count: seconds })
    : t("about {count} min left", { count: Math.round(seconds / 60) });
}

/** @param {number} bytes */
function megabytes(bytes) {
  return (bytes / 1e6).toLocaleString(language, { maximumFractionDigits: 1 });
}
