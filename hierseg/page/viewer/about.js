// What the checkpoints were trained with: a line on each loss, and its paper.

import { fillFor, find, make } from "./page.js";
import { state } from "./state.js";

export function draw() {
  const { models } = state.scene;
  fillFor(find(".about ul"), models.map(({ name }) => name).join(), (list) => {
    const lines = models.filter(({ loss }) => loss).map(lineOf);
    find(".about").hidden = !lines.length;
    list.replaceChildren(...lines);
  });
}

const lineOf = ({ title, loss }) => make("li", [make("b", title), `: ${loss.line}`, ...paper(loss)]);

function paper({ paper: source }) {
  if (!source) return [];
  const [words, href] = source;
  return [" ", make("a", words, { href, target: "_blank", rel: "noopener" })];
}
