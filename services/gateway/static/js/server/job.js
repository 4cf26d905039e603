/** A job, updated by the server's events. After a lost connection the stream resumes after the last event. */

import { t } from "../page/texts.js";
import { ApiError, cancelJob, listen, readJob } from "./api.js";

/**
 * @typedef {import("./api.js").Status} Status
 * @typedef {import("./api.js").JobState} JobState
 * @typedef {object} Standing  how far a job is
 * @property {Status | "expired"} status
 * @property {number} progress  0 to 1
 * @property {number | null} step
 * @property {number | null} totalSteps
 * @property {string | null} message
 * @property {number | null} ahead  jobs that start before this one
 * @property {string | null} engine  that runs it
 * @property {string | null} result  the hash of its result
 * @property {number | null} endsAt  when it should be done, as Date.now()
 * @property {{code: string, message: string} | null} error
 */

const EVENTS = ["queued", "started", "returned", "progress", "preview", "done", "failed", "cancelled"];
const WAITS_MS = [0, 500, 1000, 2000, 4000, 8000, 15_000]; // between attempts to connect; the last wait repeats
const PACED_STEPS = 8; // with fewer steps, a single step can take nearly all the time
const RECHECK_MS = 40_000; // after this time without data the connection may be dead: check the job

/** Fires `change`, `preview`, `connection` (detail: whether it is connected) and `end`. */
export class Job extends EventTarget {
  /** @type {Standing} */
  standing = {
    status: "queued",
    progress: 0,
    step: null,
    totalSteps: null,
    message: null,
    ahead: null,
    engine: null,
    result: null,
    endsAt: null,
    error: null,
  };
  /** The last preview as a data URL, if the engine sends previews. */
  preview = "";
  /** @type {EventSource | null} */
  #source = null;
  #events = "";
  #lastEvent = "";
  #attempts = 0;
  #timer = 0;
  #startedAt = 0;
  #left = false;
  #online = () => this.reconnect();

  /**
   * @param {string} id
   * @param {string} [events]  the link to its events, if the server has just sent it
   */
  constructor(id, events = "") {
    super();
    this.id = id;
    this.#events = events;
  }

  get isOpen() {
    return this.standing.status === "queued" || this.standing.status === "running";
  }

  /** Follow the job until it has ended. */
  follow() {
    addEventListener("online", this.#online);
    if (this.#events) this.#connect();
    else this.#look();
  }

  /** Stop following. The job continues. */
  leave() {
    this.#left = true;
    removeEventListener("online", this.#online);
    clearTimeout(this.#timer);
    this.#source?.close();
  }

  /** Try to connect now instead of later. */
  reconnect() {
    clearTimeout(this.#timer);
    this.#look();
  }

  async cancel() {
    this.#adopt(await cancelJob(this.id));
  }

  #connect() {
    if (this.#left) return;
    this.#source?.close();
    const source = (this.#source = listen(this.#events, this.#lastEvent));
    for (const name of EVENTS) source.addEventListener(name, (event) => this.#take(name, event));
    source.onopen = () => this.#confirmConnection();
    source.onerror = () => this.#retryLater();
  }

  /** Use our own back-off: the browser stops without a notice after an error status. */
  #retryLater() {
    this.#source?.close();
    if (this.#left) return;
    const wait = WAITS_MS[Math.min(this.#attempts, WAITS_MS.length - 1)];
    if (this.#attempts++ > 0) this.dispatchEvent(new CustomEvent("connection", { detail: false }));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), wait);
  }

  #confirmConnection() {
    if (this.#attempts > 1) this.dispatchEvent(new CustomEvent("connection", { detail: true }));
    this.#watch();
  }

  /** Check the job after a time without data. */
  #watch() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#look(), RECHECK_MS);
  }

  /** Read the job's state, which also shows the cause of missing events; then reconnect. */
  async #look() {
    this.#source?.close();
    try {
      const state = await readJob(this.id);
      this.#events = state.links.events;
      this.#adopt(state);
      if (this.isOpen) this.#connect();
    } catch (error) {
      if (error instanceof ApiError && error.isGone) this.#change({ status: "expired" });
      else this.#retryLater();
    }
  }

  /**
   * @param {string} name
   * @param {MessageEvent<string>} event
   */
  #take(name, event) {
    this.#lastEvent = event.lastEventId || this.#lastEvent;
    this.#attempts = 0; // not earlier: a connection that breaks at once is a failed attempt
    this.#watch();
    const facts = JSON.parse(event.data);
    if (name === "preview") {
      this.preview = `data:image/jpeg;base64,${facts.jpeg_base64}`;
      this.dispatchEvent(new Event("preview"));
      return;
    }
    if (name === "started") this.#startedAt = facts.at;
    this.#change({
      status: facts.status,
      progress: facts.progress ?? this.standing.progress,
      step: facts.step ?? null,
      totalSteps: facts.total_steps ?? this.standing.totalSteps,
      message: messageOf(name, facts),
      ahead: facts.ahead ?? null,
      engine: facts.engine ?? this.standing.engine,
      result: facts.result?.sha256 ?? null,
      endsAt: this.#end(facts),
      error: name === "failed" ? { code: facts.code, message: facts.message } : null,
    });
  }

  /**
   * The expected end of the job: from the estimate of the server; else from the pace of the steps, if the job has many
   * similar ones; else the earlier estimate.
   * @param {{eta_ms?: number | null, step?: number | null, total_steps?: number | null, at?: number}} facts
   */
  #end({ eta_ms: left, step, total_steps: total, at }) {
    if (left != null) return Date.now() + left;
    if (!this.#startedAt || !at || !step || !total || step < 2 || total < PACED_STEPS) return this.standing.endsAt;
    return Date.now() + (1000 * (at - this.#startedAt) * (total - step)) / step;
  }

  /** @param {JobState} state */
  #adopt(state) {
    this.#change({
      status: state.status,
      progress: state.progress,
      step: state.step,
      totalSteps: state.total_steps,
      message: state.message,
      ahead: state.ahead,
      engine: state.engine ?? this.standing.engine,
      result: state.result?.sha256 ?? null,
      endsAt: state.eta_ms == null ? null : Date.now() + state.eta_ms,
      error: state.error,
    });
  }

  /** @param {Partial<Standing>} changes */
  #change(changes) {
    if (!this.isOpen || this.#left) return; // ignore a late response
    this.standing = { ...this.standing, ...changes };
    this.dispatchEvent(new Event("change"));
    if (this.isOpen) return;
    this.leave();
    this.dispatchEvent(new CustomEvent("connection", { detail: true }));
    this.dispatchEvent(new Event("end"));
  }
}

/**
 * The message of an event: the present work of the engine, or a fault of the worker.
 * @param {string} name  of the event
 * @param {{message?: string | null, reason?: string, attempt?: number}} facts
 */
function messageOf(name, { message = null, reason, attempt = 1 }) {
  if (name === "progress") return message;
  if (name === "returned" && reason === "stopping")
    return t("The machine is being restarted; your edit waits for the next one.");
  if (name === "returned") return t("The machine could not go on; your edit begins again.");
  return name === "started" && attempt > 1 ? t("Begun again, attempt {attempt}.", { attempt }) : null;
}

/**
 * Wait for the end of a job.
 * @param {Job} job
 * @returns {Promise<void>}
 */
export function waitForEnd(job) {
  if (!job.isOpen) return Promise.resolve();
  return new Promise((resolve) => job.addEventListener("end", () => resolve(), { once: true }));
}
