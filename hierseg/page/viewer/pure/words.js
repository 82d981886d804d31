// Numbers in words.

import { STEPS } from "./decoding.js";

export function inPercent(share, digits = 0) {
  if (share === 0) return digits ? "0 %" : "none";
  const least = 10 ** -digits;
  return 100 * share < least ? `< ${least} %` : `${(100 * share).toFixed(digits)} %`;
}

const FRACTIONS = "1/7 1/6 1/5 1/4 3/10 1/3 2/5 1/2 3/5 2/3 7/10 3/4 4/5 9/10".split(" ").map((each) => each.split("/"));

// A share of pixels in words that one remembers, such as "1 pixel in 12": one in so many where it is small, a simple
// fraction where it is not.
export function inPixels(share) {
  if (share === 0) return "no pixel";
  if (share > 0.95) return share === 1 ? "every pixel" : "nearly every pixel";
  if (share < 1 / 7) return `1 pixel in ${Number(Math.round(1 / share).toPrecision(2)).toLocaleString("en-GB")}`;
  const off = ([part, whole]) => Math.abs(part / whole - share);
  const [part, whole] = FRACTIONS.reduce((best, next) => (off(next) < off(best) ? next : best));
  return `${part} ${part === "1" ? "pixel" : "pixels"} in ${whole}`;
}
export const capital = (words) => words.charAt(0).toUpperCase() + words.slice(1);

export const inHundredths = (steps) => (steps >= STEPS ? "1.0" : `.${String(steps).padStart(2, "0")}`);

export const inThousandths = (value) => (value === null ? "–" : value.toFixed(3).replace(/^0/, ""));
