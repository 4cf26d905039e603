/** Keeps the content of this tab's stage after every change, so that a reload shows it again. */

import { Candidate } from "../marking/candidate.js";
import { NOTHING } from "../marking/mask.js";
import { randomKey } from "../server/runs.js";

/**
 * @typedef {import("./store.js").Store} Store
 * @typedef {import("../edit/settings.js").Chosen} Chosen
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {import("../marking/mask.js").MaskState} MaskState
 * @typedef {import("../marking/mask.js").Steps} Steps
 * @typedef {import("../photo/photo.js").Photo} Photo
 * @typedef {Omit<MaskState, "candidates"> & {candidates: string[]}} StoredState
 * @typedef {{state: StoredState, past: StoredState[], future: StoredState[]}} StoredSteps
 * @typedef {object} Layout
 * @property {string | null} roll
 * @property {string | null} at
 * @property {string[]} ahead
 * @property {string | null} shown  the edit of which the result is on the stage
 * @property {Task} task
 * @property {Chosen} settings
 * @property {StoredSteps} mask
 * @property {{blob: Blob, name: string, mask: StoredSteps} | null} reference
 * @property {number} savedAt
 */

const TAB = "artmancer.tab";
const PLACE = "artmancer.place";
/** @type {StoredSteps} */
const EMPTY = { state: { ...NOTHING, candidates: [] }, past: [], future: [] };
const STEPS_KEPT = 20;
const PAUSE_MS = 250;
const WEEK_MS = 7 * 24 * 3600 * 1000;

/** Saves a moment after `touch`, and at once when the page is left. */
export class Desk {
  #tab = tabName();
  #timer = 0;
  #isOn = false;

  /**
   * @param {Store} store
   * @param {() => Layout | null} layout
   */
  constructor(store, layout) {
    this.store = store;
    this.layout = layout;
    addEventListener("pagehide", () => this.#timer && this.#save());
    document.addEventListener("visibilitychange", () => document.hidden && this.#timer && this.#save());
  }

  /**
   * The content of this tab's stage before the reload.
   * @returns {Promise<Layout | null>}
   */
  async read() {
    /** @type {Layout | undefined} */
    const stored = await this.store.get("desks", this.#tab);
    this.#isOn = true;
    this.#dropOld();
    const place = readPlace();
    if (!stored || !place) return stored ?? null;
    const isSame = stored.roll === place.roll && stored.at === place.at;
    return isSame ? { ...stored, ...place } : { ...stored, ...place, mask: EMPTY, ahead: [] };
  }

  touch() {
    if (!this.#isOn) return;
    const layout = this.layout();
    // Save the place at once, not only with the rest: the person may leave the page before the database has written.
    if (layout) keepPlace({ roll: layout.roll, at: layout.at, shown: layout.shown, task: layout.task });
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#save(), PAUSE_MS);
  }

  #save() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const layout = this.layout();
    if (layout) this.store.put("desks", this.#tab, { ...layout, tab: this.#tab, savedAt: Date.now() });
  }

  async #dropOld() {
    for (const { tab, savedAt } of await this.store.all("desks")) {
      if (Math.abs(Date.now() - savedAt) > WEEK_MS) this.store.remove("desks", tab); // abs: a clock may be set back
    }
  }
}

/**
 * @param {Steps} steps
 * @returns {StoredSteps}
 */
export function storedSteps({ state, past, future }) {
  const stored = (/** @type {MaskState} */ each) => ({
    ...each,
    candidates: each.candidates.map(({ sha256 }) => sha256),
  });
  return { state: stored(state), past: past.slice(-STEPS_KEPT).map(stored), future: future.map(stored) };
}

/**
 * Read the steps of a mask again. A found mask that no longer exists is left out. Drawn marks stay.
 * @param {StoredSteps} steps
 * @param {Photo} photo
 * @param {(sha256: string) => Promise<Blob>} read
 * @returns {Promise<Steps>}
 */
export async function revivedSteps({ state, past, future }, photo, read) {
  /** @type {Map<string, Candidate>} */
  const found = new Map();
  for (const each of [state, ...past, ...future]) {
    for (const sha256 of each.candidates) {
      if (!found.has(sha256)) found.set(sha256, new Candidate(sha256, photo.preview, read));
    }
  }
  await Promise.allSettled([...found.values()].map((candidate) => candidate.load()));
  const revived = (/** @type {StoredState} */ each) => {
    const candidates = each.candidates.flatMap((sha256) => found.get(sha256) ?? []).filter(({ preview }) => preview);
    return { ...each, candidates, chosen: Math.min(each.chosen, Math.max(0, candidates.length - 1)) };
  };
  return { state: revived(state), past: past.map(revived), future: future.map(revived) };
}

/** @typedef {Pick<Layout, "roll" | "at" | "shown" | "task">} Place */

/** @param {Place} place */
function keepPlace(place) {
  try {
    sessionStorage.setItem(PLACE, JSON.stringify(place));
  } catch {
    // storage is blocked
  }
}

/** @returns {Place | null} */
function readPlace() {
  try {
    return JSON.parse(sessionStorage.getItem(PLACE) ?? "null");
  } catch {
    return null; // storage is blocked
  }
}

/** A name that a tab keeps when it is loaded again. */
function tabName() {
  try {
    const known = sessionStorage.getItem(TAB) ?? randomKey();
    sessionStorage.setItem(TAB, known);
    return known;
  } catch {
    return randomKey(); // storage is blocked
  }
}
