// The read-out: what each model says of the pixel under a pointer or under the cross that the arrow keys move. A click,
// a tap or Enter pins it to the pixel.

import { brokenAt, foundBy, modelsShown } from "./models.js";
import { find, make } from "./page.js";
import { NOBODY, STEPS } from "./pure/decoding.js";
import { clamp } from "./pure/geometry.js";
import { inHundredths } from "./pure/words.js";
import { assemble, follow, pixelUnder, placeOfProbe } from "./stage.js";
import { probeAt, state } from "./state.js";
import { mark } from "./tree.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const NEAR = 24; // pixels from a pin within which a finger's tap is meant for it

let pressed = null; // where a button or finger went down last
let pinned = null; // where the pin was set

export function connect() {
  const canvas = find(".stage canvas");
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", (event) => (pressed = event));
  canvas.addEventListener("click", pin);
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse" && !state.probe?.pinned) stop(); // what a finger tapped stays
  });
  canvas.addEventListener("keydown", onKey);
  document.addEventListener("keydown", ({ key }) => {
    if (key === "Escape" && state.probe) stop();
  });
  canvas.addEventListener("blur", () => {
    if (!state.probe?.pinned) stop();
  });
}

export function draw() {
  if (state.probe) read(state.probe);
  else clear();
}

// Shows the paths under a pixel of the photo; `aloud` for screen readers, when keys moved it.
function read(place, aloud = false) {
  const { width, height, nodes } = state.scene;
  const probe = { ...place, column: clamp(place.column, 0, width - 1), row: clamp(place.row, 0, height - 1) };
  probeAt(probe);
  if (aloud) follow();
  const pixel = probe.row * width + probe.column;
  const models = modelsShown();
  const readout = find(".readout");
  readout.setAttribute("aria-live", aloud ? "polite" : "off");
  readout.replaceChildren(...models.map((model) => pathAt(model, pixel)));
  if (probe.pinned) readout.append(make("p", "Pinned", { className: "pin" }));
  readout.hidden = false;
  mark(models.flatMap((model) => nodes[foundBy(model)[pixel]]?.path ?? []));
  const stage = find(".stage");
  const { x, y } = placeOfProbe();
  const left = clamp(x + 16, 4, stage.clientWidth - readout.offsetWidth - 4);
  const top = y + 20 + readout.offsetHeight > stage.clientHeight ? y - readout.offsetHeight - 16 : y + 16;
  readout.style.transform = `translate(${Math.round(left)}px, ${Math.round(Math.max(4, top))}px)`;
  assemble();
}

// A model's path at a pixel, each node's score as a bar; what was too unsure to be shown looks different. A node is red
// whose raw score is above .5 and its parent's is not: that breaks the tree. It may also lie off the path.
function pathAt(model, pixel) {
  const { nodes } = state.scene;
  const found = foundBy(model)[pixel];
  const reached = found === NOBODY ? 0 : nodes[found].path.length;
  const { path } = nodes[model.leaf[pixel]];
  const scores = path.map((_, depth) => model.scores[depth][pixel]);
  const broken = brokenAt(model, pixel).map(([node]) => node);
  const words = [
    make("b", model.title),
    ...(reached ? [] : [make("em", "background")]),
    ...path.map((node, depth) => stepOf(nodes[node], scores[depth], broken.includes(node), depth < reached)),
    ...(broken.length ? [make("em", `▲ Raw score above .5, but not its parent's: ${broken.map((node) => nodes[node].title).join(", ")}`)] : []),
  ];
  return make("div", words.flatMap((word) => [word, " "]));
}

function stepOf({ title, color }, score, broken, sure) {
  const chip = make("span", [], { className: "chip" });
  chip.style.background = `rgb(${color.join(" ")})`;
  const bar = make("span");
  bar.style.width = `${(100 * score) / STEPS}%`;
  const gauge = make("span", bar, { className: broken ? "gauge broken" : "gauge" });
  const words = [chip, make("span", title), " ", gauge, make("span", inHundredths(score)), make("span", broken ? " ▲" : "")];
  return make("span", words, { className: sure ? "step" : "step unsure" });
}

function stop() {
  probeAt(null);
  clear();
  if (state.scene) assemble();
}

function clear() {
  find(".readout").hidden = true;
  mark([]);
}

function point(event) {
  if (!state.scene || state.probe?.pinned) return;
  const under = pixelUnder(event);
  if (under) read(under);
  else stop();
}

const far = (one, other, distance) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY) > distance;

// Pins the read-out to where it is clicked, or frees it; a finger that taps elsewhere moves the pin there.
function pin(event) {
  if (!state.scene) return;
  const under = pixelUnder(event);
  const touched = pressed.pointerType === "touch";
  const freed = state.probe?.pinned && !(touched && far(event, pinned, NEAR));
  pinned = event;
  if (under && !(freed && touched)) read({ ...under, pinned: !freed });
  else stop();
}

function onKey(event) {
  if (!state.scene) return;
  const { width, height } = state.scene;
  const place = state.probe ?? { column: width >> 1, row: height >> 1, panel: 0 };
  if (event.key === "Enter") read({ ...place, pinned: !place.pinned }, true);
  else if (MOVES[event.key]) {
    event.preventDefault(); // the page must not scroll away
    const size = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 64));
    const [across, down] = MOVES[event.key];
    read({ ...place, column: place.column + across * size, row: place.row + down * size }, true);
  }
}
