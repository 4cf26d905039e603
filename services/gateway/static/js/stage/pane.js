/** One photo with its mask: shows both, applies the tools, and requests masks from the server. */

import { findMasks } from "../server/api.js";
import { Candidate } from "../marking/candidate.js";
import { Crosshair } from "./crosshair.js";
import { inside } from "../page/dom.js";
import { Gestures } from "./gestures.js";
import { HoverOutline } from "./hover.js";
import { clicksLayer, maskLayer, pictureLayer } from "./layers.js";
import { Mask, NOTHING } from "../marking/mask.js";
import { Pen } from "../marking/pen.js";
import { exportMask, Raster } from "../marking/raster.js";
import { Stage } from "./stage.js";
import { BoxTool, BrushTool, ClickTool } from "../marking/tools.js";
import { WaitingStrokes } from "../marking/waiting.js";
import { Upload, withStored } from "../server/upload.js";

/**
 * @typedef {import("../server/api.js").Prompt} Prompt
 * @typedef {import("../marking/mask.js").MaskState} MaskState
 * @typedef {import("../marking/mask.js").Point} Point
 * @typedef {import("../marking/mask.js").Box} Box
 * @typedef {import("../marking/mask.js").Click} Click
 * @typedef {import("../photo/photo.js").Photo} Photo
 * @typedef {import("../marking/tools.js").Tool} Tool
 * @typedef {import("../marking/tools.js").ToolOptions} ToolOptions
 * @typedef {"click" | "box" | "brush" | "eraser"} ToolName
 * @typedef {"mark" | "work" | "look"} Mode  the tools mark; an edit runs; only the photo is of interest
 * @typedef {{tool: Tool | null, layers: import("./stage.js").Layer[]}} Cover
 */

const CANDIDATES = 3;

/** Fires `change` (photo or mask), `found`, `busy`, `note`, `failure` (detail), and `stroke` after a first stroke. */
export class Pane extends EventTarget {
  mask = new Mask();
  /** @type {Photo | null} */
  photo = null;
  /** @type {Raster | null} */
  raster = null;
  /** @type {ToolName} */
  toolName = "click";
  /** @type {Mode} */
  mode = "mark";
  /** A box marks its whole area, instead of the object in it. */
  boxIsArea = false;
  opacity = 0.55;
  /** The mask exists but is hidden. */
  hidesMask = false;
  busy = false;
  /** @type {CanvasImageSource | null} shown instead of the photo's own pixels */
  live = null;
  /** Whether other code has used a click at this point.
   * @type {(point: Point) => boolean} */
  isTakenBy = () => false;
  /** Shown and used instead of photo, mask and tools.
   * @type {Cover | null} */
  #cover = null;
  /** @type {HoverOutline} */
  #hover;
  /** @type {Click | null} */
  #pending = null;
  /** @type {AbortController | null} */
  #asking = null;
  /** Resolves when no request is pending.
   * @type {Promise<unknown>} */
  #finding = Promise.resolve();

