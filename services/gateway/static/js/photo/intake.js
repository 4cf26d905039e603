/** The sources of photos: file dialog, drag and drop, clipboard. */

import { byId } from "../page/dom.js";
import { PlainError } from "../page/failures.js";
import { t } from "../page/texts.js";

/** Calls `take` with the images, for a drop the target element, and the number of files that are no images. */
export class Intake {
  #input = byId("file", HTMLInputElement);
  #target = byId("drop-target", HTMLElement);
  #depth = 0;
  /** @type {Element | null} */
  #asker = null;

  /**
   * @param {(images: File[], on: Element | null, others: number) => void} take
   * @param {(error: unknown) => void} fail
   */
  constructor(take, fail) {
    this.take = take;
    this.fail = fail;
    this.#input.addEventListener("change", () => {
      this.#accept(this.#input.files, this.#asker);
      this.#input.value = ""; // so that the same file can be opened twice
    });
    addEventListener("dragenter", (event) => this.#over(event, 1));
    addEventListener("dragleave", (event) => this.#over(event, -1));
    addEventListener("dragover", (event) => event.preventDefault());
    addEventListener("drop", (event) => this.#drop(event));
    addEventListener("paste", (event) => this.#paste(event));
  }

  /**
   * Show the file dialog.
   * @param {Element | null} asker  passed on to `take`
   */
  ask(asker) {
    this.#asker = asker;
    this.#input.click();
  }

  /**
   * @param {DragEvent} event
   * @param {number} change
   */
  #over(event, change) {
    event.preventDefault();
    this.#depth = Math.max(0, this.#depth + change); // enter and leave also fire between the page's elements
    this.#target.hidden = this.#depth === 0;
  }

  /** @param {DragEvent} event */
  #drop(event) {
    event.preventDefault();
    this.#depth = 0;
    this.#target.hidden = true;
    this.#accept(event.dataTransfer?.files, event.target instanceof Element ? event.target : null);
  }

  /** @param {ClipboardEvent} event */
  #paste(event) {
    const { files } = event.clipboardData ?? {};
    if (!files?.length) return;
    event.preventDefault(); // also in a text field: the field could not take it
    this.#accept(files, null);
  }

  /**
   * @param {FileList | null | undefined} files
   * @param {Element | null} on
   */
  #accept(files, on) {
    const images = [...(files ?? [])].filter(({ type }) => !type || type.startsWith("image/"));
    if (images.length) this.take(images, on, (files?.length ?? 0) - images.length);
    else if (files?.length) this.fail(new PlainError(t("This file is not an image; choose a JPEG, PNG or WebP.")));
  }
}
