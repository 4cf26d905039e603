/** Which version of which photo is on the stage, and where undo and redo lead from there. */

import { t } from "../page/texts.js";
import { Photo } from "../photo/photo.js";
import { ApiError } from "../server/api.js";
import { randomKey } from "../server/runs.js";
import { Upload } from "../server/upload.js";

/**
 * @typedef {import("../kept/history.js").Entry} Entry
 * @typedef {import("../kept/history.js").History} History
 * @typedef {import("../kept/history.js").Roll} Roll
 * @typedef {import("../kept/vault.js").Vault} Vault
 * @typedef {import("../marking/mask.js").Steps} Steps
 */

const PHOTOS_KEPT = 3; // decoded photos of 13 MB each, so that undo and redo of the last edits are immediate

/** Finds versions by their id. The photo as it was opened has no id. */
export class Timeline {
  /** @type {Roll | null} */
  roll = null;
  /** The version on the stage.
   * @type {string | null} */
  at = null;
  /** The versions that redo leads to, the next one first.
   * @type {string[]} */
  ahead = [];
  /** The masks that versions were made with, by id.
   * @type {Map<string, Steps>} */
  #made = new Map();
  /** The masks that were left on versions, by id, and on photos as they were opened, by the id of the roll.
   * @type {Map<string, Steps>} */
  #left = new Map();
  /** @type {Map<string, Photo>} */
  #photos = new Map();

  /**
   * @param {History} history
   * @param {Vault} vault
   */
  constructor(history, vault) {
    this.history = history;
    this.vault = vault;
  }

  /** The version on the stage. */
  get entry() {
    return this.history.find(this.at);
  }

  /**
   * Begin with a photo that was just opened.
   * @param {Photo} photo
   * @param {Blob} blob
   */
  begin(photo, blob) {
    const { name } = photo;
    const facts = { id: randomKey(), name, at: Date.now(), thumb: photo.thumbnail(), blob, sha256: "" };
    this.go(this.history.addRoll(facts), null);
    this.history.dropUnused();
    this.ahead = [];
    this.#photos.clear();
    this.#made.clear();
    this.#left.clear();
    this.#remember(null, photo);
  }

  /**
   * Keep a photo in the strip, to be opened later. Throws PlainError if the file is no image.
   * @param {File} file
   */
  async queue(file) {
    const photo = await Photo.open(file, file.name || t("photo"));
    const facts = {
      id: randomKey(),
      name: photo.name,
      at: Date.now(),
      thumb: photo.thumbnail(),
      blob: file,
      sha256: "",
    };
    this.history.addRoll({ ...facts, waits: true });
  }

