// How much of each pixel belongs to a node: a mask with a soft edge.

const SOFT = 20; // steps of a score to either side of the cut-off, over which an edge fades
const WIDEST = 1 / 128; // of the longer side, to either side of an edge: a region that is unsure is no edge
const INSIDE = 0.52; // the least of a pixel in the mask, so that alpha is 128 or more exactly where the mask is
const BINOMIAL = [1, 2, 1, 2, 4, 2, 1, 2, 1]; // over 16

// Alpha, 0 to 255, of every pixel for a node, or for whoever is found where `chosen` is null. It is above one half exactly
// where decoding finds the node or one below it. Towards the background, and to where the network is too unsure to follow
// the path, it is 1/2 + (score - cut-off) / 2h, where h is SOFT or, where that is less, as much as the score changes within
// the widest edge. Of parts that meet the scores say only which is the better, so that edge has the width of a pixel.
export function softMask({ confidence, leaf, scores }, nodes, chosen, threshold, certainty, width) {
  const height = leaf.length / width;
  const depth = chosen === null ? 0 : nodes[chosen].path.length - 1;
  const within = Uint8Array.from({ length: 256 }, (_, node) => chosen === null || !!nodes[node]?.path.includes(chosen));
  const widest = Math.max(1, WIDEST * Math.max(width, height));
  const followed = certainty ? scores.slice(1, depth + 1) : [];
  const alpha = new Uint8ClampedArray(leaf.length);
  for (let pixel = 0; pixel < alpha.length; pixel++) {
    if (confidence[pixel] <= threshold - SOFT) continue;
    let part = ramp(confidence, pixel, threshold + 0.5, width, height, widest); // scores are rounded up to steps
    for (const map of followed) part = Math.min(part, ramp(map, pixel, certainty + 0.5, width, height, widest));
    if (part > 0 && chosen !== null) part = Math.min(part, belonging(within, leaf, pixel, width, height));
    alpha[pixel] = 255 * part;
  }
  return alpha;
}

function ramp(map, pixel, cut, width, height, widest) {
  const over = map[pixel] - cut;
  if (Math.abs(over) >= SOFT) return over > 0 ? 1 : 0;
  const column = pixel % width;
  const row = (pixel - column) / width;
  const at = (x, y) => map[Math.max(0, Math.min(height - 1, y)) * width + Math.max(0, Math.min(width - 1, x))];
  const across = (at(column + 1, row) - at(column - 1, row)) / 2;
  const down = (at(column, row + 1) - at(column, row - 1)) / 2;
  const half = Math.min(SOFT, widest * Math.hypot(across, down));
  return Math.max(0, Math.min(1, 0.5 + over / (2 * half))); // half may be 0: then the edge is hard
}

// The share of the pixels around that are within, but never on the other side of one half than the pixel itself.
function belonging(within, leaf, pixel, width, height) {
  const own = within[leaf[pixel]];
  const column = pixel % width;
  const row = (pixel - column) / width;
  let sum = 0;
  BINOMIAL.forEach((weight, number) => {
    const x = Math.max(0, Math.min(width - 1, column + (number % 3) - 1));
    const y = Math.max(0, Math.min(height - 1, row + Math.floor(number / 3) - 1));
    sum += weight * within[leaf[y * width + x]];
  });
  return own ? Math.max(INSIDE, sum / 16) : Math.min(1 - INSIDE, sum / 16);
}
