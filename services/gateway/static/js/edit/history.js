/** The edits made in this browser, newest first; they survive a reload, and other tabs see them. */

/**
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {import("../server/api.js").Status} Status
 * @typedef {{id: string, task: Task, status: Status | "expired", at: number, name: string, thumb: string,
 *   image: string, mask: string | null, reference: string | null, referenceMask: string | null}} Entry
 */

const PREFIX = "artmancer.edit."; // one key per edit, so tabs do not overwrite each other
const KEPT = 24; // at about 5 kB a thumbnail

/**
 * Whether an edit is still queued or running.
 * @param {Entry} entry
 */
export function isOpen(entry) {
  return entry.status === "queued" || entry.status === "running";
}

/** Fires `change`. If the browser blocks storage, the history lasts until the page is closed. */
export class History extends EventTarget {
  /** @type {readonly Entry[]} */
  entries = readAll();

  constructor() {
    super();
    addEventListener("storage", ({ key }) => {
      if (key === null || key.startsWith(PREFIX)) this.#show(readAll());
    });
  }

  /** @param {string} id */
  find(id) {
    return this.entries.find((entry) => entry.id === id);
  }

  /** @param {Entry} entry */
  add(entry) {
    write(entry);
    const entries = [entry, ...this.entries.filter(({ id }) => id !== entry.id)];
    for (const { id } of entries.slice(KEPT)) forget(id);
    this.#show(entries.slice(0, KEPT));
  }

  /**
   * @param {string} id
   * @param {Partial<Entry>} changes
   */
  update(id, changes) {
    const known = read(PREFIX + id) ?? this.find(id);
    if (!known) return;
    const entry = { ...known, ...changes };
    write(entry);
    this.#show(this.entries.map((other) => (other.id === id ? entry : other)));
  }

  /** Remove all ended edits. */
  clear() {
    for (const { id } of this.entries.filter((entry) => !isOpen(entry))) forget(id);
    this.#show(this.entries.filter(isOpen));
  }

  /** @param {Entry[]} entries */
  #show(entries) {
    this.entries = entries;
    this.dispatchEvent(new Event("change"));
  }
}

/** @returns {Entry[]} */
function readAll() {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
    return keys.flatMap((key) => read(key) ?? []).sort((one, other) => other.at - one.at);
  } catch {
    return []; // storage is blocked
  }
}

/**
 * @param {string} key
 * @returns {Entry | null}
 */
function read(key) {
  try {
    const entry = JSON.parse(localStorage.getItem(key) ?? "null");
    return typeof entry?.id === "string" ? entry : null;
  } catch {
    return null;
  }
}

/** @param {Entry} entry */
function write(entry) {
  try {
    localStorage.setItem(PREFIX + entry.id, JSON.stringify(entry));
  } catch {
    // storage is blocked or full: see History
  }
}

/** @param {string} id */
function forget(id) {
  try {
    localStorage.removeItem(PREFIX + id);
  } catch {
    // storage is blocked: there is nothing to remove
  }
}
