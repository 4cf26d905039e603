/** Starts the edit on the stage: uploads what is missing, submits, and stops on request. */

import { withStored } from "../server/upload.js";

/**
 * @typedef {import("../studio.js").Studio} Studio
 * @typedef {import("../server/upload.js").Upload} Upload
 */

const SEEDS = 2 ** 31;

/** One submission at a time. */
export class Runner {
  isSending = false;
  /** @type {Upload[]} */
  #uploads = [];

  /** @param {Studio} studio */
  constructor(studio) {
    this.studio = studio;
  }

  /**
   * Start an edit with the current settings.
   * @param {number} [count]  of variations, which appear beside each other in the strip
   */
  async run(count = 1) {
    if (this.isSending || this.studio.view === "work") return;
    if (this.studio.workspace.missing) {
      this.studio.notices.warn(this.studio.workspace.missing);
      return;
    }
    const turn = this.studio.turn;
    this.isSending = true;
    this.studio.toEditing();
    this.studio.notices.clear();
    try {
      const job = await this.#submit(count);
      if (turn === this.studio.turn) this.studio.watch(job);
    } catch (error) {
      this.studio.offerAgain(this.studio.notices.reason(error));
    } finally {
      this.isSending = false;
      this.studio.showRun();
    }
  }

  /** @param {number} count */
  async #submit(count) {
    const { roll, at } = this.studio.timeline;
    const { photo, mask } = this.studio.workspace.photo;
    if (!roll || !photo) throw new Error("There is no photo.");
    const { steps } = mask;
    const { uploads, submission } = await this.studio.workspace.submission(this.studio.settings);
    const facts = { roll: roll.id, parent: at, name: roll.name, thumb: photo.thumbnail(), quick: false };
    const tell = () => photo.upload.share !== null && this.studio.progress.showSending(photo.upload.share, bytes);
    photo.upload.addEventListener("progress", tell);
    this.#uploads = uploads;
    const bytes = photo.upload.source instanceof Blob ? photo.upload.source.size : 0;
    const job = await withStored(uploads, (...names) => this.studio.runs.begin(submission(names), facts)).finally(
      () => {
        photo.upload.removeEventListener("progress", tell);
        this.#uploads = [];
        this.studio.progress.hide();
      },
    );
    for (const { source, sha256 } of uploads) if (source instanceof Blob) this.studio.vault.keep(sha256, source);
    this.studio.timeline.noteMade(job.id, steps);
    const names = uploads.map(({ sha256 }) => sha256);
    for (const other of variations(submission(names), count)) {
      this.studio.timeline.noteMade((await this.studio.runs.begin(other, facts)).id, steps);
    }
    this.studio.runs.follow(job.id);
    this.studio.timeline.ahead = [];
    return job;
  }

  async cancel() {
    for (const upload of this.#uploads) upload.stop();
    try {
      await this.studio.runs.find(this.studio.shown ?? "")?.cancel();
    } catch (error) {
      this.studio.notices.fail(error);
    }
  }
}

/**
 * Further submissions that differ from one: first another way to fill, where the engine has one, then other seeds.
 * @param {Record<string, unknown>} submission
 * @param {number} count  of all together
 */
function variations(submission, count) {
  const { seed, variant } = submission;
  /** @type {Record<string, unknown>[]} */
  const others = variant === 0 ? [{ ...submission, variant: 1 }] : [];
  for (let more = 1; typeof seed === "number" && others.length < count - 1; more++) {
    others.push({ ...submission, seed: (seed + more) % SEEDS });
  }
  return others.slice(0, count - 1);
}
