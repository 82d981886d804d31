// The stage: one canvas with the panels of the view, and a cross on it.

import { cross, drawWithin } from "./draw.js";
import { find } from "./page.js";
import { arrange, clamp, inside, pixelAt, placeOf, rezoomed, zoomed } from "./pure/geometry.js";
import { redraw, state, zoomTo } from "./state.js";
import { panelsShown } from "./views.js";

let fitted = null; // where the panels lie when the whole photo is seen, in pixels of the screen
let limits = null; // how large the canvas may become when it is zoomed
let layout = null; // where they lie now; null while nothing is drawn
let base = null; // the canvas without the cross

export function connect() {
  layout = base = null;
  let measured = "";
  const measure = () => {
    const room = `${find(".stage").clientWidth} ${tallest()}`; // drawing changes the stage's height only
    if (room === measured) return;
    measured = room;
    redraw();
  };
  new ResizeObserver(measure).observe(find(".stage"));
  new ResizeObserver(measure).observe(document.documentElement);
  window.addEventListener("resize", measure);
}

// How high the picture may be: it fits the window with all that is above it, unless the window is low, as on a zoomed page.
function tallest() {
  const { clientHeight } = document.documentElement; // unlike innerHeight, no scrolling on a phone changes it
  const scrolled = document.fullscreenElement?.scrollTop ?? window.scrollY;
  const above = find(".stage").getBoundingClientRect().top + scrolled;
  return Math.max(280, 0.7 * clientHeight, clientHeight - above - 10);
}

function arranged(count, size) {
  const ratio = window.devicePixelRatio || 1;
  const width = find(".stage").clientWidth * ratio;
  return { ...arrange(count, size, width, tallest() * ratio, 6 * ratio, Math.round(12 * ratio)), ratio };
}

// Gives a photo that is on its way the size that the canvas will have when it is there.
export function makeRoom(image) {
  const { naturalWidth: width, naturalHeight: height } = image;
  const room = arranged(layout?.panels.length ?? 1, { width, height });
  image.style.width = `${room.width / room.ratio}px`;
  image.style.height = `${room.height / room.ratio}px`;
}

export function draw() {
  if (!find(".stage").clientWidth) return; // not laid out yet; it is drawn when it is
  const draws = panelsShown();
  fitted = arranged(draws.length, state.scene);
  const { ratio } = fitted;
  const height = document.fullscreenElement ? tallest() * ratio : fitted.height; // the page below must not move
  limits = { width: find(".stage").clientWidth * ratio, height };
  layout = { ...zoomed(fitted, state.zoom, limits), ratio, photo: state.scene.photo };
  const canvas = find(".stage canvas");
  canvas.width = layout.width;
  canvas.height = layout.height;
  canvas.style.width = `${layout.width / ratio}px`;
  base = painted(draws, layout);
  assemble();
  for (const kind of ["view", "checkpoint", "first", "second", "level", "background"]) canvas.dataset[kind] = state[kind];
  canvas.dataset.zoom = Number(layout.zoom.by.toFixed(2));
}

function painted(draws, at) {
  const canvas = new OffscreenCanvas(at.width, at.height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = state.scene.moving ? "low" : "high"; // high takes a live frame a tenth of its time
  draws.forEach((paint, index) => {
    const panel = at.panels[index];
    drawWithin(context, panel, () => paint(context, panel, at));
  });
  return canvas;
}

// Puts the canvas together: what was drawn, and the cross where one is.
export function assemble() {
  if (!base) return;
  const context = find(".stage canvas").getContext("2d");
  context.clearRect(0, 0, base.width, base.height); // it is transparent where nothing is behind
  context.drawImage(base, 0, 0);
  if (!state.probe) return;
  for (const panel of layout.panels) {
    const place = placeOf(state.probe, state.scene, panel);
    if (inside(panel, place)) cross(context, place.x, place.y, layout.ratio);
  }
}

// The view as a file of some MIME type: all of the photo, in the size of the one that is given, without the cross.
export function pictureBlob(photo = state.scene.photo, type = "image/png") {
  const draws = panelsShown();
  const gap = Math.round(photo.height / 100);
  const at = arrange(draws.length, photo, draws.length * (photo.width + gap), photo.height, gap);
  return painted(draws, { ...at, ratio: Math.max(1, photo.height / 800), photo }).convertToBlob({ type, quality: 0.92 });
}

// The pixel of the photo under a pointer, and its panel's number; null between the panels.
export function pixelUnder(pointer) {
  const { x, y } = fromMiddle(pointer);
  return pixelAt(layout, state.scene, x + layout.width / 2, y + layout.height / 2);
}

// How far across the first panel a pointer is, in percent.
export function shareAcross(pointer) {
  const [panel] = layout.panels;
  return clamp((100 * (fromMiddle(pointer).x + layout.width / 2 - panel.x)) / panel.width, 0, 100);
}

// A place of the screen in the canvas's pixels, from its middle.
function fromMiddle({ clientX, clientY }) {
  const box = find(".stage canvas").getBoundingClientRect();
  return {
    x: ((clientX - box.left) / box.width - 0.5) * layout.width,
    y: ((clientY - box.top) / box.height - 0.5) * layout.height,
  };
}

// Zooms to `factor` times as close, so that what was at one place of the screen is at the other.
export function zoomBy(factor, from, to = from) {
  zoomTo(rezoomed(fitted, state.zoom, limits, factor, fromMiddle(from), fromMiddle(to)));
}

// Where the probe is within the stage, or at the side beyond which it is, in the page's pixels.
export function placeOfProbe() {
  const canvas = find(".stage canvas");
  const panel = layout.panels[state.probe.panel] ?? layout.panels[0];
  const { x, y } = placeOf(state.probe, state.scene, panel);
  return {
    x: canvas.offsetLeft + clamp(x, panel.x, panel.x + panel.width) / layout.ratio,
    y: canvas.offsetTop + clamp(y, panel.y, panel.y + panel.height) / layout.ratio,
  };
}

// Moves a zoomed photo so that the probe is seen.
export function follow() {
  const { column, row, panel } = state.probe;
  const { width, height } = state.scene;
  const seen = layout.panels[panel] ?? layout.panels[0];
  if (inside(seen, placeOf(state.probe, state.scene, seen))) return;
  zoomTo({ ...state.zoom, x: (column + 0.5) / width, y: (row + 0.5) / height });
}
