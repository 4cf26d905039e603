/** Removal at the release of the brush: strokes queue, each is applied to the result of the one before. */

import { NOTHING } from "../marking/mask.js";
import { exportMask } from "../marking/raster.js";
import { byId } from "../page/dom.js";
import { expirySentence, jobSentence, PlainError } from "../page/failures.js";
import { t } from "../page/texts.js";
import { waitForEnd } from "../server/job.js";
import { Upload, withStored } from "../server/upload.js";

/**
 * @typedef {import("../kept/history.js").Roll} Roll
 * @typedef {import("../marking/mask.js").MaskState} MaskState
 * @typedef {import("../marking/mask.js").Point} Point
 * @typedef {import("../marking/mask.js").Steps} Steps
 * @typedef {import("../photo/photo.js").Photo} Photo
 * @typedef {import("../server/job.js").Job} Job
 * @typedef {import("../studio.js").Studio} Studio
 * @typedef {{roll: Roll, at: string | null, photo: Photo}} Base  the newest version of a chain of strokes
 * @typedef {{state: MaskState, base: Base}} Stroke
 */

const KEY = "artmancer.quick";

/** The switch is on by default if an edit is quick. The browser keeps the choice of the person. */
export class Retouch {
  /** The first stroke runs, the others wait.
   * @type {Stroke[]} */
  #strokes = [];
  /** @type {Job | null} */
  #job = null;
  #isAtWork = false;
  #switch = byId("quick", HTMLInputElement);
  #choice = storedChoice();

