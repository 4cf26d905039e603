/** Switches between the three views of an edit: marking, waiting, result. */

import { Capabilities } from "./edit/capabilities.js";
import { Desk } from "./kept/desk.js";
import { Filmstrip } from "./edit/filmstrip.js";
import { History, isOpen } from "./kept/history.js";
import { layoutOf, showLayout } from "./edit/layout.js";
import { Progress } from "./edit/progress.js";
import { Retouch } from "./edit/retouch.js";
import { RunButton } from "./edit/run-button.js";
import { Runner } from "./edit/runner.js";
import { Settings } from "./edit/settings.js";
import { Steps } from "./edit/steps.js";
import { Store } from "./kept/store.js";
import { WORDS } from "./edit/tasks.js";
import { Timeline } from "./edit/timeline.js";
import { Vault } from "./kept/vault.js";
import { Workspace } from "./edit/workspace.js";
import { byId } from "./page/dom.js";
import { expirySentence, jobSentence } from "./page/failures.js";
import { Notices } from "./page/notices.js";
import { t } from "./page/texts.js";
import { notify } from "./page/title.js";
import { Photo } from "./photo/photo.js";
import { Hold } from "./result/hold.js";
import { Result } from "./result/result.js";
import { readJob } from "./server/api.js";
import { Runs } from "./server/runs.js";

/**
 * @typedef {import("./server/api.js").Task} Task
 * @typedef {import("./kept/history.js").Entry} Entry
 * @typedef {import("./kept/history.js").Roll} Roll
 * @typedef {import("./server/job.js").Job} Job
 * @typedef {import("./stage/pane.js").Pane} Pane
 * @typedef {import("./edit/workspace.js").View} View
 */

/** Owns the content of the stage. Fires `photo` when another photo is opened (detail: its name). */
export class Studio extends EventTarget {
  notices = new Notices();
  capabilities = new Capabilities();
  settings = new Settings(this.capabilities);
  store = new Store();
  vault = new Vault(this.store);
  history = new History(this.store);
  timeline = new Timeline(this.history, this.vault);
  workspace = new Workspace(this.notices, (sha256) => this.vault.image(sha256));
  runs = new Runs(this.history);
  /** @type {View} */
  view = "edit";
  retouch = new Retouch(this);
  steps = new Steps(this);
  desk = new Desk(this.store, () => layoutOf(this));
  /** The edit on the stage, while it runs and with its result.
   * @type {string | null} */
  shown = null;
  result = new Result(this);
  progress = new Progress((text) => this.notices.announce(text));
  hold = new Hold(this);
  #film = new Filmstrip(this);
  #runButton = new RunButton();
  #isLive = false;
  runner = new Runner(this);
  /** Counts opened photos and edits, to detect late responses. */
  turn = 0;

