// Files that are made in the browser, so that what is saved is what is seen and no photo goes back to the server.

import { backgroundShown, cutOut, subjectOf } from "./effects.js";
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
import { originalOf, release, sizeOf } from "./original.js";
import { fillFor, find, findAll } from "./page.js";
import { annotationsOf, categoriesOf } from "./pure/coco.js";
import { STEPS } from "./pure/decoding.js";
import { indexedPng, jsonBlob, zip } from "./pure/files.js";
import { NO_RISK } from "./pure/risk.js";
import { svgOf } from "./pure/svg.js";
import { labelsOfNodes, maskOfNode, nodesOnLevel, through } from "./pure/tables.js";
import { pictureBlob } from "./stage.js";
import { state } from "./state.js";

const BLACK_TO_WHITE = Uint8Array.from({ length: 768 }, (_, entry) => Math.floor(entry / 3));

// What can be saved: its file's name after the checkpoints', and the blob.
const FILES = {
  picture: [() => `${look()}.png`, () => inOwnSize((photo) => pictureBlob(photo))],
  jpeg: [() => `${look()}.jpg`, () => inOwnSize((photo) => pictureBlob(photo, "image/jpeg"))],
  cutout: [([model]) => `cut-out-${subjectOf(model)}.png`, ([model]) => cutOutBlob(model)],
  mask: [() => `${state.level}.png`, ([model]) => maskOf(model)],
  masks: [() => "masks.zip", async (models) => zip(await masksOf(models))],
  svg: [() => `${state.level}.svg`, ([model]) => svgBlob(model)],
  coco: [() => "coco.json", ([model]) => cocoBlob([imageOf(state.scene)], annotationsBy(model))],
  json: [() => "figures.json", figuresBlob],
};

export function connect() {
  const canCopy = Boolean(navigator.clipboard?.write && window.ClipboardItem); // on secure pages, in newer browsers
  for (const button of findAll("[data-save]")) button.addEventListener("click", () => saveAs(button.dataset.save));
  for (const button of findAll("[data-copy]")) {
    button.hidden = !canCopy;
    button.addEventListener("click", () => copy(button.dataset.copy));
  }
  find(".save").addEventListener("toggle", draw);
}

// Says how large a file will be, which takes opening the photo: only where it is seen. Not every browser opens every photo.
export async function draw() {
  const { scene } = state;
  fillFor(find(".save > output"), scene, (said) => said.replaceChildren()); // it was said of another photo
  if (!scene || !find(".save").open) return;
  const size = await sizeOf(scene);
  if (state.scene !== scene) return;
  const whole = inPixels(scene.original);
  const own = inPixels(size);
  for (const place of findAll(".save [data-size]"))
    place.textContent = place.dataset.size === "mask" || own === whole ? whole : `${own}, the photo has ${whole}`;
}

const inPixels = ([width, height]) => `${width} by ${height}`;

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
  const [name, make] = FILES[kind];
  const title = `hierseg-${models.map((model) => model.name).join("-")}-${name(models)}`;
  await attempt(kind, async () => {
    save(await make(models), title);
    return `Saved as ${title}.`;
  });
}

const COPIED = { picture: "The picture", cutout: "The cut-out" };

async function copy(kind) {
  // The blob is promised, since some browsers let a page write only right after a click.
  const blob = FILES[kind][1](modelsShown());
  blob.catch(() => {}); // `write` fails with it
  await attempt(kind, async () => {
    await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
    return `${COPIED[kind]} is on the clipboard.`;
  });
}

// Says what came of saving or copying.
async function attempt(kind, act) {
  const said = find(".save > output");
  if (kind === "cutout" && !subjectOf(modelsShown()[0])) {
    const { scene, subject } = state;
    said.textContent = `There is no ${subject === null ? "person" : scene.nodes[subject].title} in this photo.`;
    return;
  }
  said.textContent = "One moment …";
  try {
    said.textContent = await act();
  } catch (error) {
    console.warn(error);
    const denied = error.name === "NotAllowedError";
    said.textContent = denied ? "The browser did not allow copying. Save it instead." : "This failed. There may be too little memory.";
  }
}

// Makes something of the photo in its own size or, where that is more than the browser can paint, as it is shown.
async function inOwnSize(make) {
  const { scene } = state;
  const photo = await originalOf(scene);
  try {
    return await make(photo);
  } catch (error) {
    if (photo === scene.photo) throw error;
    return make(scene.photo);
  } finally {
    release(scene, photo);
  }
}

// What the picture that is shown is called.
export const look = () =>
  [state.view, ...(showsRaw() ? ["undecoded"] : []), ...(backgroundShown() === "keep" ? [] : [backgroundShown()])].join("-");

export const picture = () => inOwnSize((photo) => pictureBlob(photo));

const cutOutBlob = (model) => inOwnSize((photo) => cutOut(model, photo).convertToBlob({ type: "image/png" }));

// The nodes of the chosen level, whatever is hidden, in the size of the photo that was sent.
const levelOf = (model) => through(nodesOnLevel(state.scene, depthShown()), enlargedBy(model));

// The same as an indexed PNG of labels.
export function maskOf(model) {
  const { scene } = state;
  const palette = new Uint8Array(768);
  palette.fill(255, 3 * scene.void, 3 * scene.void + 3);
  for (const node of scene.nodes) palette.set(node.color, 3 * node.label);
  return indexedPng(through(labelsOfNodes(scene), levelOf(model)), ...scene.original, palette);
}

// For every model its mask, a black and white one of each of its nodes, and outlines and annotations.
async function masksOf(models) {
  const { scene, level } = state;
  const files = [];
  for (const model of models) {
    files.push([`${model.name}/mask-${level}.png`, await maskOf(model)]);
    files.push([`${model.name}/outlines-${level}.svg`, svgBlob(model)]);
    files.push([`${model.name}/coco.json`, cocoBlob([imageOf(scene)], annotationsBy(model))]);
    for (const [index, node] of scene.nodes.entries()) {
      const mask = through(maskOfNode(scene, index), enlargedBy(model));
      files.push([`${model.name}/${node.name}.png`, await indexedPng(mask, ...scene.original, BLACK_TO_WHITE)]);
    }
  }
  return files;
}

function svgBlob(model) {
  const { nodes, original } = state.scene;
  return new Blob([svgOf(levelOf(model), nodes, original)], { type: "image/svg+xml" });
}

// COCO's image of a scene, and the annotations of it by a model, each with the mean score.
export const imageOf = ({ path, original: [width, height] }, id = 1) => ({ id, file_name: path ?? "photo", width, height });

export function annotationsBy(model, image = 1) {
  const { nodes, original } = state.scene;
  const areas = areasOf(model);
  return annotationsOf(enlargedBy(model), nodes, original).map((annotation) => ({
    image_id: image,
    ...annotation,
    score: areas[annotation.category_id - 1].confidence,
  }));
}

export function cocoBlob(images, annotations) {
  const info = { description: `hierseg ${state.scene.version}` };
  const numbered = annotations.map((annotation, index) => ({ id: index + 1, ...annotation }));
  return jsonBlob({ info, images, annotations: numbered, categories: categoriesOf(state.scene.nodes) });
}

export function figuresBlob() {
  const { scene, level } = state;
  return jsonBlob({
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
  });
}
