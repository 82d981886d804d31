// Numbers in words.

import { STEPS } from "./decoding.js";

export function inPercent(share, digits = 0) {
  if (share === 0) return digits ? "0 %" : "none";
  const least = 10 ** -digits;
  return 100 * share < least ? `< ${least} %` : `${(100 * share).toFixed(digits)} %`;
}

export const inHundredths = (steps) => (steps >= STEPS ? "1.0" : `.${String(steps).padStart(2, "0")}`);

export const inThousandths = (value) => (value === null ? "–" : value.toFixed(3).replace(/^0/, ""));
