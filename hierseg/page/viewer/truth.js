// Beside a ground truth: intersection over union of every node, and its mean over every level.

import { agreementOf, modelsShown } from "./models.js";
import { find, make } from "./page.js";
import { mean } from "./pure/measures.js";
import { membersOfLevel } from "./pure/tables.js";
import { inThousandths } from "./pure/words.js";
import { state } from "./state.js";

export function draw() {
  const { scene } = state;
  const models = modelsShown();
  find(".truth").replaceChildren(...(scene.truth ? table(scene, models, models.map(agreementOf)) : []));
}

function table(scene, models, scores) {
  const row = (title, valueOf, attributes) =>
    make("tr", [make("th", title, { scope: "row" }), ...scores.map((own) => make("td", inThousandths(valueOf(own))))], attributes);
  return [
    make("caption", `Intersection over union with the ground truth, at ${scene.width} by ${scene.height} pixels`),
    make("thead", make("tr", [make("th", "IoU"), ...models.map((model) => make("th", model.title, { scope: "col" }))])),
    make("tbody", [
      ...scene.levels.map((level, depth) =>
        row(level, (own) => mean(membersOfLevel(scene, depth).map((node) => own[node])), { className: "mean" }),
      ),
      ...scene.nodes.map((node, index) => row(node.title, (own) => own[index])),
    ]),
  ];
}
