// The stage: one canvas with the panels of the view, and a cross on it.

import { cross } from "./draw.js";
import { find } from "./page.js";
import { arrange, pixelAt, placeOf } from "./pure/geometry.js";
import { redraw, state } from "./state.js";
import { panelsShown } from "./views.js";

let layout = null; // where the panels lie, in pixels of the screen; null while nothing is drawn
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

// How high a picture may be: with all that is above it, it fits the window, unless that is low, as a zoomed page's is.
function tallest() {
  const { clientHeight } = document.documentElement; // unlike innerHeight, no scrolling on a phone changes it
  const above = find(".stage").getBoundingClientRect().top + window.scrollY;
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
  layout = { ...arranged(draws.length, state.scene), photo: state.scene.photo };
  const canvas = find(".stage canvas");
  canvas.width = layout.width;
  canvas.height = layout.height;
  canvas.style.width = `${layout.width / layout.ratio}px`;
  base = painted(draws, layout);
  assemble();
  for (const kind of ["view", "checkpoint", "first", "second", "level", "background"]) canvas.dataset[kind] = state[kind];
}

function painted(draws, at) {
  const canvas = new OffscreenCanvas(at.width, at.height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  draws.forEach((paint, index) => paint(context, at.panels[index], at));
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
    const { x, y } = placeOf(state.probe, state.scene, panel);
    cross(context, x, y, layout.ratio);
  }
}

// The view with a photo of the scene in some size, without the cross: a blob of a MIME type.
export function pictureBlob(photo = state.scene.photo, type = "image/png") {
  const draws = panelsShown();
  const gap = Math.round(photo.height / 100);
  const at = arrange(draws.length, photo, draws.length * (photo.width + gap), photo.height, gap);
  return painted(draws, { ...at, ratio: Math.max(1, photo.height / 800), photo }).convertToBlob({ type, quality: 0.92 });
}

// The pixel of the photo under a pointer, and its panel's number; null between the panels.
export function pixelUnder({ clientX, clientY }) {
  const canvas = find(".stage canvas");
  const box = canvas.getBoundingClientRect();
  const x = ((clientX - box.left) / box.width) * canvas.width;
  const y = ((clientY - box.top) / box.height) * canvas.height;
  return pixelAt(layout, state.scene, x, y);
}

// Where the probe is within the stage, in the page's pixels.
export function placeOfProbe() {
  const canvas = find(".stage canvas");
  const { x, y } = placeOf(state.probe, state.scene, layout.panels[state.probe.panel] ?? layout.panels[0]);
  return { x: canvas.offsetLeft + x / layout.ratio, y: canvas.offsetTop + y / layout.ratio };
}
