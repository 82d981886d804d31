// Risks that checkpoints promise, as hierseg/risk.py has them: "wrong at most 1 in 5". A checkpoint that was not measured
// has null in their place; one that was promises at least the risk of 1 in 1.

import { STEPS } from "./decoding.js";
import { inPercent } from "./words.js";

export const NO_RISK = 1; // "wrong at most 1 in 1" promises nothing, and stops nowhere

const promiseOf = ({ risk }, oneIn) => risk?.promises.find((promise) => promise.one_in === oneIn);

// The risks, "1 in so many", that every one of some checkpoints can promise, without those for which none stops anything.
export function risksOf(checkpoints) {
  const [first] = checkpoints;
  if (checkpoints.some(({ risk }) => !risk)) return [];
  return first.risk.promises
    .map((promise) => promise.one_in)
    .filter((oneIn) => checkpoints.every((each) => promiseOf(each, oneIn)))
    .filter((oneIn) => checkpoints.some((each) => promiseOf(each, oneIn).certainty > 0));
}

// The least certainty, in steps, that keeps a risk. One that cannot promise it, and may be measured beside those that are
// shown, stops nowhere.
export const certaintyFor = (checkpoint, oneIn) =>
  oneIn === NO_RISK ? 0 : Math.round(STEPS * (promiseOf(checkpoint, oneIn)?.certainty ?? 0));

export const inWords = (oneIn) => (oneIn === NO_RISK ? "off" : `wrong at most 1 in ${oneIn}`);

// What a risk promises of some checkpoints, and what came of it on photos that were held out.
export function promiseInWords(checkpoints, oneIn) {
  const [{ risk }] = checkpoints;
  const shares = checkpoints.map((each) => {
    const share = inPercent(promiseOf(each, oneIn).wrong);
    return checkpoints.length > 1 ? `${share} with ${each.title}` : share;
  });
  const wrong = shares.join(" and ");
  return oneIn === NO_RISK
    ? `Of the pixels called a person, ${wrong} had a wrong name on ${risk.held_out} photos.`
    : `Of the pixels called a person, at most 1 in ${oneIn} has a wrong name, on average over photos like those ` +
        `it was chosen on. On ${risk.held_out} other photos, ${wrong} had.`;
}