  /**
   * Note the hash of an opened photo. The strip may have a photo with this hash already.
   * @param {Photo} photo
   * @param {string} sha256
   */
  identify(photo, sha256) {
    const { roll } = this;
    if (!roll || this.at !== null || this.#photos.get("null") !== photo) return; // another one was opened meanwhile
    this.roll = this.history.identify(roll, sha256);
  }

  /**
   * @param {Roll | null} roll
   * @param {string | null} at
   */
  go(roll, at) {
    if (roll?.id !== this.roll?.id) this.#photos.clear();
    this.roll = roll;
    this.at = at;
  }

  /**
   * The photo of a version. Throws ApiError if its bytes are lost.
   * @param {string | null} at
   * @param {Roll | null} [roll]
   * @returns {Promise<Photo>}
   */
  async photoOf(at, roll = this.roll) {
    const known = roll?.id === this.roll?.id ? this.#photos.get(String(at)) : undefined;
    if (known) return known;
    const photo = at === null ? await this.#opened(roll) : await this.#result(at, roll);
    if (roll?.id === this.roll?.id) this.#remember(at, photo);
    return photo;
  }

  /**
   * The result of an edit. Throws ApiError, and marks the edit if the result has expired.
   * @param {Entry} entry
   */
  async resultOf(entry) {
    try {
      return await this.photoOf(entry.id);
    } catch (error) {
      if (error instanceof ApiError && error.isGone) this.history.update(entry.id, { status: "expired" });
      throw error;
    }
  }

  /**
   * Take a result that is decoded already.
   * @param {string} id
   * @param {Photo} photo
   */
  take(id, photo) {
    this.#remember(id, photo);
  }

  /**
   * Remember the mask that a version was made with.
   * @param {string} id
   * @param {Steps} steps
   */
  noteMade(id, steps) {
    this.#made.set(id, steps);
  }

  /** @param {string} id */
  madeWith(id) {
    return this.#made.get(id);
  }

  /**
   * Whether a version is on the stage.
   * @param {{roll: Roll, at: string | null}} version
   */
  shows({ roll, at }) {
    return this.roll?.id === roll.id && this.at === at;
  }

  /**
   * Remember the mask that was drawn on a version.
   * @param {Steps} steps
   * @param {{roll: Roll | null, at: string | null}} [version]  nothing: the one on the stage
   */
  leave(steps, { roll, at } = this) {
    this.#left.set(at ?? roll?.id ?? "", steps);
  }

  /**
   * The mask that was drawn earlier on a version.
   * @param {{roll: Roll | null, at: string | null}} [version]  nothing: the one on the stage
   */
  left({ roll, at } = this) {
    return this.#left.get(at ?? roll?.id ?? "");
  }

  /**
   * The photo that an edit began from, and the roll of this photo. Throws ApiError if its bytes are lost.
   * @param {Entry} entry
   * @returns {Promise<{photo: Photo, roll: Roll}>}
   */
  async before(entry) {
    const roll = this.history.rolls.get(entry.roll);
    try {
      if (roll) return { photo: await this.photoOf(entry.parent, roll), roll };
    } catch {
      // the result before this one is gone; the server may still have it as an upload
    }
    const blob = await this.vault.image(entry.image);
    const photo = await Photo.open(blob, entry.name, entry.image);
    const { id, name, at, image: sha256 } = { ...entry, id: entry.roll };
    return { photo, roll: roll ?? this.history.addRoll({ id, name, at, sha256, blob, thumb: photo.thumbnail() }) };
  }

  /** @param {Roll | null} roll */
  async #opened(roll) {
    if (!roll) throw new Error("There is no photo.");
    return Photo.open(roll.blob, roll.name, roll.sha256 || undefined);
  }

  /**
   * The result of an edit: the photo before it with a patch, where both are at hand.
   * @param {string} id
   * @param {Roll | null} roll
   */
  async #result(id, roll) {
    const entry = this.history.find(id);
    const sha256 = entry?.result ?? undefined;
    if (entry?.task === "cut-out") return Photo.open(await this.vault.image(sha256 ?? ""), entry.name, sha256, null);
    const before = entry && (await this.#beforeAtHand(entry, roll));
    const patch = before && (await this.vault.patch(id));
    if (patch) {
      const again = async () => {
        const { remake } = await import("./remake.js"); // seldom needed
        return remake(entry, await this.photoOf(entry.parent, roll), this.vault);
      };
      return Photo.patched(before, patch, new Upload(() => this.vault.result(id), sha256, entry.quick ? again : undefined));
    }
    return Photo.open(await this.vault.result(id), entry?.name ?? "", sha256);
  }

  /**
   * @param {Entry} entry
   * @param {Roll | null} roll
   */
  async #beforeAtHand(entry, roll) {
    const known = roll?.id === this.roll?.id ? this.#photos.get(String(entry.parent)) : undefined;
    if (known || !(await this.vault.hasOnlyPatch(entry.id))) return known;
    return this.photoOf(entry.parent, roll);
  }

  /**
   * Keep a small picture of a result for the strip.
   * @param {string} id
   */
  async keepThumbnail(id) {
    try {
      this.history.update(id, { thumb: (await this.photoOf(id, this.#rollOf(id))).thumbnail() });
    } catch {
      // keep the old thumbnail; opening the result shows the failure
    }
  }

  /** @param {string} id */
  #rollOf(id) {
    return this.history.rolls.get(this.history.find(id)?.roll ?? "") ?? null;
  }

  /**
   * @param {string | null} at
   * @param {Photo} photo
   */
  #remember(at, photo) {
    this.#photos.delete(String(at));
    this.#photos.set(String(at), photo);
    for (const oldest of [...this.#photos.keys()].slice(0, -PHOTOS_KEPT)) this.#photos.delete(oldest);
  }
}
