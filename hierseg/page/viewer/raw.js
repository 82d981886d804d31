// The switch that shows raw scores without decoding, in the views in which that is seen.

import { showsRaw } from "./models.js";
import { find } from "./page.js";
import { choose, state } from "./state.js";

export function connect() {
  find("[name=raw]").addEventListener("change", (event) => choose("raw", event.target.checked));
}

export function draw() {
  find("[name=raw]").checked = state.raw;
  find(".viewer").toggleAttribute("data-raw", showsRaw());
}
