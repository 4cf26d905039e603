/** The receipt of a result. */

import { byId, create, icon } from "../page/dom.js";
import { count, t } from "../page/texts.js";

/**
 * @typedef {import("../server/api.js").Receipt} Receipt
 * @typedef {import("../photo/photo.js").Photo} Photo
 */

/** The receipt card in the panel. */
export class ReceiptCard {
  #card = byId("receipt", HTMLElement);
  #promise = byId("promise", HTMLElement);
  #facts = byId("receipt-facts", HTMLElement);

  /**
   * @param {Receipt} receipt
   * @param {Photo} result
   * @param {boolean} masked  whether the edit had a mask to stay in
   */
  show(receipt, result, masked) {
    const changed = receipt.pixels_changed_outside_mask;
    this.#promise.hidden = !masked;
    this.#promise.classList.toggle("broken", changed > 0);
    const text =
      changed === 1
        ? t("1 pixel changed outside the edited region")
        : t("{count} pixels changed outside the edited region", { count: count(changed) });
    this.#promise.replaceChildren(icon(changed ? "alert" : "check"), text);
    const total = Object.values(receipt.timings_ms).reduce((sum, ms) => sum + ms, 0);
    const rows = {
      [t("Size")]: `${result.width} × ${result.height}`,
      [t("Engine")]: receipt.engine,
      [t("Time")]: `${(total / 1000).toFixed(1)} s`,
      ...(masked ? { [t("Seed")]: String(receipt.seed) } : {}),
    };
    const lines = Object.entries(rows).map(([name, value]) =>
      create("div", {}, create("dt", {}, name), create("dd", {}, value)),
    );
    this.#facts.replaceChildren(...lines);
    this.#card.hidden = false;
  }

  hide() {
    this.#card.hidden = true;
  }
}
