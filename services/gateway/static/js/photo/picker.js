/** A row of tiles to choose a photo from: one to open a file, one per sample. */

import { create, icon } from "../page/dom.js";
import { t } from "../page/texts.js";

/** @typedef {import("../server/api.js").Sample} Sample */

const THUMBS = "static/samples/thumbs/";

/** Used for the photo and for the object photo. */
export class Picker {
  /**
   * @param {HTMLElement} element
   * @param {() => void} open  lets the person choose a file
   * @param {(sample: Sample) => void} take
   */
  constructor(element, open, take) {
    this.element = element;
    this.take = take;
    const button = create(
      "button",
      { type: "button", className: "tile tile-open", ariaLabel: t("Open a photo") },
      icon("open"),
    );
    button.addEventListener("click", open);
    this.element.append(button);
  }

  /** @param {Sample[]} samples */
  fill(samples) {
    for (const sample of samples) {
      const thumb = create("img", { src: THUMBS + sample.url.split("/").pop(), alt: "", width: 56, height: 56 });
      const label = t("Sample photo: {name}", { name: sample.name });
      const tile = create(
        "button",
        { type: "button", className: "tile", ariaLabel: label, title: sample.credit },
        thumb,
      );
      tile.dataset.name = sample.name;
      tile.addEventListener("click", () => this.take(sample));
      this.element.append(tile);
    }
  }

  /** @param {string} name  of the sample that is open, if one is */
  mark(name) {
    for (const tile of this.element.querySelectorAll("[data-name]")) {
      tile.setAttribute("aria-pressed", String(tile instanceof HTMLElement && tile.dataset.name === name));
    }
  }
}
