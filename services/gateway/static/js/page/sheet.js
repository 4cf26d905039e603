/** The panel of a phone: a sheet that opens with a swipe or a tap on its handle. */

import { byId } from "./dom.js";

const SWIPE_PX = 24;

/** Opens and closes the sheet; on a wide screen the panel is always open. */
export class Sheet {
  #handle = byId("sheet", HTMLButtonElement);
  #from = 0;
  #swiped = false;

  constructor() {
    const handle = this.#handle;
    handle.addEventListener("pointerdown", (event) => {
      this.#from = event.clientY;
      this.#swiped = false;
      handle.setPointerCapture(event.pointerId);
    });
    handle.addEventListener("pointermove", (event) => this.#move(event));
    handle.addEventListener("click", () => this.#swiped || this.set(!this.isOpen));
    addEventListener("keydown", (event) => event.key === "Escape" && this.isOpen && this.set(false));
  }

  get isOpen() {
    return this.#handle.ariaExpanded === "true";
  }

  /** @param {boolean} isOpen */
  set(isOpen) {
    this.#handle.ariaExpanded = String(isOpen);
    document.body.classList.toggle("sheet-open", isOpen);
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.#handle.hasPointerCapture(event.pointerId)) return;
    const up = this.#from - event.clientY;
    if (Math.abs(up) < SWIPE_PX) return;
    this.#swiped = true; // the next click belongs to the swipe and is no tap
    this.set(up > 0);
  }
}
