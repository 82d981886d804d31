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
  let measured = 0;
  new ResizeObserver(() => {
    if (find(".stage").clientWidth === measured) return; // drawing changes the height only
    measured = find(".stage").clientWidth;
    redraw();
  }).observe(find(".stage"));
}

export function draw() {
  const stage = find(".stage");
  if (!stage.clientWidth) return; // not laid out yet; it is drawn when it is
  const draws = panelsShown();
  const ratio = window.devicePixelRatio || 1;
  const tallest = Math.max(280, 0.7 * window.innerHeight, window.innerHeight - 230); // a zoomed page is low
  const least = Math.round(12 * ratio);
  layout = { ...arrange(draws.length, state.scene, stage.clientWidth * ratio, tallest * ratio, 6 * ratio, least), ratio };
  const canvas = find(".stage canvas");
  canvas.width = layout.width;
  canvas.height = layout.height;
  canvas.style.width = `${layout.width / ratio}px`;
  base = painted(draws, layout);
  assemble();
  for (const kind of ["view", "checkpoint", "first", "second", "level"]) canvas.dataset[kind] = state[kind];
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
  context.drawImage(base, 0, 0);
  if (!state.probe) return;
  for (const panel of layout.panels) {
    const { x, y } = placeOf(state.probe, state.scene, panel);
    cross(context, x, y, layout.ratio);
  }
}

// The view at the size of the photo that is shown, without the cross: a PNG.
export function pictureBlob() {
  const draws = panelsShown();
  const { scene } = state;
  const gap = 8;
  const at = arrange(draws.length, scene, draws.length * (scene.width + gap), scene.height, gap);
  return painted(draws, { ...at, ratio: Math.max(1, scene.height / 800) }).convertToBlob({ type: "image/png" });
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
