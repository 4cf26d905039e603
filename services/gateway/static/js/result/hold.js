/** Shows the original while a key, a finger or the button is held, in the result and on every later version. */

import { byId } from "../page/dom.js";
import { pictureLayer } from "../stage/layers.js";

/**
 * @typedef {import("../studio.js").Studio} Studio
 * @typedef {import("../photo/photo.js").Photo} Photo
 */

const KEY = "v";
const TYPED = "input:not([type=range], [type=radio], [type=checkbox]), textarea, select, dialog";

/** The button and the key. */
export class Hold {
  #button = byId("hold", HTMLButtonElement);
  #isHeld = false;

  /** @param {Studio} studio */
  constructor(studio) {
    this.studio = studio;
    const button = this.#button;
    button.addEventListener("pointerdown", (event) => {
      button.setPointerCapture(event.pointerId);
      this.#hold();
    });
    for (const name of ["pointerup", "pointercancel", "blur"]) button.addEventListener(name, () => this.#release());
    button.addEventListener("keydown", (event) => {
      if (event.key === " " || event.key === "Enter") this.#hold();
    });
    button.addEventListener("keyup", () => this.#release());
    button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press of a finger
    addEventListener("keydown", (event) => this.#isKey(event) && this.#hold());
    addEventListener("keyup", (event) => event.key.toLowerCase() === KEY && this.#release());
    addEventListener("blur", () => this.#release());
  }

  /** Show the button where there is an original to see. */
  show() {
    const { view, timeline, workspace } = this.studio;
    this.#button.hidden = view === "work" || (view === "edit" && timeline.at === null && !workspace.photo.live);
  }

  /** @param {KeyboardEvent} event */
  #isKey(event) {
    if (event.key.toLowerCase() !== KEY || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return false;
    return !(event.target instanceof Element && event.target.closest(TYPED));
  }

  async #hold() {
    const { view, timeline, workspace, result, notices } = this.studio;
    if (this.#isHeld || this.#button.hidden) return;
    this.#isHeld = true;
    this.#button.setAttribute("aria-pressed", "true");
    if (view === "result") {
      result.compare.hold(true);
      return;
    }
    try {
      const original = await timeline.photoOf(null);
      if (this.#isHeld) workspace.photo.cover({ tool: null, layers: [pictureLayer(() => original.preview)] });
    } catch (error) {
      notices.fail(error);
    }
  }

  #release() {
    if (!this.#isHeld) return;
    const { view, workspace, result } = this.studio;
    this.#isHeld = false;
    this.#button.setAttribute("aria-pressed", "false");
    if (view === "result") result.compare.hold(false);
    else workspace.photo.cover(null);
  }
}