  constructor() {
    super();
    this.workspace.toolbox.steps = this.steps;
    this.workspace.addEventListener("ready", () => this.showRun());
    this.workspace.photo.mask.addEventListener("step", () => (this.timeline.ahead = []));
    byId("settings", HTMLFormElement).addEventListener("input", () => this.desk.touch());
    this.capabilities.addEventListener("change", () => this.workspace.refresh());
    this.capabilities.refresh();
    this.#watchStore();
    this.runs.addEventListener("change", (event) => this.#showProgress(of(event).job));
    this.runs.addEventListener("end", (event) => this.#finish(of(event).job));
    this.runs.addEventListener("preview", (event) => this.#preview(of(event).job));
    this.runs.addEventListener("connection", (event) => this.#connection(of(event).job, Boolean(of(event).value)));
  }

  /** Inform the person once if the browser keeps nothing, or has no room left. */
  #watchStore() {
    const informOnce = (/** @type {string} */ event, /** @type {string} */ text) =>
      this.store.addEventListener(event, () => this.notices.inform(text), { once: true });
    informOnce("blocked", t("This browser keeps no edits here; download what you need before you close the page."));
    informOnce("full", t("The browser has no room left; download what you need, or forget earlier edits."));
  }

  /** Show the stage as it was before a reload, or an edit that runs. Returns whether there is a photo now. */
  async resume() {
    await this.history.ready;
    this.runs.resume();
    const layout = await this.desk.read();
    try {
      if (layout) await showLayout(this, layout);
    } catch (error) {
      this.notices.fail(error);
    }
    const running = this.history.entries.find(isOpen);
    if (!this.workspace.photo.photo && running) await this.reopen(running);
    return this.workspace.photo.photo !== null;
  }

  /** @param {Task} task */
  setTask(task) {
    this.capabilities.refresh();
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
    const turn = ++this.turn;
    try {
      const blob = await read();
      const photo = await Photo.open(blob, name);
      if (turn !== this.turn) return;
      if (pane === this.workspace.photo) this.#begin(photo, blob);
      else this.workspace.show(photo, pane);
    } catch (error) {
      this.notices.fail(error);
    }
  }

  /**
   * @param {Photo} photo
   * @param {Blob} blob
   */
  #begin(photo, blob) {
    this.timeline.begin(photo, blob);
    this.toEditing();
    this.workspace.show(photo, this.workspace.photo);
    this.showPhotoFacts();
    // Upload early, so that the first click does not wait. A failure is shown when the upload is needed.
    photo.upload.send().then(
      (sha256) => this.timeline.identify(photo, sha256),
      () => {},
    );
  }

  /**
   * Keep further photos in the strip, in their order. Open one at a time, because each one needs memory for its pixels.
   * @param {File[]} files
   * @param {number} others  files that came with them and are no images
   */
  async queue(files, others) {
    let failed = others;
    for (const file of files) {
      try {
        await this.timeline.queue(file);
      } catch {
        failed += 1;
      }
    }
    if (failed)
      this.notices.warn(t("Files that this browser cannot show as images: {count}.", { count: failed }));
    else if (files.length)
      this.notices.inform(t("Photos that wait in the strip below: {count}.", { count: files.length }));
  }

  /**
   * Show an earlier edit in any state, with its photo, mask and settings.
   * @param {Entry} entry
   * @param {string[]} [ahead]  where redo leads from it
   */
  async reopen(entry, ahead = []) {
    const turn = ++this.turn;
    this.notices.clear();
    try {
      await this.steps.showBefore(entry);
      if (turn !== this.turn) return;
      this.timeline.ahead = ahead;
      if (isOpen(entry)) this.watch(this.runs.follow(entry.id));
      else if (entry.status === "done") await this.#showResult(entry);
      else await this.#showCause(entry);
    } catch (error) {
      this.notices.fail(error);
    }
  }

  /** Leave the result or the wait. A running edit continues. */
  toEditing() {
    this.shown = null;
    this.result.hide();
    this.progress.hide();
    this.#setView("edit");
  }

  /** Edit the result. */
  async continueEditing() {
    const { photo } = this.result;
    const { shown, timeline } = this;
    if (!photo || !shown || !timeline.roll) return;
    timeline.take(shown, photo);
    await this.steps.showVersion(timeline.roll, shown);
    if (this.workspace.task === "white-balance") this.settings.restore({ ...this.settings.all, strength: 0, temperature: 0 });
    this.workspace.photo.stage.canvas.focus({ preventScroll: true });
  }

  /** @param {Job} job */
  watch(job) {
    this.shown = job.id;
    this.#setView("work");
    this.#showProgress(job);
    this.#preview(job);
  }

  /** @param {Job} job */
  #showProgress(job) {
    this.#film.advance(job.id, job.standing.progress);
    if (job.id === this.shown && job.isOpen) this.progress.show(job.standing, this.workspace.task);
  }

  /** @param {Job} job */
  async #finish(job) {
    const { status, error } = job.standing;
    const { task } = this.history.find(job.id) ?? {};
    if (task && !this.retouch.runs(job.id)) notify(status === "done" ? WORDS[task].done : t("The edit has ended."));
    if (status === "done" && !this.retouch.runs(job.id)) this.timeline.keepThumbnail(job.id);
    if (job.id !== this.shown) return;
    const entry = this.history.find(job.id);
    if (status === "done" && entry) {
      await this.#showResult(entry).catch((failure) => this.notices.fail(failure));
      if (job.id === this.shown && this.view === "work") this.toEditing(); // not earlier: the object would flicker
      return;
    }
    this.toEditing();
    if (status === "cancelled") {
      this.notices.announce(t("Cancelled."));
    } else {
      this.offerAgain(status === "failed" ? jobSentence(error) : expirySentence());
    }
  }

