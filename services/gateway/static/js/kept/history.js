/** The versions of the photos that were edited in this browser; they survive a reload, and other tabs see them. */

import { access, keyId } from "../page/access.js";

/**
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {import("../server/api.js").Status} Status
 * @typedef {import("../edit/settings.js").Chosen} Chosen
 * @typedef {import("./store.js").Store} Store
 * @typedef {{id: string, owner: string, name: string, at: number, thumb: string, blob: Blob, sha256: string,
 *   waits?: boolean}} Roll  a photo as it was opened; `sha256` is empty until it is known; `waits`: it is in the strip also
 *   before its first edit
 * @typedef {object} Entry  a version of a photo: one edit
 * @property {string} id  the id of its job; a cut-out has no job and gets a random id
 * @property {string} roll  of which photo
 * @property {string | null} parent  the version that was edited; nothing: the photo as it was opened
 * @property {number} number  1 for the first version of the photo
 * @property {string} owner
 * @property {Task} task
 * @property {Status | "expired"} status
 * @property {number} at
 * @property {string} name
 * @property {string} thumb
 * @property {string} image
 * @property {string | null} mask
 * @property {string | null} reference
 * @property {string | null} referenceMask
 * @property {Chosen} settings
 * @property {string | null} engine
 * @property {string | null} result  the hash of its result
 * @property {boolean} quick  made by the release of the brush
 */

const KEPT = 200;
const UNUSED_MS = 24 * 3600 * 1000;
const OLD_PREFIX = "artmancer.edit."; // entries of earlier releases

/**
 * Whether an edit is still queued or running.
 * @param {Entry} entry
 */
export function isOpen(entry) {
  return entry.status === "queued" || entry.status === "running";
}

/** Fires `change`, and `trimmed` (detail: their number) when old versions are removed. */
export class History extends EventTarget {
  /** Newest first, of the present key only.
   * @type {readonly Entry[]} */
  entries = [];
  /** @type {ReadonlyMap<string, Roll>} */
  rolls = new Map();
  #channel = typeof BroadcastChannel === "undefined" ? null : new BroadcastChannel("artmancer.history");
  #owner = keyId();
  /** The photos that were opened since the page was loaded.
   * @type {Set<string>} */
  #opened = new Set();
  #changes = 0; // their number shows whether a reading is out of date

