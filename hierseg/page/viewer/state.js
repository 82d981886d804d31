// What is shown: a scene, and what a visitor chose to see of it. All modules read `state`; it is written here alone, by
// functions that have the page drawn again.

import { WHOLE } from "./pure/geometry.js";
import { NO_RISK } from "./pure/risk.js";

const SETTINGS = {
  split: 50,
  opacity: 55,
  threshold: null, // the checkpoint's own
  risk: NO_RISK,
  outlines: true,
  names: false,
  background: "keep",
  color: "#ffffff",
  subject: null,
};

export const state = {
  scene: null, // see scene.js; null while there is none
  view: "single", // of VIEWS in views.js
  raw: false, // whether raw scores are shown, without decoding
  checkpoint: null, // the one that is looked at alone
  first: null, // the two that are compared
  second: null,
  level: null,
  truth: null, // {map, note} where a ground truth is beside the scene; without a map where it does not fit
  ...SETTINGS, // `subject`: the node in front of the background; null for whoever is found
  backdrop: null, // a picture to put behind
  zoom: WHOLE, // see pure/geometry.js
  hidden: new Set(), // nodes that a visitor unticked
  pointed: null, // the node whose block of the tree a mouse is over, or that has the keyboard
  probe: null, // {column, row} of the photo that is read out, in which panel, and whether it is pinned there
  told: null, // the step of the story that is shown, see pure/story.js
};

// What a story is told of, besides what its steps show.
const PLAIN = { split: 50, threshold: null, risk: NO_RISK, background: "keep", hidden: new Set(), zoom: WHOLE };

let before = null; // what a visitor chose of all that, while a story shows something else
let draw = () => {};
let drawPicture = () => {};

export function drawWith(drawAll, drawPictureAlone) {
  draw = drawAll;
  drawPicture = drawPictureAlone;
}

export function redraw() {
  if (state.scene) draw();
}

export function change(changes) {
  set(changes);
  redraw();
}

// What is changed while a story is told, or since it was left, is not undone with it.
function set(changes) {
  Object.assign(state, changes);
  for (const key of Object.keys(before ?? {})) if (key in changes) before[key] = changes[key];
}

// Zooms the picture. What is beside it does not change, so it is not drawn again: fingers move often.
export function zoomTo(zoom) {
  set({ zoom });
  if (state.scene) drawPicture();
}

export const reset = () => change({ ...SETTINGS, hidden: new Set() });
export const canReset = () => state.hidden.size > 0 || Object.keys(SETTINGS).some((key) => state[key] !== SETTINGS[key]);

// Shows a step of a story. What a visitor chose comes back when the story ends, with the next choice, or with another scene.
export function tell(step) {
  const lent = ["view", "raw", "checkpoint", "first", "second", "level", ...Object.keys(PLAIN)];
  before ??= Object.fromEntries(lent.map((key) => [key, state[key]]));
  Object.assign(state, PLAIN, { pointed: null, ...step.show, told: step });
  redraw();
}

export function endTelling(goBack) {
  const changes = { ...(goBack ? before : {}), told: null };
  if (goBack) before = null;
  change(changes);
}

// What is seen of a scene before anything is chosen.
export function usual({ offered, levels }) {
  const [first, second] = offered.map((checkpoint) => checkpoint.name);
  const chosen = { view: "single", raw: false, checkpoint: first, first, second, level: levels.at(-1) };
  return { ...chosen, ...SETTINGS, hidden: new Set() };
}

// Shows a scene; what was chosen before stays chosen where it can.
export function showScene(scene) {
  Object.assign(state, before, { told: null });
  before = null;
  const names = scene.offered.map((checkpoint) => checkpoint.name);
  const { checkpoint, first, second, level, view } = state;
  const comparable = names.includes(first) && names.includes(second);
  change({
    scene,
    truth: null,
    zoom: state.scene?.moving && scene.moving ? state.zoom : WHOLE,
    view: names.length < 2 ? "single" : view,
    checkpoint: names.includes(checkpoint) ? checkpoint : names[0],
    first: comparable ? first : names[0],
    second: comparable ? second : names[1],
    level: scene.levels.includes(level) ? level : scene.levels.at(-1),
  });
}

export function showNothing() {
  Object.assign(state, { scene: null, probe: null });
}

// Takes a choice among the views, the levels, the checkpoints, for the first or second of two that are compared, or for
// or against decoding. After a story, everything else is as the visitor left it, but for what the choice is made in.
export function choose(kind, value) {
  const { view } = state;
  const { first, second } = kind === "first" || kind === "second" || !before ? state : before;
  const changes = { ...before, first, second, ...(kind === "level" ? {} : { view }), told: null, [kind]: value };
  before = null;
  if (kind === "first" && value === second) changes.second = first; // no checkpoint is compared with itself
  if (kind === "second" && value === first) changes.first = second;
  // Whoever is looked at alone also takes part in the comparison.
  if (kind === "checkpoint" && value !== first && value !== second) changes.second = value;
  change(changes);
}

// Shows or hides a node and all below it; what is above a node that is shown is shown too.
export function tick(node, shown) {
  const hidden = new Set(state.hidden);
  if (shown) for (const member of state.scene.nodes[node].path) hidden.delete(member);
  else hidden.add(node);
  change({ hidden, pointed: null }); // or the mouse, still over the row, would keep on the picture what was taken off
}

export function pointAt(node) {
  if (state.pointed !== node) change({ pointed: node });
}

// Chooses what is read out. Nothing but the cross changes on the picture, so it is not all drawn again.
export function probeAt(probe) {
  state.probe = probe;
}
