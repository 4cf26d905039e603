/** The settings of a run, read from the panel. A setting is shown only where an engine obeys it. */

import { byId } from "../page/dom.js";

/**
 * @typedef {import("./capabilities.js").Capabilities} Capabilities
 * @typedef {import("../server/api.js").Task} Task
 * @typedef {Record<string, string | number>} Chosen  by the name of the API's field; only fields that the engine obeys
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
  #temperature = byId("temperature", HTMLInputElement);
  #temperatureText = byId("temperature-text", HTMLOutputElement);
  #variant = byId("variant", HTMLInputElement);
  /** @type {Task} */
  #task = "removal";

  /** @param {Capabilities} capabilities */
  constructor(capabilities) {
    this.capabilities = capabilities;
    for (const slider of [this.#strength, this.#temperature]) slider.addEventListener("input", () => this.#showSliders());
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
    const canVary = this.capabilities.obeys(task, "seed") || this.capabilities.obeys(task, "variant");
    byId("three", HTMLElement).hidden = !canVary;
    for (const group of document.querySelectorAll("[data-parameters]")) {
      group.toggleAttribute("hidden", !group.querySelector("[data-parameter]:not([hidden])"));
    }
  }

  /** All fields, also those that no engine obeys now.
   * @returns {Chosen} */
  get all() {
    return {
      prompt: this.#prompt.value.trim(),
      negative_prompt: this.#avoid.value.trim(),
      seed: this.#seed.valueAsNumber,
      steps: this.#steps.valueAsNumber,
      guidance: this.#guidance.valueAsNumber,
      strength: this.#strength.valueAsNumber / 100,
      temperature: this.#temperature.valueAsNumber,
      variant: Number(this.#variant.checked),
    };
  }

  /** The fields of the API that an engine obeys in the shown task.
   * @returns {Chosen} */
  get chosen() {
    return this.chosenFor(this.#task);
  }

  /**
   * @param {Task} task
   * @returns {Chosen}
   */
  chosenFor(task) {
    const obeyed = Object.entries(this.all).filter(([name]) => this.capabilities.obeys(task, name));
    return Object.fromEntries(obeyed.filter(([, value]) => value !== ""));
  }

  /**
   * Show the settings of an earlier edit. A field that it did not set gets the default value.
   * @param {Chosen} chosen
   */
  restore(chosen) {
    const fields = {
      prompt: this.#prompt,
      negative_prompt: this.#avoid,
      seed: this.#seed,
      steps: this.#steps,
      guidance: this.#guidance,
    };
    for (const [name, field] of Object.entries(fields)) field.value = String(chosen[name] ?? field.defaultValue);
    this.#strength.value = String(Math.round(Number(chosen.strength ?? 1) * 100));
    this.#temperature.value = String(chosen.temperature ?? 0);
    this.#variant.checked = Boolean(chosen.variant);
    this.#showSliders();
  }

  #showSliders() {
    this.#strengthText.value = `${this.#strength.value} %`;
    const warmer = this.#temperature.valueAsNumber;
    this.#temperatureText.value = `${warmer > 0 ? "+" : warmer < 0 ? "−" : ""}${Math.abs(warmer)}`;
  }
}
