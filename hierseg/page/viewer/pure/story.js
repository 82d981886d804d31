// The story: what half a minute tells of a photo, as steps. It is told of whatever checkpoints there are; what does not
// hold of them, or is not on the photo, is left out.
//
// A step is {words, source, show, point}: a sentence in pieces, of which {node} stands for a node's title; where figures
// that are not of the photo come from; what is shown meanwhile, as changes of the state; the pixel that it points at.

import { cannotBreak, comparable, overlapOf, photosOf, sourceOf } from "./contrast.js";
import { inPixels } from "./words.js";

// `levels` are {name, title, members}, with their nodes. `models`, the best first, are a scene's with `share`, which share of
// the person's pixels they break, and `region`, the largest that is broken, or null: {point, node, parent, decoded}, a
// node that is on there without its parent and the path that decoding gives the pixel, null for background.
export function storyOf(levels, models) {
  const tree = models.find(({ loss }) => loss?.tree);
  const free = models.filter(({ loss, share }) => loss && !loss.tree && share).toSorted((one, other) => other.share - one.share)[0];
  const consistent = models.find(({ loss, share }) => loss?.consistent && !share);
  return [
    ...levels.map((level, depth) => levelStep(level, depth, levels.length - 1, models[0])),
    ...(free?.region ? brokenSteps(levels, free) : []),
    ...(tree ? [learntStep(levels.at(-1), tree, free)] : []),
    ...(consistent && (tree || free) ? [consistentStep(levels.at(-1), consistent)] : []),
    ...(tree ? iouSteps(levels.at(-1), tree, models) : []),
  ];
}

const stepOf = (words, show, { point = null, source = "" } = {}) => ({
  words,
  source,
  point,
  show: { view: "single", raw: false, ...show },
});

function levelStep({ name, members }, depth, last, { name: checkpoint }) {
  const start =
    depth === 0 ? "Each pixel of a person is labelled " : depth < last ? "One level down the tree, it is " : "On the tree's last level, it is ";
  return stepOf([start, ...anyOf(members), "."], { checkpoint, level: name });
}

// Nodes, with commas and an "or" between them.
const anyOf = (nodes) =>
  nodes.flatMap((node, place) => [place === 0 ? "" : place + 1 < nodes.length ? ", " : " or ", { node }]);

function brokenSteps(levels, { name, title, region }) {
  const { point, node, parent, decoded } = region;
  const depth = levels.findIndex(({ members }) => members.includes(node));
  const show = { checkpoint: name, level: levels[depth].name };
  const found = decoded ? { node: decoded[Math.min(depth, decoded.length - 1)] } : "background";
  return [
    stepOf(
      [`Trained without the tree, ${title} says `, { node }, " here, yet not ", { node: parent }, ": impossible."],
      { ...show, raw: true },
      { point },
    ),
    stepOf(["Decoding mends this: only whole paths down the tree count, and here it says ", found, "."], show, { point }),
  ];
}

function learntStep({ name: level }, tree, free) {
  const shares = [tree, free].filter(Boolean).map((model) => [model.share, model.figures?.violations_of_person ?? null]);
  const inWords = ([own, other]) => `${inPixels(own)}${free ? `, ${free.title} at ${inPixels(other)}` : ""}`;
  const [here, elsewhere] = [0, 1].map((kind) => shares.map((share) => share[kind]));
  const show = free ? { view: "both", first: free.name, second: tree.name } : { checkpoint: tree.name };
  return stepOf(
    [`${tree.title} was trained with the tree: even without decoding, it breaks the tree at ${inWords(here)}.`],
    { ...show, level, raw: true },
    {
      source:
        elsewhere.includes(null) || !comparable(tree, free ?? tree)
          ? ""
          : `Median over ${photosOf(tree)}, from the model cards: at ${inWords(elsewhere)}.`,
    },
  );
}

const consistentStep = ({ name: level }, model) =>
  stepOf([cannotBreak(model)], { checkpoint: model.name, level, raw: true });

// The IoU of every model whose card gives it of the same photos as the tree loss's: of one run each, so that they hardly
// say what a loss costs. The report does.
function iouSteps({ name: level, title }, tree, models) {
  const known = models.filter((model) => comparable(tree, model));
  if (!known.length) return [];
  const other = known.find((model) => model !== tree);
  const show = other ? { view: "slider", first: other.name, second: tree.name } : { checkpoint: tree.name };
  return [stepOf([overlapOf(known, level, title)], { ...show, level }, { source: sourceOf(tree, title) })];
}
