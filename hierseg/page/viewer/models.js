// What follows from the scene for each of its models, the checkpoints, by what is chosen now. What took long to compute
// is remembered for as long as the scene is there.

import { alphaLayer, fillLayer, stripesLayer } from "./draw.js";
import { softMask } from "./pure/cutout.js";
import { NOBODY, STEPS, decode } from "./pure/decoding.js";
import { enlarge } from "./pure/enlarge.js";
import { outline } from "./pure/geometry.js";
import { agreement, areas, difference } from "./pure/measures.js";
import { middles } from "./pure/names.js";
import { brokenEdges, brokenMap, largestRegion, seenSets, setsOf, shareOfPerson } from "./pure/raw.js";
import { NO_RISK, certaintyFor, risksOf } from "./pure/risk.js";
import { membersOfLevel, nodesBelow, nodesOnLevel, through } from "./pure/tables.js";
import { state } from "./state.js";

const MOST_REMEMBERED = 40;
const memories = new WeakMap(); // of every model, and of the ground truth: what was computed by its key, the oldest first

function remember(source, key, compute) {
  const memory = memories.get(source) ?? new Map();
  memories.set(source, memory);
  if (!memory.has(key)) {
    if (memory.size > MOST_REMEMBERED) memory.delete(memory.keys().next().value);
    memory.set(key, compute());
  }
  return memory.get(key);
}

// The models that the view shows, left to right; undefined where the camera's frame has not been asked of one yet.
export const modelsShown = () => namesShown().map((name) => state.scene.models.find((model) => model.name === name));

export const namesShown = () => (state.view === "single" ? [state.checkpoint] : [state.first, state.second]);

export const depthShown = () => state.scene.levels.indexOf(state.level);
export const ownThreshold = (model) => Math.round(model.threshold * STEPS);
export const thresholdOf = (model) => state.threshold ?? ownThreshold(model);

// A risk is promised at the checkpoints' own thresholds. One that cannot be promised now is not applied.
export const ownThresholdsHold = () => modelsShown().every((model) => thresholdOf(model) === ownThreshold(model));
export const risksOffered = () => risksOf(modelsShown());
export const riskKept = () => (ownThresholdsHold() && risksOffered().includes(state.risk) ? state.risk : NO_RISK);
export const certaintyOf = (model) => certaintyFor(model, riskKept());

// What a result depends on: how scores are decoded, on which level they are seen, what is on the picture.
const decoding = (model) => `${thresholdOf(model)} ${certaintyOf(model)}`;
const seen = (model) => `${decoding(model)} ${state.level}`;
const look = (model) => `${seen(model)} ${[...state.hidden]} ${state.pointed} ${state.raw}`;

// The deepest node of every pixel.
export function foundBy(model) {
  const { nodes } = state.scene;
  return remember(model, `found ${decoding(model)}`, () => decode(model, nodes, thresholdOf(model), certaintyOf(model)));
}

// The same in the size of the photo that was sent.
export function enlargedBy(model) {
  const { width, height, original } = state.scene;
  return remember(model, `enlarged ${decoding(model)}`, () => enlarge(foundBy(model), [width, height], original));
}

export const findsSomebody = (model) =>
  remember(model, `somebody ${decoding(model)}`, () => foundBy(model).some((node) => node !== NOBODY));

// Whether a node, or anybody where it is null, is found.
export const thereOf = (model, node) => (node === null ? findsSomebody(model) : areasOf(model)[node].share_of_photo > 0);

// A layer that is opaque where a node is, or whoever is found where it is null, with a soft edge.
export const alphaOf = (model, node) =>
  onceOf(model, "alpha", node, () => {
    const { nodes, width, height } = state.scene;
    return alphaLayer(softMask(model, nodes, node, thresholdOf(model), certaintyOf(model), width), width, height);
  });

// What is made once for each node and decoding.
export const onceOf = (model, kind, node, make) => remember(model, `${kind} ${node} ${decoding(model)}`, make);

export function areasOf(model) {
  return remember(model, `areas ${decoding(model)}`, () => areas(foundBy(model), model.scores, state.scene.nodes));
}

