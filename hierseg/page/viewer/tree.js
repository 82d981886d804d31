// The tree as a table: a row a node, with a tick to show it, and a column a model. It is legend, chart and control.

import { areasOf, depthShown, modelsShown } from "./models.js";
import { find, make } from "./page.js";
import { STEPS } from "./pure/decoding.js";
import { comparePaths, membersOfLevel } from "./pure/tables.js";
import { inHundredths, inPercent } from "./pure/words.js";
import { pointAt, state, tick } from "./state.js";

let listed = ""; // the nodes that there are rows for

export function connect() {
  listed = "";
}

export function draw() {
  const { nodes } = state.scene;
  const names = nodes.map((node) => node.name).join();
  if (listed !== names) list();
  listed = names;
  const models = modelsShown();
  const figures = models.map(areasOf);
  const onLevel = new Set(membersOfLevel(state.scene, depthShown()));
  find(".tree thead tr").replaceChildren(
    make("th", "Part", { scope: "col" }),
    ...models.map((model) => make("th", [model.title, make("small", "share · sure")], { scope: "col" })),
  );
  nodes.forEach((node, index) => {
    const row = find(`.tree [data-node="${node.name}"]`);
    row.classList.toggle("shown", onLevel.has(index));
    row.classList.toggle("absent", figures.every((areas) => areas[index].share_of_photo === 0));
    row.querySelector("input").checked = !node.path.some((member) => state.hidden.has(member));
    while (row.children.length > 1) row.lastChild.remove();
    row.append(...figures.map((areas) => cell(areas[index])));
  });
}

function cell({ share_of_person: share, confidence }) {
  const sure = share ? inHundredths(Math.round(confidence * STEPS)) : "";
  return make("td", [inPercent(share), make("small", sure)]);
}

function list() {
  const order = [...state.scene.nodes.entries()].toSorted(([, one], [, other]) => comparePaths(one.path, other.path));
  find(".tree").replaceChildren(
    make("caption", "Parts, their share of the person and how sure the network is of them"),
    make("thead", make("tr")),
    make("tbody", order.map(([index, node]) => rowOf(node, index))),
  );
}

function rowOf(node, index) {
  const input = make("input", [], { type: "checkbox" });
  input.addEventListener("change", () => tick(index, input.checked));
  const swatch = make("span", [], { className: "swatch" });
  swatch.style.setProperty("--color", `rgb(${node.color.join(" ")})`);
  const heading = make("th", make("label", [input, swatch, node.title]), { scope: "row" });
  heading.style.setProperty("--depth", node.path.length - 1);
  const row = make("tr", heading);
  row.dataset.node = node.name;
  row.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") pointAt(index);
  });
  row.addEventListener("pointerleave", () => pointAt(null));
  return row;
}
