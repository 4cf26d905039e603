/** The photo's position in the stage: a scale and an offset, in CSS pixels. */

const MARGIN_PX = 24;
const MARGIN_PHONE_PX = 10;
const PHONE_PX = 600;
const MAX_ZOOM = 12; // times the size that fits

/** Maps between pixels of the photo and of the stage. */
export class View {
  scale = 1;
  x = 0;
  y = 0;
  #photo = { width: 1, height: 1 };
  #stage = { width: 1, height: 1 };
  #moved = false;

  /**
   * @param {number} width  of the photo
   * @param {number} height
   */
  setPhoto(width, height) {
    this.#photo = { width, height };
    this.fit();
  }

  /**
   * @param {number} width  of the stage
   * @param {number} height
   */
  setStage(width, height) {
    this.#stage = { width, height };
    if (this.#moved) this.#keepInSight();
    else this.fit();
  }

  /** Fit the whole photo into the stage. */
  fit() {
    this.#moved = false;
    this.scale = this.#fitting();
    this.x = (this.#stage.width - this.#photo.width * this.scale) / 2;
    this.y = (this.#stage.height - this.#photo.height * this.scale) / 2;
  }

  /** The zoom; at 1 the whole photo just fits. */
  get zoom() {
    return this.scale / this.#fitting();
  }

  /**
   * Zoom, keeping one point of the stage where it is.
   * @param {number} factor
   * @param {number} [x]
   * @param {number} [y]
   */
  zoomAt(factor, x = this.#stage.width / 2, y = this.#stage.height / 2) {
    const fitting = this.#fitting();
    const scale = Math.min(fitting * MAX_ZOOM, Math.max(fitting, this.scale * factor));
    const real = scale / this.scale;
    this.x = x - (x - this.x) * real;
    this.y = y - (y - this.y) * real;
    this.scale = scale;
    this.#moved = scale > fitting * 1.001;
    if (this.#moved) this.#keepInSight();
    else this.fit();
  }

  /**
   * @param {number} dx
   * @param {number} dy
   */
  pan(dx, dy) {
    if (!this.#moved) return;
    this.x += dx;
    this.y += dy;
    this.#keepInSight();
  }

  /**
   * @param {number} x  in the stage
   * @param {number} y
   * @returns {[number, number]} in the photo, not past its edges
   */
  toPhoto(x, y) {
    const { width, height } = this.#photo;
    const inside = (/** @type {number} */ value, /** @type {number} */ size) => Math.min(size - 1, Math.max(0, value));
    return [inside((x - this.x) / this.scale, width), inside((y - this.y) / this.scale, height)];
  }

  /**
   * @param {number} x  in the photo
   * @param {number} y
   * @returns {[number, number]} in the stage
   */
  toStage(x, y) {
    return [x * this.scale + this.x, y * this.scale + this.y];
  }

  /** The photo's rectangle in the stage. */
  get frame() {
    return { x: this.x, y: this.y, width: this.#photo.width * this.scale, height: this.#photo.height * this.scale };
  }

  #fitting() {
    const margin = this.#stage.width < PHONE_PX ? MARGIN_PHONE_PX : MARGIN_PX;
    const room = (/** @type {number} */ size) => Math.max(1, size - 2 * margin);
    return Math.min(room(this.#stage.width) / this.#photo.width, room(this.#stage.height) / this.#photo.height);
  }

  /** A photo larger than the stage covers it; a smaller one is centred. */
  #keepInSight() {
    const { width, height } = this.frame;
    const place = (/** @type {number} */ at, /** @type {number} */ size, /** @type {number} */ room) =>
      size <= room ? (room - size) / 2 : Math.min(0, Math.max(room - size, at));
    this.x = place(this.x, width, this.#stage.width);
    this.y = place(this.y, height, this.#stage.height);
  }
}
