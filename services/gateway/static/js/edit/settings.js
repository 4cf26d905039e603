/** The settings of a run, read from the panel. A setting is shown only where an engine obeys it. */

import { byId } from "../page/dom.js";

/**
 * @typedef {import("./capabilities.js").Capabilities} Capabilities
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {Record<string, string | number>} Chosen  by the name of the API's field; only what the engine obeys
 */

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
  #strengthText = byId("strength-text", HTMLOutputElement);
  #variant = byId("variant", HTMLInputElement);
  /** @type {Task} */
  #task = "removal";

  /** @param {Capabilities} capabilities */
  constructor(capabilities) {
    this.capabilities = capabilities;
    this.#strength.addEventListener("input", () => this.#showStrength());
    byId("new-seed", HTMLButtonElement).addEventListener("click", () => {
      this.#seed.value = String(Math.floor(Math.random() * SEEDS));
    });
  }

  /**
   * Show the settings that an engine obeys in a task.
   * @param {Task} task
   * @param {string} example  of words
   */
  show(task, example) {
    this.#task = task;
    this.#prompt.placeholder = example;
    for (const field of document.querySelectorAll("[data-parameter]")) {
      const { parameter = "" } = field instanceof HTMLElement ? field.dataset : {};
      field.toggleAttribute("hidden", !this.capabilities.obeys(task, parameter));
    }
    for (const group of document.querySelectorAll("[data-parameters]")) {
      group.toggleAttribute("hidden", !group.querySelector("[data-parameter]:not([hidden])"));
    }
  }

  /** The fields of the API that an engine obeys in the shown task. */
  get chosen() {
    /** @type {Chosen} */
    const all = {
      prompt: this.#prompt.value.trim(),
      negative_prompt: this.#avoid.value.trim(),
      seed: this.#seed.valueAsNumber,
      steps: this.#steps.valueAsNumber,
      guidance: this.#guidance.valueAsNumber,
      strength: this.#strength.valueAsNumber / 100,
      variant: Number(this.#variant.checked),
    };
    const obeyed = Object.entries(all).filter(([name]) => this.capabilities.obeys(this.#task, name));
    return Object.fromEntries(obeyed.filter(([, value]) => value !== ""));
  }

  #showStrength() {
    this.#strengthText.value = `${this.#strength.value} %`;
  }
}
