// The tree as an icicle: a block a node, beside its parent, coloured as far as its share of the person goes. It is legend,
// chart and control: pointing at a block shows its node alone on the picture, its tick shows or hides the node, and the
// path of the pixel that is read out is marked.

import { backgroundShown } from "./effects.js";
import { areasOf, depthShown, modelsShown } from "./models.js";
import { fillFor, find, findAll, make } from "./page.js";
import { STEPS } from "./pure/decoding.js";
import { icicle } from "./pure/icicle.js";
import { inOrder, membersOfLevel } from "./pure/tables.js";
import { capital, inHundredths, inPercent } from "./pure/words.js";
import { pointAt, state, tick } from "./state.js";

const LEAST = { mouse: 30, finger: 46, two: 48 }; // a leaf's pixels of height with its gap: to be hit, for two shares
const ROOM = 1.5; // times the least of all leaves: what is more is divided by share
const SCORED = { leaf: 68, inner: 118 }; // pixels of height from which there is room for the mean score too
const HINTS = { mouse: "Point at a part to see it alone. Untick it to hide it.", finger: "Untick a part to hide it." };
const HALVES = ["upper", "lower"]; // of a block, for the first and the second of two checkpoints

export function draw() {
  const { scene, pointed } = state;
  fillFor(find(".tree"), scene.nodes.map((node) => node.name).join(), list);
  const models = modelsShown();
  const figures = models.map(areasOf);
  const depth = depthShown();
  find(".tree-of").replaceChildren(state.raw ? "% of person after decoding, by " : "% of person, by ", ...models.flatMap(titled));
  find(".tree-levels").replaceChildren(
    ...scene.level_titles.map((title, place) => make("span", capital(title), { className: place === depth ? "shown" : "" })),
  );
  const onLevel = new Set(membersOfLevel(scene, depth));
  const leaves = new Set(membersOfLevel(scene, scene.levels.length - 1));
  const finger = window.matchMedia("(pointer: coarse)").matches;
  const least = models.length > 1 ? LEAST.two : finger ? LEAST.finger : LEAST.mouse;
  const shares = figures.map((areas) => areas.map((area) => area.share_of_person));
  const disabled = state.view === "differences" || backgroundShown() !== "keep"; // where no parts are laid over the photo
  const { heights, fills } = icicle(scene.nodes, shares, ROOM * least * leaves.size, least);
  scene.nodes.forEach((node, index) => {
    const shown = !node.path.some((member) => state.hidden.has(member));
    const marks = {
      shown: onLevel.has(index),
      hidden: !shown,
      absent: figures.every((areas) => areas[index].share_of_photo === 0),
      pointed: pointed === index,
      low: heights[index] < LEAST.two,
      tall: heights[index] >= (leaves.has(index) ? SCORED.leaf : SCORED.inner),
    };
    const block = blockOf(index);
    for (const [name, given] of Object.entries(marks)) block.classList.toggle(name, given);
    block.parentElement.style.height = `${heights[index]}px`;
    block.querySelector(".fill").replaceChildren(...fills.map((own) => barOf(own[index])));
    block.querySelector(".share").replaceChildren(...beside(figures, (areas) => inPercent(areas[index].share_of_person)));
    block.querySelector(".score").replaceChildren("mean score ", ...beside(figures, (areas) => scoreOf(areas[index])));
    Object.assign(block.querySelector("input"), { disabled, checked: shown, ariaLabel: sentence(index, models, figures) });
  });
  find(".tree-detail").textContent = pointed === null ? HINTS[finger ? "finger" : "mouse"] : sentence(pointed, models, figures);
  find(".tree-detail").classList.toggle("hint", pointed === null);
}

// Marks the nodes of the paths that are read out.
export function mark(nodes) {
  for (const block of findAll(".block")) block.classList.remove("under");
  for (const node of nodes) blockOf(node).classList.add("under");
}

const blockOf = (index) => find(`.tree [data-node="${state.scene.nodes[index].name}"]`);

// A checkpoint's title; of two, with the half of a block that is its.
function titled({ title }, place, { length }) {
  if (length === 1) return [make("b", title)];
  return [place ? " and " : "", make("span", [], { className: `half ${HALVES[place]}` }), make("b", title)];
}

function barOf(fill) {
  const made = make("span");
  made.style.width = `${100 * fill}%`;
  return made;
}

const beside = (figures, wordsOf) =>
  figures.flatMap((areas, place) => [place ? " | " : "", make("span", wordsOf(areas))]);

const scoreOf = ({ share_of_photo: share, confidence }) =>
  share ? inHundredths(Math.round(confidence * STEPS)) : "–";

// All that is known of a node: "Head, 12 % of person, mean score .91".
function sentence(node, models, figures) {
  const words = figures.map((areas) => {
    const { share_of_person: share } = areas[node];
    return share ? `${inPercent(share)} of person, mean score ${scoreOf(areas[node])}` : "not found";
  });
  const title = capital(state.scene.nodes[node].title);
  if (words.length === 1) return `${title}, ${words[0]}`;
  return `${title}: ${words.map((each, place) => `${models[place].title} ${each}`).join("; ")}`;
}

function list(tree) {
  const { nodes, levels } = state.scene;
  const order = inOrder(nodes);
  const listBelow = (parent) => {
    const children = order.filter((index) => nodes[index].path.at(-2) === parent);
    const items = children.map((index) => make("li", [madeBlock(nodes[index], index), ...listBelow(index)]));
    return items.length ? [make("ul", items)] : [];
  };
  tree.style.setProperty("--inner", levels.length - 1);
  tree.replaceChildren(
    make("p", [], { className: "tree-of" }),
    make("p", [], { className: "tree-levels", ariaHidden: true }),
    ...listBelow(undefined),
    make("p", [], { className: "tree-detail", ariaHidden: true }), // the ticks are named by it
  );
}

function madeBlock(node, index) {
  const input = make("input", [], { type: "checkbox" });
  input.addEventListener("change", () => tick(index, input.checked));
  input.addEventListener("focus", () => input.matches(":focus-visible") && pointAt(index));
  input.addEventListener("blur", () => pointAt(null));
  const words = [
    input,
    make("span", node.title, { className: "name" }),
    make("span", [], { className: "share" }),
    make("small", [], { className: "score" }),
  ];
  const made = make("label", [
    make("span", [], { className: "fill" }),
    make("span", words, { className: "words" }),
  ]);
  made.className = "block";
  made.dataset.node = node.name;
  made.style.setProperty("--color", `rgb(${node.color.join(" ")})`);
  made.addEventListener("pointerenter", (event) => {
    if (event.pointerType === "mouse") pointAt(index);
  });
  made.addEventListener("pointerleave", () => pointAt(null));
  return made;
}
