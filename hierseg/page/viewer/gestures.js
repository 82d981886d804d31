// Gestures on the picture: zoom by wheel, pinch, double click, keys and buttons; a drag that pans, or moves the swipe's line;
// and full screen. Other listeners of the canvas do not hear of a press that moves, so that it is no click to them.

import { find, findAll } from "./page.js";
import { CLOSEST, WHOLE, clamp } from "./pure/geometry.js";
import { placeOfProbe, shareAcross, zoomBy } from "./stage.js";
import { change, redraw, state, zoomTo } from "./state.js";

const STEP = 1.5; // by a key or a button
const CLOSE_UP = 3; // by a double click
const SLACK = 5; // pixels that a hand trembles
const REACH = 24; // pixels at either side of the swipe's line
const KEYS = { "+": "in", "=": "in", "-": "out", 0: "whole" };
const ACTS = {
  in: () => zoomBy(STEP, lookedAt()),
  out: () => zoomBy(1 / STEP, lookedAt()),
  whole: () => zoomTo(WHOLE),
  screen: () => (document.fullscreenElement ? document.exitFullscreen() : find(".viewer").requestFullscreen()),
};

let pressed = new Map(); // where each pointer is that is down
let swiping = false;
let moved = false; // the pointers that are down, or were last, made a gesture
let clicked = null; // the click before, which may be half of a double click

export function connect() {
  pressed = new Map();
  const canvas = find(".stage canvas");
  const listen = (kinds, act) => {
    const attend = (event) => state.scene && act(event, canvas);
    for (const kind of kinds.split(" ")) canvas.addEventListener(kind, attend, { capture: true, passive: false });
  };
  listen("wheel", onWheel);
  listen("pointerdown", onPress);
  listen("pointermove", onMove);
  listen("pointerup pointercancel", ({ pointerId }) => pressed.delete(pointerId));
  listen("click", onClick);
  listen("keydown", onKey);
  // Two fingers would scroll the page.
  listen("touchstart touchmove", (event) => event.touches.length > 1 && event.cancelable && event.preventDefault());
  listenToTrackpad(listen);
  for (const button of findAll("[data-zoom]")) button.addEventListener("click", () => ACTS[button.dataset.zoom]());
  find("[data-zoom=screen]").hidden = !document.fullscreenEnabled; // as on an iPhone
  find(".viewer").addEventListener("fullscreenchange", () => {
    find("[data-zoom=screen]").setAttribute("aria-pressed", document.fullscreenElement !== null);
    redraw();
  });
}

export function draw() {
  const { by } = state.zoom;
  for (const kind of ["in", "out", "whole"])
    find(`[data-zoom=${kind}]`).setAttribute("aria-disabled", by === (kind === "in" ? CLOSEST : 1));
  find(".stage canvas").toggleAttribute("data-close", by > 1);
}

// What a key or a button zooms in on: the cross where there is one, or the middle.
function lookedAt() {
  const box = find(".stage canvas").getBoundingClientRect();
  if (!state.probe) return { clientX: box.left + box.width / 2, clientY: box.top + box.height / 2 };
  const stage = find(".stage").getBoundingClientRect();
  const { x, y } = placeOfProbe();
  return { clientX: stage.left + x, clientY: stage.top + y };
}

// A pinch on a trackpad comes as a wheel with the control key. A wheel alone scrolls the page.
function onWheel(event) {
  if (!event.ctrlKey && !event.metaKey) return;
  event.preventDefault(); // or the whole page is zoomed
  zoomBy(Math.exp(-clamp(event.deltaMode ? 16 * event.deltaY : event.deltaY, -30, 30) / 100), event);
}

// Safari on a Mac has events of its own for a pinch on a trackpad; on a phone they come with the pointers'.
function listenToTrackpad(listen) {
  let last = 1;
  listen("gesturestart gesturechange", (event) => {
    event.preventDefault();
    if (event.type === "gesturechange" && !pressed.size) zoomBy(event.scale / last, event);
    last = event.scale;
  });
}

function onPress(event, canvas) {
  if (event.button) return;
  if (!pressed.size) {
    moved = false;
    swiping = state.view === "slider" && (state.zoom.by === 1 || atLine(event, canvas));
  } else {
    moved = true; // two fingers are no click
    swiping = false;
  }
  pressed.set(event.pointerId, event);
  if (swiping || state.zoom.by > 1) canvas.setPointerCapture(event.pointerId);
}

function atLine(event, canvas) {
  const panel = canvas.getBoundingClientRect().width / 100; // the swipe has one
  return Math.abs(shareAcross(event) - state.split) * panel < REACH;
}

// The middle of all pointers moves and pans, and they move apart and zoom.
function onMove(event, canvas) {
  const before = pressed.get(event.pointerId);
  if (!before) {
    canvas.toggleAttribute("data-line", state.view === "slider" && (state.zoom.by === 1 || atLine(event, canvas)));
    return;
  }
  if (!moved && Math.hypot(event.clientX - before.clientX, event.clientY - before.clientY) < SLACK) return;
  moved = true;
  if (pressed.size === 1 && !swiping && state.zoom.by === 1) return;
  event.stopImmediatePropagation();
  const [from, apart] = middleOf([...pressed.values()]);
  pressed.set(event.pointerId, event);
  const [to, further] = middleOf([...pressed.values()]);
  if (swiping) change({ split: Math.round(shareAcross(event)) });
  else zoomBy(apart ? further / apart : 1, from, to);
}

// The middle of places, and their mean distance from it.
function middleOf(places) {
  const mean = (read) => places.reduce((sum, place) => sum + read(place), 0) / places.length;
  const middle = { clientX: mean((place) => place.clientX), clientY: mean((place) => place.clientY) };
  return [middle, mean(({ clientX, clientY }) => Math.hypot(clientX - middle.clientX, clientY - middle.clientY))];
}

// A double click zooms. Not every browser counts taps, as they do clicks.
function onClick(event) {
  if (moved) {
    event.stopImmediatePropagation();
    clicked = null;
    return;
  }
  const { timeStamp, clientX, clientY, detail } = event;
  const near = clicked && Math.hypot(clientX - clicked.clientX, clientY - clicked.clientY) < REACH;
  const second = detail === 2 || (near && timeStamp - clicked.timeStamp < 400);
  clicked = second ? null : event;
  if (!second) return;
  if (state.zoom.by === 1) zoomBy(CLOSE_UP, event);
  else zoomTo(WHOLE);
}

function onKey(event) {
  const act = KEYS[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return; // those zoom the page
  event.preventDefault();
  ACTS[act]();
}
