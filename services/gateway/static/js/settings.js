/** What the person can set for a run, read from the panel. */

import { byId } from "./dom.js";

const SEEDS = 2 ** 31;

/**
 * A number field that always has a number in its range.
 * @param {string} id
 */
function number(id) {
  const field = byId(id, HTMLInputElement);
  const standard = field.defaultValue;
  field.addEventListener("change", () => {
    const wanted = field.value === "" ? Number(standard) : field.valueAsNumber || 0;
    const kept = Math.min(Number(field.max), Math.max(Number(field.min), wanted));
    field.value = String(field.step === "1" ? Math.round(kept) : kept);
  });
  return field;
}

/** The fields of the panel. */
export class Settings {
  #prompt = byId("prompt", HTMLTextAreaElement);
  #avoid = byId("negative-prompt", HTMLInputElement);
  #seed = number("seed");
  #steps = number("steps");
  #guidance = number("guidance");
  #strength = byId("strength", HTMLInputElement);

  constructor() {
    const text = byId("strength-text", HTMLOutputElement);
    this.#strength.addEventListener("input", () => (text.value = `${this.#strength.value} %`));
    byId("new-seed", HTMLButtonElement).addEventListener("click", () => {
      this.#seed.value = String(Math.floor(Math.random() * SEEDS));
    });
  }

  /** @param {string} example */
  suggest(example) {
    this.#prompt.placeholder = example;
  }

  /** For an edit with a mask, in the API's words. */
  get drawing() {
    return {
      prompt: this.#prompt.value.trim(),
      negative_prompt: this.#avoid.value.trim() || null,
      seed: this.#seed.valueAsNumber,
      steps: this.#steps.valueAsNumber,
      guidance: this.#guidance.valueAsNumber,
    };
  }

  /** For the white balance, in the API's words. */
  get balance() {
    return { strength: this.#strength.valueAsNumber / 100 };
  }
}
