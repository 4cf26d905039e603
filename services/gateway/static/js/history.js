/** The edits made in this browser, newest first; they survive a reload, and other tabs see them. */

/**
 * @typedef {import("./api.js").Task} Task
 * @typedef {import("./api.js").Status} Status
 * @typedef {{id: string, task: Task, status: Status | "expired", at: number, name: string, thumb: string,
 *   image: string, mask: string | null, reference: string | null, referenceMask: string | null}} Entry
 */

const KEY = "artmancer.edits";
const KEPT = 24; // at about 5 kB a thumbnail

/**
 * Whether an edit may still change by itself.
 * @param {Entry} entry
 */
export function isOpen(entry) {
  return entry.status === "queued" || entry.status === "running";
}

/** Fires `change`. Where the browser blocks storage, it lasts as long as the page. */
export class History extends EventTarget {
  /** @type {readonly Entry[]} */
  entries = read();

  constructor() {
    super();
    addEventListener("storage", (event) => {
      if (event.key !== KEY) return;
      this.entries = read();
      this.dispatchEvent(new Event("change"));
    });
  }

  /** @param {string} id */
  find(id) {
    return this.entries.find((entry) => entry.id === id);
  }

  /** @param {Entry} entry */
  add(entry) {
    const others = read().filter(({ id }) => id !== entry.id);
    this.#keep([entry, ...others].slice(0, KEPT));
  }

  /**
   * @param {string} id
   * @param {Partial<Entry>} changes
   */
  update(id, changes) {
    this.#keep(this.entries.map((entry) => (entry.id === id ? { ...entry, ...changes } : entry)));
  }

  /** Forget all that have ended. */
  clear() {
    this.#keep(this.entries.filter(isOpen));
  }

  /** @param {Entry[]} entries */
  #keep(entries) {
    this.entries = entries;
    while (entries.length && !write(entries)) entries = entries.slice(0, -1);
    if (!entries.length) write(entries);
    this.dispatchEvent(new Event("change"));
  }
}

/** @returns {Entry[]} */
function read() {
  try {
    const stored = JSON.parse(localStorage.getItem(KEY) ?? "[]");
    return Array.isArray(stored) ? stored.filter((entry) => typeof entry?.id === "string") : [];
  } catch {
    return [];
  }
}

/** @param {Entry[]} entries */
function write(entries) {
  try {
    localStorage.setItem(KEY, JSON.stringify(entries));
    return true;
  } catch {
    return false;
  }
}
