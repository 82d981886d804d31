// What sets two checkpoints apart, in sentences: of the photo, by construction, and of the model cards.

import { inPixels, inThousandths } from "./words.js";

// `models` are two of a scene's, each with `share`: which share of the person's pixels it breaks without decoding, null
// where that is not to be said. `level` is {name, title}.
export function contrastOf(models, { name, title }) {
  const free = models.filter(({ loss, share }) => !loss?.consistent && share !== null);
  const shares = free.map(({ title: own, share }, place) =>
    place ? `${own} at ${inPixels(share)}` : `${own} breaks the tree at ${inPixels(share)} of the person here`,
  );
  return [
    ...(free.length ? [`Without decoding, ${shares.join(", ")}.`] : []),
    ...models.filter(({ loss }) => loss?.consistent).map(cannotBreak),
    ...(comparable(...models) ? [`${overlapOf(models, name, title)} ${sourceOf(models[0], title)}`] : []),
  ];
}

export const cannotBreak = ({ title }) =>
  `${title} cannot break the tree: it scores only the smallest parts, and adds their scores up for anything larger.`;

// Each model's IoU of a level, from its card.
export const overlapOf = (models, name, title) =>
  `After decoding, overlap with masks drawn by hand (IoU of ${title}): ${models.map((model) => `${model.title} ${inThousandths(model.figures.iou[name])}`).join(", ")}.`;

export const sourceOf = (model, title) => `Mean over ${title} on ${photosOf(model)}, from the model cards. One training run each: a difference of .01 may be chance.`;

// Whether figures are of the same photos.
export const comparable = ({ figures: one }, { figures: other }) =>
  Boolean(one && other) && one.photos === other.photos && one.split === other.split;

export const photosOf = ({ figures: { photos, split } }) => `${photos} ${split === "val" ? "validation photos" : "photos"}`;
