// Files that are made in the browser, so that what is saved is what is seen and no photo goes back to the server.

import {
  areasOf,
  brokenShareOf,
  certaintyOf,
  depthShown,
  enlargedBy,
  modelsShown,
  riskKept,
  shareOfBreaks,
  showsRaw,
  thresholdOf,
} from "./models.js";
import { findAll } from "./page.js";
import { STEPS } from "./pure/decoding.js";
import { indexedPng, zip } from "./pure/files.js";
import { NO_RISK } from "./pure/risk.js";
import { labelsOfNodes, maskOfNode, nodesOnLevel, through } from "./pure/tables.js";
import { pictureBlob } from "./stage.js";
import { state } from "./state.js";

const BLACK_TO_WHITE = Uint8Array.from({ length: 768 }, (_, entry) => Math.floor(entry / 3));

export function connect() {
  for (const button of findAll("[data-save]")) button.addEventListener("click", () => saveAs(button.dataset.save));
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Files are named after the checkpoint they are of; views of two models have both.
async function saveAs(kind) {
  const models = modelsShown();
  const title = `hierseg-${models.map((model) => model.name).join("-")}`;
  if (kind === "overlay") save(await pictureBlob(), `${title}-${state.view}${showsRaw() ? "-undecoded" : ""}.png`);
  else if (kind === "mask") save(await maskOf(models[0]), `${title}-${state.level}.png`);
  else if (kind === "json") save(figuresBlob(), `${title}.json`);
  else save(await zip(await masksOf(models)), `${title}.zip`);
}

// A model's mask on the chosen level, whatever is hidden, in the size of the photo that was sent: an indexed PNG.
export function maskOf(model) {
  const { scene } = state;
  const palette = new Uint8Array(768);
  palette.fill(255, 3 * scene.void, 3 * scene.void + 3);
  for (const node of scene.nodes) palette.set(node.color, 3 * node.label);
  const table = through(labelsOfNodes(scene), nodesOnLevel(scene, depthShown()));
  return indexedPng(through(table, enlargedBy(model)), ...scene.original, palette);
}

// The mask of every model, and a black and white one of each of its nodes.
async function masksOf(models) {
  const { scene, level } = state;
  const files = [];
  for (const model of models) {
    files.push([`${model.name}/mask-${level}.png`, await maskOf(model)]);
    for (const [index, node] of scene.nodes.entries()) {
      const mask = through(maskOfNode(scene, index), enlargedBy(model));
      files.push([`${model.name}/${node.name}.png`, await indexedPng(mask, ...scene.original, BLACK_TO_WHITE)]);
    }
  }
  return files;
}

export function figuresBlob() {
  const { scene, level } = state;
  const figures = {
    program: "hierseg",
    version: scene.version,
    width: scene.original[0],
    height: scene.original[1],
    level,
    risk: riskKept() === NO_RISK ? null : 1 / riskKept(),
    tree: scene.tree,
    checkpoints: modelsShown().map((model) => ({
      name: model.name,
      title: model.title,
      threshold: thresholdOf(model) / STEPS,
      certainty: certaintyOf(model) / STEPS,
      areas: Object.fromEntries(areasOf(model).map((area, index) => [scene.nodes[index].name, area])),
      raw_violations: shareOfBreaks(model),
      raw_violations_of_person: brokenShareOf(model),
    })),
  };
  return new Blob([`${JSON.stringify(figures, null, 1)}\n`], { type: "application/json" });
}
