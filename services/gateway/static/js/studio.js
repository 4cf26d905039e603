/** Switches between the three views of an edit: marking, waiting, result. */

import { ApiError, readJob, readResult } from "./server/api.js";
import { Capabilities } from "./edit/capabilities.js";
import { byId } from "./page/dom.js";
import { EXPIRED, jobSentence } from "./page/failures.js";
import { Filmstrip } from "./edit/filmstrip.js";
import { History, isOpen } from "./edit/history.js";
import { Notices } from "./page/notices.js";
import { Photo } from "./photo/photo.js";
import { Progress } from "./edit/progress.js";
import { Result } from "./result/result.js";
import { RunButton } from "./edit/run-button.js";
import { Runs } from "./server/runs.js";
import { Settings } from "./edit/settings.js";
import { WORDS } from "./edit/tasks.js";
import { withStored } from "./server/upload.js";
import { Workspace } from "./edit/workspace.js";

/**
 * @typedef {import("./server/api.js").Task} Task
 * @typedef {import("./edit/history.js").Entry} Entry
 * @typedef {import("./server/job.js").Job} Job
 * @typedef {import("./stage/pane.js").Pane} Pane
 * @typedef {import("./edit/workspace.js").View} View
 */

const CUT_OFF = "The connection was lost; your edit continues, and this page keeps trying to reconnect.";

/** Owns the content of the stage. Fires `photo` when another photo is opened (detail: its name). */
export class Studio extends EventTarget {
  notices = new Notices();
  history = new History();
  workspace = new Workspace(this.notices);
  /** @type {View} */
  view = "edit";
  #capabilities = new Capabilities();
  #settings = new Settings(this.#capabilities);
  #runs = new Runs(this.history);
  #result = new Result(this.workspace.photo);
  #progress = new Progress((text) => this.notices.say(text));
  #film = new Filmstrip(this.history, (entry) => this.reopen(entry));
  #runButton = new RunButton();
  /** The edit on the stage.
   * @type {string | null} */
  #shown = null;
  #sending = false;
  /** Counts opened photos and edits, to detect late responses. */
  #turn = 0;

