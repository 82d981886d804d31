// How large the blocks of an icicle are: a band a depth of the tree, children beside their parent.

// Every block is large enough to point at, and on each depth the coloured areas are proportional to the nodes' shares.
// `shares` are, for every checkpoint, a number a node, which is at least the sum of its children's. Returns
// heights: of every node's block, together `height`, or more where every leaf's is `least`;
// fills: the part of a block's width that is coloured, a list a checkpoint, each of which has its part of the heights.
export function icicle(nodes, shares, height, least) {
  const parents = nodes.map(({ path }) => path.at(-2));
  const weights = nodes.map((_, node) => shares.reduce((sum, own) => sum + own[node], 0));
  // A node's own part is beside no child: all of a leaf, and of others what stops there.
  const own = weights.map((weight, node) =>
    weights.reduce((rest, below, child) => (parents[child] === node ? rest - below : rest), weight),
  );
  const leaves = nodes.map((_, node) => !parents.includes(node));
  const parts = divide(
    own.map((weight) => (weight > 1e-9 ? weight : 0)), // no dust of rounding
    leaves.map((leaf) => (leaf ? least : 0)),
    height,
  );
  const heights = nodes.map((_, node) =>
    parts.reduce((sum, part, below) => (nodes[below].path.includes(node) ? sum + part : sum), 0),
  );
  const density = shares.map((values) => values.map((share, node) => (heights[node] ? share / heights[node] : 0)));
  const densest = nodes.map(({ path }) => {
    const beside = [...nodes.keys()].filter((node) => nodes[node].path.length === path.length);
    return Math.max(...density.flatMap((values) => beside.map((node) => values[node])));
  });
  return { heights, fills: density.map((values) => values.map((value, node) => value / (densest[node] || 1))) };
}

// Divides a height by weights, or by the floors where nothing has a weight; none gets less than its floor, even where that
// takes more height than there is.
function divide(weights, floors, height) {
  if (!weights.some((weight) => weight > 0)) return divide(floors, floors, height);
  const parts = [...floors];
  let free = [...weights.keys()].filter((index) => weights[index] > 0);
  while (free.length) {
    const taken = floors.reduce((sum, floor, index) => (free.includes(index) ? sum : sum + floor), 0);
    const scale = (height - taken) / free.reduce((sum, index) => sum + weights[index], 0);
    const fitting = free.filter((index) => weights[index] * scale >= floors[index]);
    if (fitting.length === free.length) {
      for (const index of free) parts[index] = weights[index] * scale;
      break;
    }
    free = fitting;
  }
  return parts;
}
