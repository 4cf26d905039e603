/** The settings of a run, read from the panel. */

import { byId } from "./dom.js";

const SEEDS = 2 ** 31;

/**
 * A number field with a value that is always in its range.
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

  /** The fields of the API for an edit with a mask. */
  get drawing() {
    return {
      prompt: this.#prompt.value.trim(),
      negative_prompt: this.#avoid.value.trim() || null,
      seed: this.#seed.valueAsNumber,
      steps: this.#steps.valueAsNumber,
      guidance: this.#guidance.valueAsNumber,
    };
  }

  /** The fields of the API for a white balance. */
  get balance() {
    return { strength: this.#strength.valueAsNumber / 100 };
  }
}