  /**
   * @param {HTMLElement} element
   * @param {ToolOptions} options
   * @param {(sha256: string) => Promise<Blob>} read  an image of the server
   * @param {(text: string) => void} announce
   */
  constructor(element, options, read, announce) {
    super();
    this.element = element;
    this.read = read;
    this.stage = new Stage(inside(element, "canvas", HTMLCanvasElement));
    const tool = () => this.#tool();
    this.waiting = new WaitingStrokes(() => this.opacity, this.stage);
    this.gestures = new Gestures(this.stage, tool);
    this.crosshair = new Crosshair(this.stage, () => (this.#cover ? null : tool()), announce);
    const stroke = () => this.dispatchEvent(new Event("stroke"));
    const pen = (/** @type {boolean} */ erase) => new Pen(this.mask, () => this.raster, erase, stroke);
    /** @type {Record<ToolName, Tool>} */
    this.tools = {
      click: new ClickTool(options, (point, positive) => this.#click(point, positive)),
      box: new BoxTool((box) => this.#box(box)),
      brush: new BrushTool(options, pen(false)),
      eraser: new BrushTool(options, pen(true)),
    };
    /** @type {import("./stage.js").Layer[]} */
    this.layers = [
      pictureLayer(
        () => this.live ?? this.photo?.preview ?? null,
        () => !!this.live,
      ),
      maskLayer(
        () => this.raster,
        () => this.#look(),
        () => this.stage.animate(),
      ),
      this.waiting.layer,
      (context, view) => this.#hover.paint(context, view),
      clicksLayer(() => this.#clicks()),
      (context, view) => tool()?.paint(context, view, this.crosshair.visible ? this.crosshair.at : this.gestures.hover),
      (context, view) => this.crosshair.paint(context, view),
    ];
    this.#hover = new HoverOutline(this);
    this.stage.layers = this.layers;
    this.mask.addEventListener("change", () => this.#maskChanged());
  }

  /**
   * Show a layer over the photo, or remove it.
   * @param {Cover | null} cover
   */
  cover(cover) {
    this.#cover = cover;
    this.stage.layers = cover?.layers ?? this.layers;
    this.stage.repaint();
  }

  /**
   * Show another photo, with an empty mask.
   * @param {Photo} photo
   */
  show(photo) {
    this.stop();
    this.#hover.clear();
    this.photo = photo;
    this.raster = new Raster(photo);
    this.stage.setPhoto(photo.width, photo.height);
    this.crosshair.centre(photo.width, photo.height);
    this.mask.reset();
  }

  /**
   * Show another version of the same photo; view and mask stay.
   * @param {Photo} photo
   */
  replace(photo) {
    const isSameSize = photo.width === this.photo?.width && photo.height === this.photo.height;
    if (isSameSize) this.photo = photo;
    else this.show(photo);
    this.stage.repaint();
  }

  /** Find the main object of the photo. */
  auto() {
    return this.#find({ auto: true }, { clicks: [], box: null });
  }

  /** Find the object under a rough mask. */
  async snap() {
    try {
      const mask = await (await this.maskUpload())?.send();
      if (mask) await this.#find({ mask }, { clicks: [], box: null, marks: [], grow: 0 });
    } catch (error) {
      this.#fail(error);
    }
  }

  /**
   * Use another candidate.
   * @param {number} chosen
   */
  async choose(chosen) {
    try {
      await this.mask.state.candidates[chosen].load();
      this.mask.commit({ chosen });
    } catch (error) {
      this.#fail(error);
    }
  }

  /**
   * Use a mask that is stored on the server. Undo leads to the empty mask.
   * @param {string} sha256
   */
  async adopt(sha256) {
    if (!this.photo) return;
    const candidate = new Candidate(sha256, this.photo.preview, this.read);
    await candidate.load();
    this.mask.restore({ state: { ...NOTHING, candidates: [candidate] } });
  }

  /**
   * Preview the mask grown by another amount.
   * @param {number} px  of the photo
   */
  tryGrowth(px) {
    this.raster?.render({ ...this.mask.state, grow: px });
    this.stage.repaint();
  }

  /** @param {Mode} mode */
  setMode(mode) {
    if (mode !== "mark") this.stop();
    this.mode = mode;
    this.stage.repaint();
  }

  /** Whether there is a photo to work on. */
  get isMarked() {
    return !this.mask.isBlank && (this.raster?.coverage ?? 0) > 0;
  }

  /**
   * The mask for the server, or nothing if nothing is marked. Waits for a pending request.
   * @returns {Promise<Upload | null>}
   */
  async maskUpload() {
    await this.#finding;
    const { photo, mask } = this;
    if (!photo || !this.isMarked) return null;
    const { found, state } = mask;
    if (found?.blob && mask.isAsFound) return new Upload(found.blob, found.sha256);
    return new Upload(await exportMask(state, photo));
  }

  /** Stop waiting for the server. */
  stop() {
    this.#asking?.abort();
    this.#asking = null;
    this.#pending = null;
    this.#setBusy(false);
  }

  repaint() {
    this.stage.repaint();
  }

  #tool() {
    if (this.#cover) return this.#cover.tool;
    return this.photo && this.mode === "mark" ? this.tools[this.toolName] : null;
  }

  #look() {
    return { opacity: this.hidesMask || this.mode === "look" ? 0 : this.opacity, working: this.mode === "work" };
  }

  #clicks() {
    if (this.hidesMask || this.mode !== "mark") return [];
    const { clicks } = this.mask.state;
    return this.#pending ? [...clicks, { ...this.#pending, pending: true }] : clicks;
  }

  /**
   * @param {Point} point
   * @param {boolean} positive
   */
  #click([x, y], positive) {
    if (positive && this.isTakenBy([x, y])) return;
    const { state } = this.mask;
    const clicks = [...state.clicks, { x, y, positive }];
    this.#pending = { x, y, positive };
    const box = state.box ? { box: state.box } : {};
    this.#find({ points: clicks.map((one) => [one.x, one.y, one.positive ? 1 : 0]), ...box }, { clicks });
  }

  /** @param {Box} box */
  #box(box) {
    if (this.boxIsArea) this.mask.mark({ kind: "rectangle", box });
    else this.#find({ box }, { clicks: [], box });
  }

  /**
   * @param {Prompt} prompt
   * @param {Partial<MaskState>} changes  to the mask, when the answer is there
   */
  #find(prompt, changes) {
    const asked = this.#ask(prompt, changes);
    asked.then((found) => found && this.#findMore(prompt, found));
    this.#finding = asked;
    return asked;
  }

  /**
   * Request further candidates. They take longer and are shown when they arrive.
   * @param {Prompt} prompt
   * @param {Candidate} found
   */
  async #findMore(prompt, found) {
    const { photo } = this;
    const { candidates } = this.mask.state;
    if (!photo || prompt.box || candidates[0] !== found) return;
    const asking = (this.#asking = new AbortController());
    try {
      const answer = await findMasks(photo.upload.sha256, prompt, CANDIDATES, asking.signal);
      const others = answer.candidates.filter(({ sha256 }) => sha256 !== found.sha256);
      this.mask.offer(candidates, [
        found,
        ...others.map(({ sha256 }) => new Candidate(sha256, photo.preview, this.read)),
      ]);
    } catch {
      // the shown mask does not need them
    }
  }

  /**
   * @param {Prompt} prompt
   * @param {Partial<MaskState>} changes
   * @returns {Promise<Candidate | null>}
   */
  async #ask(prompt, changes) {
    const { photo } = this;
    if (!photo) return null;
    this.#asking?.abort();
    const asking = (this.#asking = new AbortController());
    this.#setBusy(true);
    try {
      const answer = await withStored([photo.upload], (image) => findMasks(image, prompt, 1, asking.signal));
      const found = new Candidate(answer.candidates[0].sha256, photo.preview, this.read);
      await found.load();
      if (asking.signal.aborted) return null;
      this.#pending = null;
      this.mask.commit({ ...changes, candidates: [found], chosen: 0 });
      this.dispatchEvent(new Event("found"));
      if (answer.note) this.dispatchEvent(new CustomEvent("note", { detail: answer.note }));
      return found;
    } catch (error) {
      if (!asking.signal.aborted) this.#fail(error);
      return null;
    } finally {
      if (this.#asking === asking) this.stop();
    }
  }

  /** @param {unknown} error */
  #fail(error) {
    this.dispatchEvent(new CustomEvent("failure", { detail: error }));
  }

  /** @param {boolean} busy */
  #setBusy(busy) {
    this.busy = busy;
    this.dispatchEvent(new Event("busy"));
    this.stage.repaint();
  }

  #maskChanged() {
    this.raster?.render(this.mask.state);
    this.stage.repaint();
    this.dispatchEvent(new Event("change"));
  }
}
