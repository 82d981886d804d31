// Scores to nodes: decoding.py's rule on the maps that payload.py packs. Pixels are answered with indices of nodes.

export const NOBODY = 255; // background
export const UNKNOWN = 254; // not annotated in a ground truth
export const STEPS = 100; // as in payload.py: maps hold scores in steps of a hundredth, rounded up

// The numbers of packed maps, one map below the other. They must not pass through a canvas: browsers that guard against
// fingerprinting change a few of what is read back from one, or all.
export async function unpack(packed, width) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const numbers = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let pixel = width; pixel < numbers.length; pixel++) numbers[pixel] += numbers[pixel - width];
  return numbers;
}

// A checkpoint's maps by name: a map is `size` pixels, and there are scores for every level. `on` is which nodes' raw scores
// are above .5, see pure/raw.js.
export function mapsOf(numbers, size, levels) {
  const map = (number) => numbers.subarray(number * size, (number + 1) * size);
  const scores = Array.from({ length: levels }, (_, depth) => map(2 + depth));
  const on = Array.from({ length: numbers.length / size - 2 - levels }, (_, number) => map(2 + levels + number));
  return { leaf: map(0), confidence: map(1), scores, on };
}

// The deepest node of every pixel. Threshold and certainty are in steps.
export function decode({ confidence, leaf, scores }, nodes, threshold, certainty) {
  const found = new Uint8Array(leaf.length);
  const paths = nodes.map((node) => node.path);
  const unsure = certainty === 0 ? -1 : certainty; // without a certainty every path is followed to its leaf
  for (let pixel = 0; pixel < found.length; pixel++) {
    if (confidence[pixel] <= threshold) {
      found[pixel] = NOBODY;
      continue;
    }
    const path = paths[leaf[pixel]];
    let depth = 0;
    while (depth + 1 < path.length && scores[depth + 1][pixel] > unsure) depth++;
    found[pixel] = path[depth];
  }
  return found;
}
