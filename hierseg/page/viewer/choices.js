// The bar above the picture: level, view, decoding or not, checkpoint, and which two are compared. What leaves no choice is
// not shown.

import { showsRaw } from "./models.js";
import { fillFor, find, findAll, make } from "./page.js";
import { choose, state } from "./state.js";
import { VIEWS } from "./views.js";

export function connect() {
  find("[name=raw]").addEventListener("change", (event) => choose("raw", event.target.checked));
  for (const kind of ["first", "second"])
    find(`[name=hierseg-${kind}]`).addEventListener("change", (event) => choose(kind, event.target.value));
}

export function draw() {
  const names = state.scene.offered.map((checkpoint) => checkpoint.name);
  fillFor(find(".bar"), `${names} ${state.scene.levels}`, () => fill(names, state.scene));
  find(".viewer").dataset.view = state.view;
  find(".viewer").toggleAttribute("data-raw", showsRaw());
  find("[name=raw]").checked = state.raw;
  for (const kind of ["level", "view", "checkpoint"])
    for (const input of findAll(`[name=hierseg-${kind}]`)) input.checked = input.value === state[kind];
  for (const kind of ["first", "second"]) find(`[name=hierseg-${kind}]`).value = state[kind];
}

function fill(names, scene) {
  const titles = scene.offered.map((checkpoint) => checkpoint.title);
  offer("level", scene.levels, scene.level_titles);
  offer("view", names.length < 2 ? [] : Object.keys(VIEWS), Object.values(VIEWS).map((view) => view.title));
  offer("checkpoint", names, titles);
  find('[data-choice="pair"]').dataset.few = names.length < 3; // of two, it is the one with the other
  for (const list of findAll(".pair select"))
    list.replaceChildren(...names.map((value, index) => make("option", titles[index], { value })));
}

function offer(kind, values, titles) {
  find(`[data-choice="${kind}"]`).dataset.few = values.length < 2;
  find(`[data-choice="${kind}"] .options`).replaceChildren(
    ...values.map((value, index) => {
      const input = make("input", [], { type: "radio", name: `hierseg-${kind}`, value });
      input.addEventListener("change", () => choose(kind, value));
      return make("label", [input, titles[index]]);
    }),
  );
}
