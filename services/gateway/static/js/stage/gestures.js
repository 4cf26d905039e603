/** Pointer input: one finger uses the tool, two fingers or the wheel zoom, Space or the wheel button moves. */

/**
 * @typedef {import("./stage.js").Stage} Stage
 * @typedef {import("../marking/tools.js").Tool} Tool
 */

const WHEEL_STEP = 0.0015;

/** Passes the pointer events of a stage to its tool. */
export class Gestures {
  /** Where the pointer is, in pixels of the photo.
   * @type {[number, number] | null} */
  hover = null;
  /** While Space is held, the pointer moves the photo. */
  moving = false;
  /** @type {Map<number, [number, number]>} */
  #fingers = new Map();
  #panning = false;

  /**
   * @param {Stage} stage
   * @param {() => Tool | null} tool  none: nothing can be marked now
   */
  constructor(stage, tool) {
    this.stage = stage;
    this.tool = tool;
    const { canvas } = stage;
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#cancel(event));
    canvas.addEventListener("pointerleave", () => this.#leave());
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  /** @param {PointerEvent} event */
  #down(event) {
    this.stage.canvas.setPointerCapture(event.pointerId);
    this.#fingers.set(event.pointerId, this.stage.place(event));
    if (this.#fingers.size === 2) this.tool()?.cancel();
    this.#panning = this.#fingers.size > 1 || event.button === 1 || this.moving;
    if (this.#panning) event.preventDefault();
    else if (event.button === 0) this.tool()?.down(this.#touch(event));
    this.stage.repaint();
  }

  /** @param {PointerEvent} event */
  #move(event) {
    const place = this.stage.place(event);
    this.hover = event.pointerType === "touch" ? null : this.stage.view.toPhoto(...place);
    const before = this.#fingers.get(event.pointerId);
    if (before && this.#panning) this.#pan(event.pointerId, before, place);
    else if (before) for (const part of coalesced(event)) this.tool()?.move(this.#touch(part));
    this.stage.repaint();
  }

  /** @param {PointerEvent} event */
  #up(event) {
    const known = this.#fingers.delete(event.pointerId);
    if (known && !this.#panning && event.button === 0) this.tool()?.up(this.#touch(event));
    if (this.#fingers.size === 0) this.#panning = false;
    this.stage.repaint();
  }

  /** @param {PointerEvent} event */
  #cancel(event) {
    this.#fingers.delete(event.pointerId);
    if (this.#fingers.size === 0) this.#panning = false;
    this.tool()?.cancel();
    this.stage.repaint();
  }

  #leave() {
    this.hover = null;
    this.stage.repaint();
  }

  /**
   * Move with one finger; with two fingers also zoom by the change of their distance.
   * @param {number} id
   * @param {[number, number]} before
   * @param {[number, number]} now
   */
  #pan(id, before, now) {
    const { view } = this.stage;
    const other = [...this.#fingers].find(([finger]) => finger !== id)?.[1];
    if (other) {
      const apart = Math.hypot(now[0] - other[0], now[1] - other[1]);
      const apartBefore = Math.hypot(before[0] - other[0], before[1] - other[1]);
      view.zoomAt(apart / Math.max(1, apartBefore), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
    }
    const share = other ? 0.5 : 1;
    view.pan((now[0] - before[0]) * share, (now[1] - before[1]) * share);
    this.#fingers.set(id, now);
    this.stage.moved();
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    event.preventDefault();
    this.stage.view.zoomAt(Math.exp(-event.deltaY * WHEEL_STEP), ...this.stage.place(event));
    this.stage.moved();
  }

  /** @param {PointerEvent} event */
  #touch(event) {
    const { view } = this.stage;
    return { point: view.toPhoto(...this.stage.place(event)), scale: view.scale, opposite: event.altKey };
  }
}

/** @param {PointerEvent} event */
function coalesced(event) {
  const parts = event.getCoalescedEvents?.() ?? [];
  return parts.length ? parts : [event];
}
