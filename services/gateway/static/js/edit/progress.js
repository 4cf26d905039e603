/** The progress card of the running job. */

import { byId, inside } from "../page/dom.js";
import { WORDS } from "./tasks.js";

/**
 * @typedef {import("../server/job.js").Standing} Standing
 * @typedef {import("../server/api.js").Task} Task
 */

const SPOKEN_EVERY = 0.25;
const OVERDUE_MS = -4000; // an estimate that is exceeded by more than this was wrong

/** Shows one job at a time. */
export class Progress {
  #card = byId("progress", HTMLElement);
  #title = byId("progress-title", HTMLElement);
  #left = byId("progress-left", HTMLElement);
  #step = byId("progress-step", HTMLElement);
  #track = byId("track", HTMLElement);
  #bar = inside(this.#track, "span", HTMLElement);
  #clock = 0;
  #spoken = 0;
  /** @type {Standing | null} */
  #standing = null;

  /** @param {(text: string) => void} say */
  constructor(say) {
    this.say = say;
  }

  /**
   * @param {Standing} standing
   * @param {Task} task
   */
  show(standing, task) {
    const begins = this.#standing === null;
    this.#standing = standing;
    this.#card.hidden = false;
    this.#title.textContent = standing.status === "queued" ? "Waiting" : WORDS[task].doing;
    this.#step.textContent = position(standing);
    const percent = Math.round(standing.progress * 100);
    this.#track.setAttribute("aria-valuenow", String(percent));
    this.#track.setAttribute("aria-valuetext", `${percent} percent. ${position(standing)}`);
    this.#card.dataset.status = standing.status;
    this.#bar.style.transform = `scaleX(${standing.progress})`;
    this.#speak(standing, begins);
    this.#tell();
    if (begins) this.#clock = setInterval(() => this.#tell(), 1000);
  }

  hide() {
    this.#card.hidden = true;
    this.#standing = null;
    this.#spoken = 0;
    clearInterval(this.#clock);
  }

  #tell() {
    const ends = this.#standing?.endsAt;
    this.#left.textContent = ends ? timeLeft(ends - Date.now()) : "";
  }

  /**
   * Announce the start and every quarter instead of every step.
   * @param {Standing} standing
   * @param {boolean} begins
   */
  #speak(standing, begins) {
    const part = Math.floor(standing.progress / SPOKEN_EVERY);
    if (begins || part > this.#spoken) this.say(`${this.#title.textContent}. ${position(standing)}`);
    this.#spoken = part;
  }
}

/** @param {Standing} standing */
function position({ status, ahead, step, totalSteps, message }) {
  if (status === "queued") {
    if (ahead === null) return "Waiting for a worker";
    return ahead === 0 ? "Next in the queue" : `${ahead} ${ahead === 1 ? "edit" : "edits"} before yours`;
  }
  if (step !== null && totalSteps) return `Step ${step} of ${totalSteps}`;
  return message ?? "Getting ready";
}

/** @param {number} ms */
function timeLeft(ms) {
  if (ms < OVERDUE_MS) return "longer than expected";
  const seconds = Math.ceil(ms / 1000);
  if (seconds <= 1) return "nearly done";
  return seconds < 90 ? `about ${seconds} s left` : `about ${Math.round(seconds / 60)} min left`;
}
