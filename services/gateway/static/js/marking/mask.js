/**
 * A mask as steps that can be undone: the mask found by the server, and areas added or removed by hand.
 * States are immutable; every change creates a new one.
 */

/**
 * @typedef {[number, number]} Point  pixels of the upright photo
 * @typedef {{x: number, y: number, positive: boolean}} Click
 * @typedef {[number, number, number, number]} Box  x0, y0, x1, y1
 * @typedef {{kind: "line", points: Point[], radius: number, erase: boolean}} Line
 * @typedef {{kind: "rectangle", box: Box}} Rectangle
 * @typedef {import("./candidate.js").Candidate} Candidate
 * @typedef {{clicks: readonly Click[], box: Box | null, candidates: readonly Candidate[], chosen: number,
 *   marks: readonly (Line | Rectangle)[], grow: number}} MaskState  grow: pixels of the photo, negative shrinks
 * @typedef {{state: MaskState, past: readonly MaskState[], future: readonly MaskState[]}} Steps  the whole mask
 */

/** @type {MaskState} */
export const NOTHING = Object.freeze({ clicks: [], box: null, candidates: [], chosen: 0, marks: [], grow: 0 });
const REMEMBERED = 100;

/** A mask with undo and redo. Fires `change`, and before it `step` if the change can be undone. */
export class Mask extends EventTarget {
  /** @type {MaskState} */
  state = NOTHING;
  /** @type {MaskState[]} */
  #past = [];
  /** @type {MaskState[]} */
  #future = [];
  /** The kind of the last step. */
  #kind = "";

  get canUndo() {
    return this.#past.length > 0;
  }

  get canRedo() {
    return this.#future.length > 0;
  }

  /** Whether nothing was ever marked. A mask that was erased by hand does not count as empty. */
  get isBlank() {
    return !this.found && this.state.marks.length === 0;
  }

  /** The chosen mask among those found by the server. */
  get found() {
    return this.state.candidates[this.state.chosen] ?? null;
  }

  /** Whether the mask is exactly one found by the server, which needs no upload. */
  get isAsFound() {
    return this.found !== null && this.state.marks.length === 0 && this.state.grow === 0;
  }

  /** Everything that `restore` needs. */
  get steps() {
    return { state: this.state, past: [...this.#past], future: [...this.#future] };
  }

  /**
   * Show another mask, with its own steps.
   * @param {Partial<Steps> & {state: MaskState}} steps  without a past, undo leads to the empty mask
   */
  restore({ state, past = [NOTHING], future = [] }) {
    this.#kind = "";
    this.#past = [...past];
    this.#future = [...future];
    this.#show(state);
  }

  /**
   * Add a step that can be undone. Steps of the same kind in a row are undone together.
   * @param {Partial<MaskState>} changes
   * @param {string} [kind]
   */
  commit(changes, kind = "") {
    if (!kind || kind !== this.#kind) this.#past.push(this.state);
    this.#kind = kind;
    if (this.#past.length > REMEMBERED) this.#past.shift();
    this.#future = [];
    this.dispatchEvent(new Event("step"));
    this.#show({ ...this.state, ...changes });
  }

  /** @param {Line | Rectangle} mark */
  mark(mark) {
    this.commit({ marks: [...this.state.marks, mark] });
  }

  /**
   * Add candidates without an undo step. They are ignored if the candidates have changed meanwhile.
   * @param {readonly Candidate[]} known
   * @param {readonly Candidate[]} candidates
   */
  offer(known, candidates) {
    if (this.state.candidates === known) this.#show({ ...this.state, candidates });
  }

  undo() {
    const before = this.#past.pop();
    if (!before) return;
    this.#kind = "";
    this.#future.push(this.state);
    this.#show(before);
  }

  redo() {
    const after = this.#future.pop();
    if (!after) return;
    this.#kind = "";
    this.#past.push(this.state);
    this.#show(after);
  }

  clear() {
    if (this.state !== NOTHING) this.commit(NOTHING);
  }

  /** Reset for another photo. */
  reset() {
    this.#kind = "";
    this.#past = [];
    this.#future = [];
    this.#show(NOTHING);
  }

  /** @param {MaskState} state */
  #show(state) {
    this.state = state;
    this.dispatchEvent(new Event("change"));
  }
}