  constructor() {
    super();
    this.workspace.addEventListener("ready", () => this.#showRun());
    this.#capabilities.addEventListener("change", () => this.#showRun());
    this.#capabilities.refresh();
    this.#runs.addEventListener("change", (event) => this.#advanced(of(event).job));
    this.#runs.addEventListener("end", (event) => this.#ended(of(event).job));
    this.#runs.addEventListener("preview", (event) => this.#preview(of(event).job));
    this.#runs.addEventListener("connection", (event) => this.#connection(of(event).job, Boolean(of(event).value)));
  }

  /** Resume the edit that was running when the page was closed. Returns whether there was one. */
  async resume() {
    this.#runs.resume();
    const entry = this.history.entries.find(isOpen);
    if (entry) await this.reopen(entry);
    return this.workspace.photo.photo !== null;
  }

  /** @param {Task} task */
  setTask(task) {
    this.#capabilities.refresh();
    this.toEditing();
    this.workspace.setTask(task);
  }

  /**
   * Open a photo from any source.
   * @param {() => Promise<Blob> | Blob} read
   * @param {string} name
   * @param {Pane} pane
   */
  async open(read, name, pane) {
    const turn = ++this.#turn;
    try {
      const photo = await Photo.open(await read(), name);
      if (turn !== this.#turn) return;
      if (pane === this.workspace.photo) this.toEditing();
      this.workspace.show(photo, pane);
      if (pane === this.workspace.photo) this.#opened(photo);
    } catch (error) {
      this.notices.fail(error);
    }
  }

  /** Start an edit with the current settings. */
  async run() {
    if (this.#sending || this.view === "work") return;
    if (this.workspace.missing) {
      this.notices.warn(this.workspace.missing);
      return;
    }
    const turn = this.#turn;
    this.#sending = true;
    this.toEditing();
    this.notices.clear();
    try {
      const { uploads, submission } = await this.workspace.submission(this.#settings);
      const job = await withStored(uploads, (...names) => this.#start(submission(names)));
      if (turn === this.#turn) this.#watch(job);
    } catch (error) {
      this.#offerAgain(this.notices.reason(error));
    } finally {
      this.#sending = false;
      this.#showRun();
    }
  }

  async cancel() {
    try {
      await this.#runs.find(this.#shown ?? "")?.cancel();
    } catch (error) {
      this.notices.fail(error);
    }
  }

  /**
   * Show an earlier edit in any state.
   * @param {Entry} entry
   */
  async reopen(entry) {
    const turn = ++this.#turn;
    this.toEditing();
    this.notices.clear();
    try {
      await this.workspace.restore(entry);
      if (turn !== this.#turn) return;
      if (this.workspace.photo.photo) this.#opened(this.workspace.photo.photo);
      if (isOpen(entry)) this.#watch(this.#runs.follow(entry.id));
      else if (entry.status === "done") await this.#showResult(entry);
      else await this.#tellWhy(entry);
    } catch (error) {
      this.notices.fail(error);
    }
  }

  /** Leave the result or the wait. A running edit continues. */
  toEditing() {
    this.#shown = null;
    this.#result.hide();
    this.#progress.hide();
    this.#film.mark(null);
    this.#setView("edit");
  }

  /** Open the result as the photo. */
  continueEditing() {
    const { photo } = this.#result;
    if (!photo) return;
    this.toEditing();
    this.workspace.show(photo, this.workspace.photo);
    this.#opened(photo);
    this.workspace.photo.stage.canvas.focus({ preventScroll: true });
  }

  /** @param {Record<string, unknown>} submission */
  #start(submission) {
    const photo = this.workspace.photo.photo;
    if (!photo) throw new Error("There is no photo.");
    return this.#runs.start(submission, {
      task: this.workspace.task,
      name: photo.name,
      thumb: photo.thumbnail(),
      image: String(submission.image),
      mask: text(submission.mask),
      reference: text(submission.reference),
      referenceMask: text(submission.reference_mask),
    });
  }

  /** @param {Job} job */
  #watch(job) {
    this.#shown = job.id;
    this.#film.mark(job.id);
    this.#setView("work");
    this.#advanced(job);
    this.#preview(job);
  }

  /** @param {Job} job */
  #advanced(job) {
    this.#film.advance(job.id, job.standing.progress);
    if (job.id === this.#shown && job.isOpen) this.#progress.show(job.standing, this.workspace.task);
  }

  /** @param {Job} job */
  async #ended(job) {
    if (job.id !== this.#shown) return;
    const { status, error } = job.standing;
    const entry = this.history.find(job.id);
    if (status === "done" && entry) {
      await this.#showResult(entry).catch((failure) => this.notices.fail(failure));
      if (job.id === this.#shown && this.view === "work") this.toEditing(); // not earlier: the object would flash up
      return;
    }
    this.toEditing();
    if (status === "cancelled") {
      this.notices.say("Cancelled.");
    } else {
      this.#offerAgain(status === "failed" ? jobSentence(error) : EXPIRED);
    }
  }

  /**
   * The cause of an earlier edit's missing result.
   * @param {Entry} entry
   */
  async #tellWhy(entry) {
    this.#film.mark(entry.id);
    if (entry.status === "failed") this.#offerAgain(jobSentence((await readJob(entry.id)).error));
    if (entry.status === "expired") this.#offerAgain(EXPIRED);
  }

  /** @param {string} reason */
  #offerAgain(reason) {
    this.notices.warn(reason, { label: "Try again", act: () => this.run() });
  }

  /** @param {Job} job */
  async #preview(job) {
    const entry = this.history.find(job.id);
    const isWanted = () => job.id === this.#shown && this.view === "work";
    if (entry && job.preview && isWanted()) await this.#result.showSoFar(entry, job.preview, isWanted);
  }

  /**
   * @param {Job} job
   * @param {boolean} there
   */
  #connection(job, there) {
    if (job.id !== this.#shown) return;
    if (there) this.notices.withdraw(CUT_OFF);
    else this.notices.warn(CUT_OFF, { label: "Try now", act: () => job.reconnect() });
  }

  /** @param {Entry} entry */
  async #showResult(entry) {
    const turn = this.#turn;
    const shown = this.#shown;
    const after = await Photo.open(await this.#readResult(entry.id), entry.name);
    const before = this.workspace.photo.photo;
    if (turn !== this.#turn || shown !== this.#shown || !before) return;
    this.#shown = entry.id;
    this.#film.mark(entry.id);
    this.notices.clear(); // failures during the run, such as a failed cancel, no longer matter
    this.#setView("result");
    this.notices.say(`${WORDS[entry.task].done}. The arrow keys move the divider between before and after.`);
    await this.#result.show(entry, before, after);
  }

  /** @param {string} id */
  async #readResult(id) {
    try {
      return await readResult(id);
    } catch (error) {
      if (error instanceof ApiError && error.isGone) this.history.update(id, { status: "expired" });
      throw error;
    }
  }

  /** @param {View} view */
  #setView(view) {
    this.view = view;
    document.body.dataset.view = view;
    byId("options", HTMLElement).hidden = view !== "edit";
    byId("result-actions", HTMLElement).hidden = view !== "result";
    this.workspace.setView(view);
    if (view !== "work") this.#progress.hide();
  }

  #showRun() {
    const { task, missing } = this.workspace;
    this.#settings.show(task, WORDS[task].prompt);
    this.#runButton.show(task, this.view, missing === "", this.#sending);
  }

  /** @param {Photo} photo */
  #opened(photo) {
    byId("photo-facts", HTMLElement).textContent = `${photo.name} · ${photo.width} × ${photo.height}`;
    this.dispatchEvent(new CustomEvent("photo", { detail: photo.name }));
  }
}

/**
 * @param {Event} event
 * @returns {{job: Job, value?: unknown}}
 */
function of(event) {
  return /** @type {CustomEvent} */ (event).detail;
}

/** @param {unknown} value */
function text(value) {
  return typeof value === "string" ? value : null;
}
