/** Starts the page: connects its controls and keys to the studio, and shows a first photo. */

import { listSamples, readFile } from "./server/api.js";
import { byId } from "./page/dom.js";
import { Intake } from "./photo/intake.js";
import { Picker } from "./photo/picker.js";
import { offerInstallation } from "./page/install.js";
import { Sheet } from "./page/sheet.js";
import { listenForKeys } from "./page/shortcuts.js";
import { Studio } from "./studio.js";
import { language, switchLanguage, t } from "./page/texts.js";
import { toggleTheme } from "./page/theme.js";

/**
 * @typedef {import("./server/api.js").Sample} Sample
 * @typedef {import("./server/api.js").Task} Task
 * @typedef {import("./stage/pane.js").Pane} Pane
 */

/** The first photo, shown before any response of the server. */
const FIRST = { name: "rocket", url: "static/samples/rocket.jpg" };
const ZOOM_STEP = 1.4;
const VARIATIONS = 3;

const studio = new Studio();
const { notices, workspace } = studio;
const { toolbox } = workspace;
addEventListener("error", (event) => notices.fail(event.error));
addEventListener("unhandledrejection", (event) => notices.fail(event.reason));

const intake = new Intake(
  ([file, ...further], on, others) => {
    open(() => file, file.name || t("photo"), paneOf(on));
    studio.queue(further, others);
  },
  (error) => notices.fail(error),
);
const pickers = [picker("photo-picker", workspace.photo), picker("reference-picker", workspace.reference)];
studio.addEventListener("photo", (event) => pickers[0].mark(/** @type {CustomEvent} */ (event).detail));

new Sheet();
connectControls();
connectZoom();
connectKeys();
await showFirst();
offerInstallation();

/**
 * Open the chosen photo.
 * @param {() => Promise<Blob> | Blob} read
 * @param {string} name
 * @param {Pane} pane
 */
function open(read, name, pane) {
  notices.clear();
  studio.open(read, name, pane);
}

/**
 * The target pane of a photo.
 * @param {Element | null} on  where it was dropped or asked for; none: the pane in use
 */
function paneOf(on) {
  if (workspace.task !== "insertion") return workspace.photo;
  if (on && workspace.photo.element.contains(on)) return workspace.photo;
  if (on && workspace.reference.element.contains(on)) return workspace.reference;
  return on ? workspace.photo : workspace.active;
}

/**
 * @param {string} id
 * @param {Pane} pane
 */
function picker(id, pane) {
  const element = byId(id, HTMLElement);
  const take = (/** @type {{name: string, url: string}} */ { name, url }) => open(() => readFile(url), name, pane);
  return new Picker(element, () => intake.ask(element), take);
}

/**
 * @param {string} id
 * @param {() => void} act
 */
function onClick(id, act) {
  byId(id, HTMLElement).addEventListener("click", act);
}

function connectControls() {
  onClick("open-photo", () => intake.ask(workspace.photo.element));
  onClick("theme", toggleTheme);
  const other = byId("language", HTMLElement);
  if (language === "de") Object.assign(other, { textContent: "EN", lang: "en", ariaLabel: "English" });
  other.addEventListener("click", switchLanguage);
  onClick("show-keys", showKeys);
  onClick("three", () => studio.runner.run(VARIATIONS));
  onClick("cancel", () => studio.runner.cancel());
  onClick("leave-result", () => studio.steps.undo());
  onClick("continue-result", () => studio.continueEditing());
  byId("settings", HTMLFormElement).addEventListener("submit", (event) => {
    event.preventDefault();
    studio.runner.run();
  });
  byId("tasks", HTMLElement).addEventListener("change", (event) => {
    if (event.target instanceof HTMLInputElement) studio.setTask(/** @type {Task} */ (event.target.value));
  });
}

function showKeys() {
  byId("keys", HTMLDialogElement).showModal();
}

function connectZoom() {
  const text = byId("zoom-text", HTMLElement);
  for (const pane of [workspace.photo, workspace.reference]) {
    pane.stage.addEventListener("view", () => {
      const percent = `${Math.round(workspace.active.stage.view.scale * 100)} %`;
      text.textContent = percent;
      text.setAttribute("aria-label", t("{percent}; fit the photo to the window", { percent }));
    });
  }
  for (const button of document.querySelectorAll("[data-zoom]")) {
    button.addEventListener("click", () => zoom(button instanceof HTMLElement ? button.dataset.zoom : ""));
  }
}

/** @param {string | undefined} how */
function zoom(how) {
  const { stage } = workspace.active;
  if (how === "fit") stage.view.fit();
  else stage.view.zoomAt(how === "in" ? ZOOM_STEP : 1 / ZOOM_STEP);
  stage.moved();
}

/** @param {boolean} moving */
function setMoving(moving) {
  for (const pane of [workspace.photo, workspace.reference]) pane.gestures.moving = moving;
}

function connectKeys() {
  const act = (/** @type {string} */ action) => () => toolbox.act(action);
  const hide = () => {
    workspace.active.hidesMask = !workspace.active.hidesMask;
    workspace.active.repaint();
  };
  listenForKeys({
    c: () => toolbox.choose("click"),
    r: () => toolbox.choose("box"),
    b: () => toolbox.choose("brush"),
    e: () => toolbox.choose("eraser"),
    x: () => toolbox.setSign(!toolbox.options.adds),
    "[": () => toolbox.resizeBrush(-1),
    "]": () => toolbox.resizeBrush(1),
    a: act("auto"),
    "ctrl+z": act("undo"),
    "ctrl+shift+z": act("redo"),
    "ctrl+y": act("redo"),
    delete: act("clear"),
    backspace: act("clear"),
    h: hide,
    o: () => intake.ask(workspace.active.element),
    "+": () => zoom("in"),
    "=": () => zoom("in"),
    "-": () => zoom("out"),
    0: () => zoom("fit"),
    " ": () => setMoving(true),
    "?": showKeys,
    "ctrl+s": () => studio.result.download.save(),
    "ctrl+c": () => (studio.view === "result" && !String(getSelection()) ? studio.result.download.copy() : false),
    "ctrl+enter": () => studio.runner.run(),
    escape: () => (studio.view === "result" ? studio.steps.undo() : notices.clear()),
  });
  addEventListener("keyup", (event) => event.key === " " && setMoving(false));
}

async function showFirst() {
  const [, samples] = await Promise.allSettled([openFirst(), listSamples()]);
  if (samples.status === "rejected") notices.fail(samples.reason);
  else for (const one of pickers) one.fill(samples.value);
  pickers[0].mark(workspace.photo.photo?.name ?? "");
}

/** Resume a running edit instead of opening a sample. */
async function openFirst() {
  const first = readFile(FIRST.url); // at the same time as the browser's database is read
  first.catch(() => {}); // reported only if it is needed
  if (!(await studio.resume())) await studio.open(() => first, FIRST.name, workspace.photo);
}
