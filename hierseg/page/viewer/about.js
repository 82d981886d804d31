// What the checkpoints were trained with: a line on each loss, and its paper.

import { find, make } from "./page.js";
import { state } from "./state.js";

let told = ""; // the checkpoints that are told of

export function connect() {
  told = "";
}

export function draw() {
  const { models } = state.scene;
  const names = models.map(({ name }) => name).join();
  if (names === told) return;
  told = names;
  const lines = models.filter(({ loss }) => loss).map(lineOf);
  find(".about").hidden = !lines.length;
  find(".about ul").replaceChildren(...lines);
}

const lineOf = ({ title, loss }) => make("li", [make("b", title), `: ${loss.line}`, ...paper(loss)]);

function paper({ paper: source }) {
  if (!source) return [];
  const [words, href] = source;
  return [" ", make("a", words, { href, target: "_blank", rel: "noopener" })];
}
