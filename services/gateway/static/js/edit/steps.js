/** Undo and redo over strokes and edits, and the way to any version. */

import { t } from "../page/texts.js";
import { WORDS } from "./tasks.js";

/**
 * @typedef {import("../kept/history.js").Entry} Entry
 * @typedef {import("../kept/history.js").Roll} Roll
 * @typedef {import("../studio.js").Studio} Studio
 */

/** Moves the stage between versions. */
export class Steps {
  /** @param {Studio} studio */
  constructor(studio) {
    this.studio = studio;
  }

  /**
   * Show the photo, the mask and the settings of an edit. Throws ApiError if neither browser nor server has the photo.
   * @param {Entry} entry
   */
  async showBefore(entry) {
    const { photo, roll } = await this.studio.timeline.before(entry);
    this.studio.toEditing();
    this.studio.timeline.go(roll, entry.parent);
    this.studio.settings.restore(entry.settings);
    await this.studio.workspace.restore(entry, photo, this.studio.timeline.madeWith(entry.id));
    this.studio.showPhotoFacts();
  }

  /**
   * Show a version as the photo to edit. Without a version, show the photo as it was opened.
   * @param {Roll} roll
   * @param {string | null} at
   */
  async showVersion(roll, at) {
    const turn = ++this.studio.turn;
    try {
      const photo = await this.studio.timeline.photoOf(at, roll);
      if (turn !== this.studio.turn) return;
      this.studio.timeline.leave(this.studio.workspace.photo.mask.steps);
      this.studio.timeline.go(roll, at);
      this.studio.toEditing();
      this.studio.workspace.show(photo, this.studio.workspace.photo);
      const left = this.studio.timeline.left();
      if (left) this.studio.workspace.photo.mask.restore(left);
      this.studio.showPhotoFacts();
    } catch (error) {
      this.studio.notices.fail(error);
    }
  }

  get canUndo() {
    if (this.studio.view === "work") return false;
    return (
      this.studio.view === "result" ||
      this.studio.retouch.waits ||
      this.studio.workspace.active.mask.canUndo ||
      this.studio.timeline.at !== null
    );
  }

  get canRedo() {
    if (this.studio.view === "work") return false;
    return (
      (this.studio.view === "edit" && this.studio.workspace.active.mask.canRedo) ||
      this.studio.timeline.ahead.length > 0
    );
  }

  /** Step back: a stroke, and before the first stroke the edit that made this version. */
  async undo() {
    const { entry, ahead } = this.studio.timeline;
    if (!this.canUndo || this.studio.retouch.undo()) return;
    if (this.studio.view === "result") {
      if (this.studio.shown) this.studio.timeline.ahead = [this.studio.shown, ...ahead];
      this.studio.toEditing();
    } else if (this.studio.workspace.active.mask.canUndo) {
      this.studio.workspace.active.mask.undo();
    } else if (entry) {
      const further = [entry.id, ...ahead];
      this.studio.timeline.leave(this.studio.workspace.photo.mask.steps);
      await this.showBefore(entry).then(
        () => (this.studio.timeline.ahead = further),
        (error) => this.studio.notices.fail(error),
      );
      if (entry.quick) this.studio.workspace.photo.mask.reset();
      this.studio.notices.announce(t("Undone: {edit}.", { edit: WORDS[entry.task].done }));
    }
    this.studio.workspace.refresh();
  }

  /** Step forward again. */
  async redo() {
    if (!this.canRedo) return;
    if (this.studio.view === "edit" && this.studio.workspace.active.mask.canRedo) {
      this.studio.workspace.active.mask.redo();
      return;
    }
    const [next, ...further] = this.studio.timeline.ahead;
    const entry = this.studio.history.find(next);
    const { roll } = this.studio.timeline;
    if (!entry || !roll)
      this.studio.timeline.ahead = further; // the browser has forgotten it meanwhile
    else if (entry.quick) await this.showVersion(roll, entry.id).then(() => (this.studio.timeline.ahead = further));
    else await this.studio.reopen(entry, further);
    this.studio.workspace.refresh();
  }
}