  /** @param {Store} store */
  constructor(store) {
    super();
    this.store = store;
    /** Resolves when the versions are read. */
    this.ready = this.#adoptOld().then(() => this.#readAll());
    this.#channel?.addEventListener("message", () => this.#readAll());
    access.addEventListener("key", () => this.#changeOwner());
  }

  /** @param {string | null} id */
  find(id) {
    return this.entries.find((entry) => entry.id === id);
  }

  /**
   * The versions of a photo in the order in which they were made.
   * @param {string} roll
   */
  versionsOf(roll) {
    return this.entries.filter((entry) => entry.roll === roll).sort((one, other) => one.at - other.at);
  }

  /**
   * Keep a photo that was opened.
   * @param {Omit<Roll, "owner">} roll
   * @returns {Roll}
   */
  addRoll(roll) {
    const owned = { ...roll, owner: this.#owner };
    this.#opened.add(roll.id);
    this.#keepRoll(owned);
    return owned;
  }

  /**
   * Note the hash of a photo. The same bytes, opened again, are the same photo.
   * @param {Roll} roll
   * @param {string} sha256
   * @returns {Roll} the one to use from now on
   */
  identify(roll, sha256) {
    const known = [...this.rolls.values()].find((other) => other.sha256 === sha256);
    const kept = known ?? { ...roll, sha256 };
    if (known && known.id !== roll.id) this.#dropRoll(roll.id);
    else this.#keepRoll(kept);
    return kept;
  }

  /**
   * @param {Omit<Entry, "owner" | "number">} entry  a new version of a photo
   * @returns {Entry}
   */
  add(entry) {
    const number = 1 + Math.max(0, ...this.versionsOf(entry.roll).map((version) => version.number));
    // A clock may be set back: the history would then remove the new version as the oldest one.
    const at = Math.max(entry.at, 1 + (this.entries[0]?.at ?? 0));
    const added = { ...entry, at, number, owner: this.#owner };
    const entries = [added, ...this.entries.filter(({ id }) => id !== entry.id)];
    this.#save(added);
    const over = entries.slice(KEPT);
    for (const { id } of over) this.store.remove("versions", id);
    this.#show(entries.slice(0, KEPT));
    if (over.length) this.dispatchEvent(new CustomEvent("trimmed", { detail: over.length }));
    return added;
  }

  /**
   * @param {string} id
   * @param {Partial<Entry>} changes
   */
  update(id, changes) {
    const known = this.find(id);
    if (!known) return;
    const entry = { ...known, ...changes };
    this.#show(this.entries.map((other) => (other.id === id ? entry : other)));
    this.#save(entry);
  }

  /**
   * Remove all ended versions. Returns them, for `bringBack`.
   * @returns {Entry[]}
   */
  clear() {
    const removed = this.entries.filter((entry) => !isOpen(entry));
    this.#changes++;
    for (const roll of this.rolls.values()) if (roll.waits) this.#keepRoll({ ...roll, waits: false });
    for (const { id } of removed) this.store.remove("versions", id).then(() => this.#notifyTabs());
    this.#show(this.entries.filter(isOpen));
    return removed;
  }

  /** @param {Entry[]} removed */
  bringBack(removed) {
    for (const entry of removed) this.#save(entry);
    this.#show([...this.entries, ...removed].sort((one, other) => other.at - one.at));
  }

  /** Forget photos that were opened long ago and never edited. */
  dropUnused() {
    const used = new Set(this.entries.map(({ roll }) => roll));
    for (const { id, at } of this.rolls.values()) {
      if (!used.has(id) && !this.#opened.has(id) && Math.abs(Date.now() - at) > UNUSED_MS) this.#dropRoll(id);
    }
  }

  /** @param {Roll} roll */
  #keepRoll(roll) {
    this.#changes++;
    this.rolls = new Map(this.rolls).set(roll.id, roll);
    this.dispatchEvent(new Event("change"));
    this.store.put("photos", roll.id, roll);
  }

  /** @param {string} id */
  #dropRoll(id) {
    this.#changes++;
    this.rolls = new Map([...this.rolls].filter(([other]) => other !== id));
    this.store.remove("photos", id);
  }

  async #readAll() {
    const changes = this.#changes;
    const [versions, rolls] = await Promise.all([this.store.all("versions"), this.store.all("photos")]);
    if (changes !== this.#changes) return this.#readAll(); // a change made them out of date
    const mine = (/** @type {{owner: string}} */ { owner }) => owner === this.#owner;
    this.rolls = new Map(rolls.filter(mine).map((roll) => [roll.id, roll]));
    this.#show(versions.filter(mine).sort((one, other) => other.at - one.at));
  }

  /** Another key is another person. But photos opened before the first key of this page belong to that key. */
  async #changeOwner() {
    const before = this.#owner;
    this.#owner = keyId();
    if (!before) {
      const opened = [...this.rolls.values()].filter(({ id }) => this.#opened.has(id));
      const taken = opened.map((roll) => ({ ...roll, owner: this.#owner }));
      await Promise.all(taken.map((roll) => this.store.put("photos", roll.id, roll)));
    }
    await this.#readAll();
  }

  /** Entries of an earlier release, each a photo of its own. */
  async #adoptOld() {
    try {
      for (const key of Object.keys(localStorage).filter((name) => name.startsWith(OLD_PREFIX))) {
        const old = JSON.parse(localStorage.getItem(key) ?? "null");
        const more = {
          roll: old.id,
          parent: null,
          number: 1,
          owner: "",
          settings: {},
          engine: null,
          result: null,
          quick: false,
        };
        await this.store.put("versions", old.id, { ...more, ...old });
        localStorage.removeItem(key);
      }
    } catch {
      // storage is blocked, or an entry is damaged: there is nothing to take over
    }
  }

  /** @param {Entry} entry */
  #save(entry) {
    this.#changes++;
    this.store.put("versions", entry.id, entry).then(() => this.#notifyTabs());
  }

  #notifyTabs() {
    this.#channel?.postMessage("");
  }

  /** @param {Entry[]} entries */
  #show(entries) {
    this.entries = entries;
    this.dispatchEvent(new Event("change"));
  }
}
