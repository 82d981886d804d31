// The views: what each shows of one model, or of the two that are compared, as functions that draw into a panel.

import { drawOutlines, drawWithin, greyOut, put, ring, tag, writeNames } from "./draw.js";
import { backgroundShown, paintInFront } from "./effects.js";
import { brokenLayer, brokenShareOf, differencesLayer, fillOf, modelsShown, namesOf, outlinesOf } from "./models.js";
import { inside, placeOf } from "./pure/geometry.js";
import { inPixels } from "./pure/words.js";
import { state } from "./state.js";

export const ONLY_ONE = [255, 149, 0]; // as in visualize.py
export const ONLY_OTHER = [64, 169, 255];
export const ANOTHER_PART = [255, 255, 255];
export const BROKEN = [
  [255, 225, 0],
  [0, 0, 0],
]; // in stripes

export const VIEWS = {
  single: { title: "Single", panels: (models) => models.map(parts) },
  slider: { title: "Swipe", panels: (models) => [slider(models)] },
  both: { title: "Side by side", panels: (models) => models.map(namedParts) },
  differences: { title: "Differences", panels: () => [differing] },
};

// What the chosen view's panels show: functions of a context, a panel and the layout that it is of.
export const panelsShown = () => VIEWS[state.view].panels(modelsShown());

// Lays a layer of masks over the photo. Where each of its pixels is large, one is told from the next.
function cover(context, panel, layer, layout) {
  context.imageSmoothingEnabled = layout.scale < 2;
  put(context, panel.whole, layer);
  context.imageSmoothingEnabled = true;
}

const parts = (model) => (context, panel, layout) => {
  if (backgroundShown() !== "keep") {
    paintInFront(context, panel.whole, layout.photo, model);
    return;
  }
  put(context, panel.whole, layout.photo);
  context.globalAlpha = state.opacity / 100;
  cover(context, panel, fillOf(model), layout);
  context.globalAlpha = 1;
  if (state.outlines) drawOutlines(context, outlinesOf(model), panel.whole, state.scene, layout.ratio);
  if (state.raw) cover(context, panel, brokenLayer(model, BROKEN), layout);
  if (state.names) {
    const names = namesOf(model).map((name) => ({ ...name, ...placeOf(name, state.scene, panel) }));
    writeNames(context, names.filter((name) => inside(panel, name)), panel, layout.ratio);
  }
  if (state.told?.point) pointAt(context, panel, layout, state.told.point);
};

// A ring around a pixel that a story tells of, wide enough not to cover it.
function pointAt(context, panel, layout, point) {
  const { x, y } = placeOf(point, state.scene, panel);
  ring(context, x, y, Math.max(18 * layout.ratio, (2 * point.reach * panel.whole.width) / state.scene.width), layout.ratio);
}

// A model's title and, without decoding, how much it breaks.
function nameOf(model) {
  const share = state.raw ? brokenShareOf(model) : null;
  return share === null ? model.title : `${model.title} breaks ${inPixels(share)}`;
}

const namedParts = (model) => (context, panel, layout) => {
  parts(model)(context, panel, layout);
  tag(context, nameOf(model), panel, "left", layout.ratio);
};

const slider =
  ([one, other]) =>
  (context, panel, layout) => {
    const split = Math.round((panel.width * state.split) / 100);
    const right = { ...panel, x: panel.x + split, width: panel.width - split };
    drawWithin(context, { ...panel, width: split }, () => parts(one)(context, panel, layout));
    drawWithin(context, right, () => parts(other)(context, panel, layout));
    handle(context, panel.x + split, panel, layout.ratio);
    const half = panel.width / 2;
    tag(context, nameOf(one), { ...panel, width: half }, "left", layout.ratio);
    tag(context, nameOf(other), { ...panel, x: panel.x + half, width: half }, "right", layout.ratio);
  };

// The line between the two sides, with a knob to take hold of.
function handle(context, x, panel, ratio) {
  const middle = panel.y + panel.height / 2;
  context.fillStyle = "#fff";
  context.fillRect(x - ratio, panel.y, 2 * ratio, panel.height);
  context.beginPath();
  context.arc(x, middle, 13 * ratio, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = "#222";
  for (const way of [-1, 1]) {
    context.beginPath();
    context.moveTo(x + way * 9 * ratio, middle);
    context.lineTo(x + way * 3.5 * ratio, middle - 5 * ratio);
    context.lineTo(x + way * 3.5 * ratio, middle + 5 * ratio);
    context.fill();
  }
}

// The photo without its colours and darkened, so that what is laid over it stands out.
function dimmedPhoto(context, panel, { photo }) {
  put(context, panel.whole, photo);
  greyOut(context, panel);
  context.fillStyle = "rgb(0 0 0 / 0.55)";
  context.fillRect(panel.x, panel.y, panel.width, panel.height);
}

function differing(context, panel, layout) {
  dimmedPhoto(context, panel, layout);
  cover(context, panel, differencesLayer({ 1: ONLY_ONE, 2: ONLY_OTHER, 3: ANOTHER_PART }), layout);
}