export function agreementOf(model) {
  const { truth, scene } = state;
  return remember(truth, `${model.name} ${decoding(model)}`, () => agreement(foundBy(model), truth.map, scene.nodes));
}

// Without decoding: which nodes' raw scores are above .5, where that breaks the tree, and in what share of the pixels, the
// photo's and the person's.
const onIn = (model) => remember(model, "on", () => setsOf(model.on));
export const brokenBy = (model) => remember(model, "broken", () => brokenMap(onIn(model), state.scene.nodes));
export const shareOfBreaks = (model) =>
  remember(model, "share of breaks", () => brokenBy(model).reduce((sum, one) => sum + one, 0) / brokenBy(model).length);
export const brokenShareOf = (model) =>
  remember(model, `broken share ${decoding(model)}`, () => shareOfPerson(brokenBy(model), foundBy(model)));
// The nodes that are on at a pixel without their parents, with those parents.
export const brokenAt = (model, pixel) => brokenEdges(onIn(model).sets[onIn(model).map[pixel]], state.scene.nodes);
export const showsRaw = () => state.raw && state.view !== "differences";

// The largest region that is broken, where it is deepest: {point, node, parent, decoded}, see pure/story.js.
export function brokenRegionOf(model) {
  const { nodes, width, height } = state.scene;
  const point = remember(model, "largest region", () => largestRegion(brokenBy(model), width, height));
  if (!point) return null;
  const pixel = point.row * width + point.column;
  const [node, parent] = brokenAt(model, pixel).at(-1);
  return { point, node, parent, decoded: nodes[foundBy(model)[pixel]]?.path ?? null };
}

// The node of the level.
const onLevel = (model) => through(nodesOnLevel(state.scene, depthShown()), foundBy(model));

// Where the two that are compared differ on the level.
export function differences() {
  const [one, other] = modelsShown();
  return remember(one, `differences ${pair()}`, () => difference(onLevel(one), onLevel(other)));
}

// A layer with the differences in colours, by their number.
export const differencesLayer = (colors) =>
  remember(modelsShown()[0], `differing ${pair()}`, () => layerOf(differences().map, colors));

function pair() {
  const [one, other] = modelsShown();
  return `${seen(one)} ${other.name} ${seen(other)}`;
}

// A layer of the pixels whose raw scores break the tree.
export const brokenLayer = (model, colors) =>
  remember(model, "broken layer", () => stripesLayer(brokenBy(model), state.scene.width, state.scene.height, colors));

// What is on the picture, {map, colors}: the level without what is hidden or, while the tree is pointed at, one node and
// all below it.
function shown(model) {
  const { scene, pointed, hidden, raw } = state;
  return remember(model, `shown ${look(model)}`, () => {
    const depth = Math.max(depthShown(), pointed === null ? 0 : scene.nodes[pointed].path.length - 1);
    const table = pointed === null ? nodesOnLevel(scene, depth, hidden) : nodesBelow(scene, pointed, depth);
    const visible = membersOfLevel(scene, depth).filter((node) => table[node] === node);
    if (raw) return seenSets(onIn(model), scene.nodes, new Set(visible));
    return { map: through(table, foundBy(model)), colors: scene.nodes.map((node) => node.color) };
  });
}

export function fillOf(model) {
  return remember(model, `fill ${look(model)}`, () => layerOf(shown(model).map, shown(model).colors));
}

// The outlines of what is on the picture, as a path in pixels of the photo.
export function outlinesOf(model) {
  const { width, height } = state.scene;
  return remember(model, `path ${look(model)}`, () => outline(shown(model).map, width, height, new Path2D()));
}

// Where the names of what is on the picture go, the largest first: {title, color, column, row}. Without decoding, a pixel
// may have several.
export function namesOf(model) {
  const { width, height, nodes } = state.scene;
  if (state.raw) return [];
  return remember(model, `names ${look(model)}`, () =>
    middles(shown(model).map, width, height)
      .filter(({ number }) => number !== NOBODY)
      .map(({ number, column, row }) => ({ ...nodes[number], column, row })),
  );
}

const layerOf = (map, colors) => fillLayer(map, state.scene.width, state.scene.height, colors);
