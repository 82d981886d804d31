// A ground truth beside the photo: intersection over union of every node, and its mean over every level.

import { agreementOf, modelsShown } from "./models.js";
import { find, make } from "./page.js";
import { unpack } from "./pure/decoding.js";
import { mean } from "./pure/measures.js";
import { membersOfLevel, nodesOfLabels, through } from "./pure/tables.js";
import { inThousandths } from "./pure/words.js";
import { contentOf, fitTruth } from "./server.js";
import { change, state } from "./state.js";

export function connect() {
  find("[name=truth]").addEventListener("change", ({ target }) => {
    if (target.files.length && state.scene) compare(target.files[0], state.scene);
  });
}

async function compare(file, scene) {
  const value = await fitTruth(() => contentOf(file), scene.original);
  const [packed] = value.parts ?? [];
  const map = packed && through(nodesOfLabels(scene), await unpack(packed, scene.width));
  if (state.scene === scene) change({ truth: { map, note: value.message ?? value.note } });
}

export function draw() {
  const { scene, truth } = state;
  const models = modelsShown();
  if (!truth) find("[name=truth]").value = ""; // it was of another photo
  find(".truth").replaceChildren(...(truth?.map ? table(scene, models, models.map(agreementOf)) : []));
}

function table(scene, models, scores) {
  const row = (title, valueOf, attributes) =>
    make("tr", [make("th", title, { scope: "row" }), ...scores.map((own) => make("td", inThousandths(valueOf(own))))], attributes);
  return [
    make("caption", `Intersection over union with the ground truth, at ${scene.width} by ${scene.height} pixels`),
    make("thead", make("tr", [make("th", "IoU"), ...models.map((model) => make("th", model.title, { scope: "col" }))])),
    make("tbody", [
      ...scene.levels.map((_, depth) =>
        row(scene.level_titles[depth], (own) => mean(membersOfLevel(scene, depth).map((node) => own[node])), { className: "mean" }),
      ),
      ...scene.nodes.map((node, index) => row(node.title, (own) => own[index])),
    ]),
  ];
}
