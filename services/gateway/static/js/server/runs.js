/** The open jobs of this browser: starts them, follows them and resumes them after a reload. */

import { submitJob } from "./api.js";
import { isOpen } from "../kept/history.js";
import { Job } from "./job.js";

/**
 * @typedef {import("../kept/history.js").Entry} Entry
 * @typedef {import("../kept/history.js").History} History
 */

const FOLLOWED = 2; // with HTTP/1.1 all tabs share six connections to a server, and requests need some

/** Fires `change`, `preview`, `connection` and `end` for every job; the detail has the job. */
export class Runs extends EventTarget {
  /** @type {Map<string, Job>} */
  #jobs = new Map();
  #lastTry = { submission: "", key: "" };

  /** @param {History} history */
  constructor(history) {
    super();
    this.history = history;
  }

  /** @param {string} id */
  find(id) {
    return this.#jobs.get(id) ?? null;
  }

  /**
   * Start a job. The same submission, sent again after a lost response, is the same job.
   * @param {object} submission
   * @param {Omit<Entry, "id" | "status" | "at" | "engine" | "result" | "owner" | "number">} facts
   */
  async start(submission, facts) {
    const text = JSON.stringify(submission);
    if (this.#lastTry.submission !== text) this.#lastTry = { submission: text, key: randomKey() };
    const { id, links } = await submitJob(submission, this.#lastTry.key);
    this.#lastTry = { submission: "", key: "" };
    this.history.add({ ...facts, id, status: "queued", engine: null, result: null, at: Date.now() });
    return this.follow(id, links.events);
  }

  /**
   * Start a job of a submission. The server must have its images.
   * @param {Record<string, unknown>} submission
   * @param {{roll: string, parent: string | null, name: string, thumb: string, quick: boolean}} facts
   */
  begin(submission, facts) {
    const {
      image,
      mask,
      reference,
      reference_mask: referenceMask,
      task,
      class: _,
      mask_tool: __,
      ...settings
    } = submission;
    return this.start(submission, {
      ...facts,
      task: /** @type {Entry["task"]} */ (task),
      image: String(image),
      mask: text(mask),
      reference: text(reference),
      referenceMask: text(referenceMask),
      settings: /** @type {Entry["settings"]} */ (settings),
    });
  }

  /** Follow the jobs that were open when the page was closed, up to the limit. */
  resume() {
    for (const { id } of this.history.entries.filter(isOpen)) {
      if (this.#jobs.size < FOLLOWED && !this.#jobs.has(id)) this.follow(id);
    }
  }

  /**
   * Follow a job. Above the limit the job that was used least recently is paused until `resume`.
   * @param {string} id
   * @param {string} [events]  the link to its events, if the server has just sent it
   */
  follow(id, events) {
    const job = this.#jobs.get(id) ?? this.#begin(id, events);
    this.#jobs.delete(id);
    this.#jobs.set(id, job);
    for (const [oldest, other] of [...this.#jobs].slice(0, -FOLLOWED)) {
      other.leave();
      this.#jobs.delete(oldest);
    }
    return job;
  }

  /**
   * @param {string} id
   * @param {string} [events]
   */
  #begin(id, events) {
    const job = new Job(id, events);
    job.addEventListener("change", () => this.#record(job));
    job.addEventListener("end", () => this.#remove(job));
    for (const name of ["preview", "connection"]) {
      job.addEventListener(name, (event) => {
        const { detail } = /** @type {CustomEvent} */ (event);
        this.dispatchEvent(new CustomEvent(name, { detail: { job, value: detail } }));
      });
    }
    job.follow();
    return job;
  }

  /** @param {Job} job */
  #record(job) {
    const { status, engine, result } = job.standing;
    const known = this.history.find(job.id);
    if (known && known.status !== status) {
      this.history.update(job.id, { status, engine: engine ?? known.engine, result: result ?? known.result });
    }
    this.dispatchEvent(new CustomEvent("change", { detail: { job } }));
  }

  /** @param {Job} job */
  #remove(job) {
    this.#jobs.delete(job.id);
    this.dispatchEvent(new CustomEvent("end", { detail: { job } }));
    this.resume();
  }
}

/** A random key. Also works on pages without HTTPS, where crypto.randomUUID is missing. */
export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @param {unknown} value */
function text(value) {
  return typeof value === "string" ? value : null;
}
