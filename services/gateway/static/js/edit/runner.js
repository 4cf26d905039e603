/** Starts the edit on the stage: uploads the missing images, submits the job, and stops it on request. */

import { cutOut } from "../server/api.js";
import { randomKey } from "../server/runs.js";
import { withStored } from "../server/upload.js";
import { WORDS } from "./tasks.js";

/**
 * @typedef {import("../studio.js").Studio} Studio
 * @typedef {import("../server/upload.js").Upload} Upload
 */

const SEEDS = 2 ** 31;

/** Sends one submission at a time. */
export class Runner {
  isSending = false;
  /** The text for an edit that runs without a job. */
  doing = "";
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
      if (this.studio.workspace.task === "cut-out") await this.#cutOut(turn);
      else await this.#submit(count, turn);
    } catch (error) {
      this.studio.offerAgain(this.studio.notices.reason(error));
    } finally {
      this.isSending = false;
      this.doing = "";
      this.studio.workspace.refresh();
    }
  }

  /**
   * @param {number} count
   * @param {number} turn  of the studio when it was asked for
   */
  async #submit(count, turn) {
    const facts = this.#facts();
    const { steps } = this.studio.workspace.photo.mask;
    const { uploads, submission } = await this.studio.workspace.submission(this.studio.settings);
    const job = await this.#send(uploads, (...names) => this.studio.runs.begin(submission(names), facts));
    this.studio.timeline.noteMade(job.id, steps);
    const names = uploads.map(({ sha256 }) => sha256);
    for (const other of variations(submission(names), count)) {
      this.studio.timeline.noteMade((await this.studio.runs.begin(other, facts)).id, steps);
    }
    this.studio.runs.follow(job.id);
    this.studio.timeline.ahead = [];
    if (turn === this.studio.turn) this.studio.watch(job);
  }

  /**
   * Cut the marked object out. The server does that at once, without a job.
   * @param {number} turn  of the studio when it was asked for
   */
  async #cutOut(turn) {
    const { history, settings, timeline, workspace } = this.studio;
    const facts = this.#facts();
    const { steps } = workspace.photo.mask;
    this.doing = WORDS["cut-out"].doing;
    workspace.refresh();
    const { uploads } = await workspace.submission(settings);
    const stored = await this.#send(uploads, cutOut);
    const [image, mask] = uploads.map(({ sha256 }) => sha256);
    const entry = history.add({
      ...facts,
      id: randomKey(),
      task: "cut-out",
      status: "done",
      at: Date.now(),
      image,
      mask,
      reference: null,
      referenceMask: null,
      settings: settings.all,
      engine: null,
      result: stored.sha256,
    });
    timeline.noteMade(entry.id, steps);
    if (turn === this.studio.turn) await this.studio.reopen(entry);
    timeline.keepThumbnail(entry.id); // not earlier: the page would read the picture twice
  }

  /** The facts about the photo on the stage, for the history. */
  #facts() {
    const { roll, at } = this.studio.timeline;
    const { photo } = this.studio.workspace.photo;
    if (!roll || !photo) throw new Error("There is no photo.");
    return { roll: roll.id, parent: at, name: roll.name, thumb: photo.thumbnail(), quick: false };
  }

  /**
   * Upload the missing images, and call `use` with the names of all.
   * @template T
   * @param {Upload[]} uploads  the first one is that of the photo
   * @param {(...names: string[]) => Promise<T>} use
   */
  async #send(uploads, use) {
    const [photo] = uploads;
    const bytes = photo.source instanceof Blob ? photo.source.size : 0;
    const showShare = () => photo.share !== null && this.studio.progress.showSending(photo.share, bytes, photo.isWaiting);
    photo.addEventListener("progress", showShare);
    showShare(); // the upload may have begun when the photo was opened
    this.#uploads = uploads;
    try {
      return await withStored(uploads, use);
    } finally {
      photo.removeEventListener("progress", showShare);
      this.#uploads = [];
      this.studio.progress.hide();
      for (const { source, sha256 } of uploads) if (sha256 && source instanceof Blob) this.studio.vault.keep(sha256, source);
    }
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
