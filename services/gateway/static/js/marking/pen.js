/** Draws lines into a mask by hand. A line is shown while it grows and becomes one undo step at its end. */

/**
 * @typedef {import("./mask.js").Line} Line
 * @typedef {import("./mask.js").Mask} Mask
 * @typedef {import("./mask.js").Point} Point
 * @typedef {import("./raster.js").Raster} Raster
 */

/** Paints, or erases. */
export class Pen {
  /** @type {Line | null} */
  #line = null;

  /**
   * @param {Mask} mask
   * @param {() => Raster | null} raster
   * @param {boolean} erase
   * @param {() => void} done  after the first line on an empty mask
   */
  constructor(mask, raster, erase, done) {
    this.mask = mask;
    this.raster = raster;
    this.erase = erase;
    this.done = done;
  }

  /**
   * @param {Point} point
   * @param {number} radius
   */
  begin(point, radius) {
    this.#line = { kind: "line", points: [point], radius, erase: this.erase };
    this.#draw(this.#line);
  }

  /** @param {Point} point */
  extend(point) {
    this.#line?.points.push(point);
    if (this.#line) this.#draw(this.#line);
  }

  end() {
    const line = this.#line;
    this.#line = null;
    if (!line) return;
    const isFirst = this.mask.isBlank && !this.erase;
    this.mask.mark(line);
    if (isFirst) this.done();
  }

  /** Cancel the current line. */
  drop() {
    this.#line = null;
    this.raster()?.render(this.mask.state);
  }

  /** @param {Line} line */
  #draw(line) {
    this.raster()?.extend(line, this.mask.state.grow);
  }
}
