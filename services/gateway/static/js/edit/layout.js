/** Collects the content of the stage for the desk, and shows it again after a reload. */

import { Photo } from "../photo/photo.js";
import { revivedSteps, storedSteps } from "../kept/desk.js";

/**
 * @typedef {import("../kept/desk.js").Layout} Layout
 * @typedef {import("../studio.js").Studio} Studio
 */

/**
 * The content of the stage, or nothing while there is no photo.
 * @param {Studio} studio
 * @returns {Layout | null}
 */
export function layoutOf({ timeline, workspace, settings, shown, retouch }) {
  const { photo, reference } = workspace;
  if (!timeline.roll || !photo.photo) return null;
  const bytes = reference.photo?.upload.source;
  const object = reference.photo && {
    blob: /** @type {Blob} */ (bytes), // an object photo is never a patch
    name: reference.photo.name,
    mask: storedSteps(reference.mask.steps),
  };
  return {
    roll: timeline.roll.id,
    at: timeline.at,
    ahead: timeline.ahead,
    shown,
    task: workspace.task,
    settings: settings.all,
    mask: storedSteps(retouch.withWaiting(photo.mask.steps)),
    reference: object,
    savedAt: 0,
  };
}

/**
 * Show a layout again. Throws ApiError if neither browser nor server has the photo.
 * @param {Studio} studio
 * @param {Layout} layout
 */
export async function showLayout(studio, layout) {
  const { history, workspace, timeline, settings } = studio;
  const entry = history.find(layout.shown);
  const roll = history.rolls.get(layout.roll ?? "");
  settings.restore(layout.settings);
  if (!entry && !roll) return;
  workspace.setTask(layout.task);
  if (layout.reference) await showReference(studio, layout.reference);
  if (entry) {
    await studio.reopen(entry, layout.ahead);
    return;
  }
  if (!roll) return;
  await studio.steps.showVersion(roll, layout.at);
  const pane = workspace.photo;
  if (!pane.photo) return;
  timeline.ahead = layout.ahead;
  pane.mask.restore(await revivedSteps(layout.mask, pane.photo, pane.read));
}

/**
 * @param {Studio} studio
 * @param {NonNullable<Layout["reference"]>} stored
 */
async function showReference({ workspace }, { blob, name, mask }) {
  const photo = await Photo.open(blob, name);
  workspace.showReference(photo);
  workspace.reference.mask.restore(await revivedSteps(mask, photo, workspace.reference.read));
}
