// The read-out: what each model says of the pixel under a pointer or under the cross that the arrow keys move.

import { foundBy, modelsShown } from "./models.js";
import { find, make } from "./page.js";
import { NOBODY } from "./pure/decoding.js";
import { inHundredths } from "./pure/words.js";
import { assemble, pixelUnder, placeOfProbe } from "./stage.js";
import { change, probeAt, state } from "./state.js";

const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function connect() {
  const canvas = find(".stage canvas");
  canvas.addEventListener("pointermove", point);
  canvas.addEventListener("pointerdown", (event) => {
    if (state.view === "slider") canvas.setPointerCapture(event.pointerId);
    point(event);
  });
  canvas.addEventListener("pointerleave", (event) => {
    if (event.pointerType === "mouse") stop(); // what a finger tapped stays until the next tap
  });
  canvas.addEventListener("keydown", onKey);
  canvas.addEventListener("blur", stop);
}

export function draw() {
  if (state.probe) read(state.probe);
  else find(".readout").hidden = true;
}

// Shows the paths under a pixel of the photo; `aloud` for screen readers, when keys moved it.
function read({ column, row, panel }, aloud = false) {
  const { width, height } = state.scene;
  const probe = { column: clamp(column, 0, width - 1), row: clamp(row, 0, height - 1), panel };
  probeAt(probe);
  const readout = find(".readout");
  readout.setAttribute("aria-live", aloud ? "polite" : "off");
  readout.replaceChildren(...modelsShown().map((model) => pathAt(model, probe.row * width + probe.column)));
  readout.hidden = false;
  const stage = find(".stage");
  const { x, y } = placeOfProbe();
  const left = clamp(x + 16, 4, stage.clientWidth - readout.offsetWidth - 4);
  const top = y + 20 + readout.offsetHeight > stage.clientHeight ? y - readout.offsetHeight - 16 : y + 16;
  readout.style.transform = `translate(${Math.round(left)}px, ${Math.round(Math.max(4, top))}px)`;
  assemble();
}

const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

// A model's path at a pixel; what was too unsure to be shown looks different.
function pathAt(model, pixel) {
  const { nodes } = state.scene;
  const line = make("div", make("b", model.title));
  const found = foundBy(model)[pixel];
  const reached = found === NOBODY ? 0 : nodes[found].path.length;
  if (found === NOBODY) line.append(" background");
  nodes[model.leaf[pixel]].path.forEach((node, depth) => {
    const score = inHundredths(model.scores[depth][pixel]);
    const step = make("span", `${nodes[node].title} ${score}`, { className: depth < reached ? "step" : "step unsure" });
    line.append(depth ? " › " : " ", step);
  });
  return line;
}

function stop() {
  probeAt(null);
  find(".readout").hidden = true;
  if (state.scene) assemble();
}

function point(event) {
  if (!state.scene) return;
  const under = pixelUnder(event);
  if (state.view === "slider" && event.buttons && under) {
    probeAt(null);
    change({ split: Math.round((100 * under.column) / state.scene.width) });
  } else if (under) read(under);
  else stop();
}

function onKey(event) {
  if (!state.scene) return;
  if (event.key === "Escape") stop();
  else if (MOVES[event.key]) {
    event.preventDefault(); // the page must not scroll away
    const { width, height } = state.scene;
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(width, height) / 64));
    const [across, down] = MOVES[event.key];
    const { column, row, panel } = state.probe ?? { column: width >> 1, row: height >> 1, panel: 0 };
    read({ column: column + across * step, row: row + down * step, panel }, true);
  }
}
