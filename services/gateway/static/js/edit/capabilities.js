/**
 * The parameters that the running engines obey. Before the server answers, the page hides every setting that an engine
 * might ignore.
 */

import { access } from "../page/access.js";
import { readCapabilities } from "../server/api.js";

/**
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {import("../server/api.js").TaskCapability} TaskCapability
 */

const FRESH_MS = 30_000;
const QUICK_S = 10;

/** Fires `change`. While no worker answers, it keeps the engines of the last answer. */
export class Capabilities extends EventTarget {
  /** @type {Partial<Record<Task, TaskCapability>>} */
  #tasks = {};
  #readAt = -Infinity;

  constructor() {
    super();
    access.addEventListener("key", () => this.refresh(0));
    addEventListener("focus", () => this.refresh());
  }

  /** Whether a worker has answered. */
  get isKnown() {
    return Object.values(this.#tasks).some(({ engines }) => engines.length > 0);
  }

  /**
   * Whether an engine that serves the task obeys a parameter.
   * @param {Task} task
   * @param {string} parameter
   */
  obeys(task, parameter) {
    return this.#tasks[task]?.parameters.includes(parameter) ?? false;
  }

  /**
   * Whether an edit is fast enough to run by itself. Before the first measurement, an engine that takes steps is slow.
   * @param {Task} task
   */
  isQuick(task) {
    const known = this.#tasks[task];
    if (!known?.engines.length) return false;
    return known.typical_s === null ? !known.parameters.includes("steps") : known.typical_s <= QUICK_S;
  }

  /**
   * The media types that a result can be downloaded in.
   * @param {Task} task
   */
  formats(task) {
    return this.#tasks[task]?.formats ?? [];
  }

  /**
   * Read the capabilities again, unless the last reading is fresh.
   * @param {number} [fresh]  milliseconds
   */
  async refresh(fresh = FRESH_MS) {
    if (performance.now() - this.#readAt < fresh) return;
    this.#readAt = performance.now();
    try {
      const tasks = await readCapabilities();
      if (Object.values(tasks).some(({ engines }) => engines.length > 0)) this.#tasks = tasks;
      else this.#readAt = -Infinity; // the workers may only be starting
      this.dispatchEvent(new Event("change"));
    } catch {
      this.#readAt = -Infinity; // offline, without a key, or an older server: the next use asks again
    }
  }
}
