// The sliders beside the picture, the ticks for outlines and names, and the button that brings everything back.

import { modelsShown, ownThreshold, thresholdOf } from "./models.js";
import { find } from "./page.js";
import { inHundredths } from "./pure/words.js";
import { canReset, change, reset, state } from "./state.js";

const SLIDERS = ["split", "opacity", "threshold"];
const TICKS = ["outlines", "names"];

export function connect() {
  for (const name of SLIDERS)
    find(`[name=${name}]`).addEventListener("input", (event) => change({ [name]: Number(event.target.value) }));
  for (const name of TICKS)
    find(`[name=${name}]`).addEventListener("change", (event) => change({ [name]: event.target.checked }));
  find(".reset").addEventListener("click", reset);
}

export function draw() {
  const { split, opacity, threshold } = state;
  const own = [...new Set(modelsShown().map((model) => inHundredths(ownThreshold(model))))];
  const words = {
    split: `${split} %`,
    opacity: `${opacity} %`,
    threshold: threshold === null ? `${own.join(" | ")} (default)` : inHundredths(threshold),
  };
  for (const name of SLIDERS) {
    find(`[data-slider=${name}] output`).textContent = words[name];
    find(`[name=${name}]`).value = state[name] ?? thresholdOf(modelsShown()[0]);
  }
  for (const name of TICKS) find(`[name=${name}]`).checked = state[name];
  find(".reset").disabled = !canReset();
}