  /** @param {Studio} studio */
  constructor(studio) {
    this.studio = studio;
    const pane = studio.workspace.photo;
    pane.addEventListener("stroke", () => this.isOn && this.#take());
    pane.isTakenBy = (point) => this.isOn && pane.isMarked && Boolean(pane.raster?.isCovered(point)) && this.#take();
    this.#switch.addEventListener("change", () => this.#choose(this.#switch.checked));
  }

  /** Whether the end of a stroke starts its removal. */
  get isOn() {
    return this.studio.workspace.task === "removal" && this.studio.view === "edit" && this.#switch.checked;
  }

  /**
   * Whether a job is one of its strokes.
   * @param {string} id
   */
  runs(id) {
    return this.#job?.id === id;
  }

  /** Whether strokes wait or run. */
  get waits() {
    return this.#strokes.length > 0;
  }

  /** Show the switch where it applies. */
  show() {
    const { task, active, photo } = this.studio.workspace;
    byId("quick-field", HTMLElement).hidden = task !== "removal" || active !== photo || !photo.photo;
    this.#choice ??= this.studio.capabilities.isKnown ? this.studio.capabilities.isQuick("removal") : null;
    this.#switch.checked = this.#choice ?? false;
    const waiting = this.#strokes.length;
    this.studio.workspace.busyText = waiting ? removing(waiting - 1) : this.studio.runner.doing;
  }

  /**
   * Take the newest stroke back. Returns whether there was one that was not done yet.
   */
  undo() {
    if (!this.waits) return false;
    if (this.#strokes.length > 1) this.#strokes.pop();
    else this.#job?.cancel().catch((error) => this.studio.notices.fail(error));
    this.#showWaiting();
    return true;
  }

  /**
   * The steps of a mask with the strokes that are not done, so that a reload does not lose them.
   * @param {Steps} steps
   * @returns {Steps}
   */
  withWaiting(steps) {
    if (!this.waits) return steps;
    const state = {
      ...steps.state,
      marks: [...this.#strokes.flatMap(({ state: { marks } }) => marks), ...steps.state.marks],
    };
    return { state, past: [NOTHING], future: [] };
  }

  /** Take the marked area as a stroke. */
  #take() {
    const { workspace, timeline } = this.studio;
    const { photo, mask } = workspace.photo;
    if (!photo || !timeline.roll) return false;
    const last = this.#strokes.at(-1)?.base;
    const base = last && timeline.shows(last) ? last : { roll: timeline.roll, at: timeline.at, photo };
    this.#strokes.push({ state: mask.state, base });
    timeline.ahead = [];
    mask.reset();
    this.#showWaiting();
    if (!this.#isAtWork) this.#work();
    return true;
  }

  async #work() {
    this.#isAtWork = true;
    this.studio.notices.clear();
    try {
      while (this.#strokes.length) {
        await this.#apply(this.#strokes[0]);
        this.#strokes.shift();
        this.#showWaiting();
      }
    } catch (error) {
      this.#giveBack(error);
    } finally {
      this.#isAtWork = false;
    }
  }

  /** @param {Stroke} stroke */
  async #apply({ state, base }) {
    const { history, runs, settings, timeline, workspace, vault } = this.studio;
    const found = state.candidates[state.chosen];
    const isAsFound = found?.blob && !state.marks.length && !state.grow;
    const mask =
      isAsFound && found.blob ? new Upload(found.blob, found.sha256) : new Upload(await exportMask(state, base.photo));
    const facts = {
      roll: base.roll.id,
      parent: base.at,
      name: base.roll.name,
      thumb: base.photo.thumbnail(),
      quick: true,
    };
    const chosen = settings.chosenFor("removal");
    const submit = (/** @type {string} */ image, /** @type {string} */ masked) => {
      // The same stroke may be done already: the connection was lost before its pixels arrived.
      const done = history.entries.find(
        (entry) =>
          entry.quick &&
          entry.status === "done" &&
          entry.roll === facts.roll &&
          entry.parent === facts.parent &&
          entry.mask === masked &&
          JSON.stringify(entry.settings) === JSON.stringify(chosen),
      );
      if (done) return runs.follow(done.id);
      const order = { task: "removal", image, mask: masked, ...chosen, mask_tool: "brush", class: "interactive" };
      return runs.begin(order, facts);
    };
    const job = (this.#job = await withStored([base.photo.upload, mask], submit));
    mask.blob().then((blob) => vault.keep(mask.sha256, blob));
    await waitForEnd(job);
    if (job.standing.status === "cancelled") return;
    if (job.standing.status === "expired") throw new PlainError(expirySentence());
    if (job.standing.status !== "done") throw new PlainError(jobSentence(job.standing.error));
    const result = await timeline.photoOf(job.id, base.roll);
    history.update(job.id, { thumb: result.thumbnail() });
    const isOnStage = timeline.shows(base) && this.studio.view === "edit";
    base.at = job.id;
    base.photo = result;
    if (!isOnStage) return;
    timeline.go(base.roll, job.id);
    workspace.photo.replace(result);
    this.studio.showPhotoFacts();
  }

  /**
   * Mark all strokes again after a failure, so that the person can try again with one click.
   * @param {unknown} error
   */
  #giveBack(error) {
    const { notices } = this.studio;
    const strokes = this.#strokes.splice(0);
    this.#showWaiting();
    for (const base of new Set(strokes.map((stroke) => stroke.base))) {
      this.#markAgain(
        base,
        strokes.filter((stroke) => stroke.base === base).map(({ state }) => state),
      );
    }
    notices.warn(notices.reason(error), { label: t("Try again"), act: () => this.#tryAgain(strokes[0].base) });
  }

  /**
   * Add strokes to the mask of their version, which may not be on the stage any more.
   * @param {Base} base
   * @param {MaskState[]} states
   */
  #markAgain(base, states) {
    const { timeline, workspace } = this.studio;
    const { mask } = workspace.photo;
    const isOnStage = timeline.shows(base);
    const present = (isOnStage ? mask.state : timeline.left(base)?.state) ?? NOTHING;
    const found = states.find(({ candidates }) => candidates.length) ?? present;
    const state = { ...found, marks: [...states.flatMap(({ marks }) => marks), ...present.marks] };
    if (isOnStage) mask.restore({ state });
    else timeline.leave({ state, past: [NOTHING], future: [] }, base);
  }

  /** @param {Base} base */
  async #tryAgain(base) {
    const { steps, timeline, workspace } = this.studio;
    if (!timeline.shows(base)) await steps.showVersion(base.roll, base.at);
    if (timeline.shows(base) && workspace.photo.isMarked) this.#take();
  }

  #showWaiting() {
    const { workspace, timeline } = this.studio;
    const here = this.#strokes.filter(({ base }) => base.roll.id === timeline.roll?.id);
    workspace.photo.waiting.show(
      here.map(({ state }) => state),
      workspace.photo.photo,
    );
    workspace.refresh();
  }

  /** @param {boolean} isOn */
  #choose(isOn) {
    this.#choice = isOn;
    try {
      localStorage.setItem(KEY, isOn ? "on" : "off");
    } catch {
      // storage is blocked: the choice lasts until the page is closed
    }
  }
}

/** @param {number} more  strokes that wait */
function removing(more) {
  if (more === 0) return t("Removing…");
  return more === 1
    ? t("Removing… one more stroke waits.")
    : t("Removing… {count} more strokes wait.", { count: more });
}

/** @returns {boolean | null} */
function storedChoice() {
  try {
    const stored = localStorage.getItem(KEY);
    return stored === null ? null : stored === "on";
  } catch {
    return null; // storage is blocked
  }
}