  /**
   * The cause of an earlier edit's missing result.
   * @param {Entry} entry
   */
  async #showCause(entry) {
    this.#film.mark(entry.id);
    if (entry.status === "failed") this.offerAgain(jobSentence((await readJob(entry.id)).error));
    if (entry.status === "expired") this.offerAgain(expirySentence());
  }

  /** @param {string} reason */
  offerAgain(reason) {
    this.notices.warn(reason, { label: t("Try again"), act: () => this.runner.run() });
  }

  /** @param {Job} job */
  async #preview(job) {
    const entry = this.history.find(job.id);
    const isWanted = () => job.id === this.shown && this.view === "work";
    if (entry && job.preview && isWanted()) await this.result.showSoFar(entry, job.preview, isWanted);
  }

  /**
   * @param {Job} job
   * @param {boolean} there
   */
  #connection(job, there) {
    const cutOff = t("The connection was lost; your edit continues, and this page keeps trying to reconnect.");
    if (job.id !== this.shown) return;
    if (there) this.notices.withdraw(cutOff);
    else this.notices.warn(cutOff, { label: t("Try now"), act: () => job.reconnect() });
  }

  /** @param {Entry} entry */
  async #showResult(entry) {
    const turn = this.turn;
    const { shown } = this;
    const after = await this.timeline.resultOf(entry);
    const before = this.workspace.photo.photo;
    if (turn !== this.turn || shown !== this.shown || !before) return;
    this.shown = entry.id;
    this.timeline.take(entry.id, after);
    this.notices.clear(); // failures during the run, such as a failed cancel, no longer matter
    this.#setView("result");
    const done = WORDS[entry.task].done;
    this.notices.announce(t("{done}. The arrow keys move the divider between before and after.", { done }));
    await this.result.show(entry, before, after);
  }

  /** @param {View} view */
  #setView(view) {
    this.view = view;
    document.body.dataset.view = view;
    byId("options", HTMLElement).hidden = view !== "edit";
    byId("result-actions", HTMLElement).hidden = view !== "result";
    this.workspace.setView(view);
    if (view !== "work") this.progress.hide();
    this.markFrame();
    this.showPhotoFacts();
  }

  /** Mark the version on the stage in the strip. */
  markFrame() {
    this.#film.mark(this.shown ?? this.timeline.at ?? this.timeline.roll?.id ?? null);
  }

  showRun() {
    const { task, missing } = this.workspace;
    this.settings.show(task, WORDS[task].prompt);
    if (task === "white-balance") this.#showLive();
    this.retouch.show();
    this.hold.show();
    this.#runButton.show(task, this.view, missing === "", this.runner.isSending);
    this.desk.touch();
  }

  /** Show a white balance while its sliders move. */
  async #showLive() {
    if (this.#isLive) return;
    this.#isLive = true;
    try {
      new (await import("./edit/live-balance.js")).LiveBalance(this);
    } catch {
      this.#isLive = false; // offline: the next use asks again
    }
  }

  /** Show the name, size and version of the photo on the stage, or of its result. */
  showPhotoFacts() {
    const { photo } = this.workspace.photo;
    const { roll } = this.timeline;
    const entry = this.view === "result" ? this.history.find(this.shown) : this.timeline.entry;
    if (!photo || !roll) return;
    const version = entry ? ` · ${t("version {number}", { number: entry.number })}` : "";
    for (const id of ["photo-facts", "stage-facts"]) {
      byId(id, HTMLElement).textContent = `${roll.name} · ${photo.width} × ${photo.height}${version}`;
    }
    this.markFrame();
    this.dispatchEvent(new CustomEvent("photo", { detail: roll.name }));
  }
}

/**
 * @param {Event} event
 * @returns {{job: Job, value?: unknown}}
 */
function of(event) {
  return /** @type {CustomEvent} */ (event).detail;
}
