// Without decoding: the sets of nodes whose raw scores are above .5, and where such a set breaks the tree.

import { NOBODY } from "./decoding.js";

// Numbers the sets that occur: {map, sets}, the number of every pixel's set and the nodes of each. `bits` are made by
// bits() of payload.py: node n is bit n % 8 of map n / 8.
export function setsOf(bits) {
  const map = new Uint32Array(bits[0].length); // at first 0 everywhere, for the set of no node
  let sets = [[]];
  bits.forEach((bytes, number) => {
    const longer = [];
    const numbers = new Map(); // of a longer set, by the shorter one's number and the byte that was added
    let last = -1; // most pixels have their neighbour's set
    for (let pixel = 0; pixel < map.length; pixel++) {
      const key = 256 * map[pixel] + bytes[pixel];
      if (key !== last && !numbers.has(key)) {
        numbers.set(key, longer.length);
        longer.push([...sets[map[pixel]], ...nodesIn(bytes[pixel], number)]);
      }
      map[pixel] = key === last ? map[pixel - 1] : numbers.get(key);
      last = key;
    }
    sets = longer;
  });
  return { map, sets };
}

const BITS = [0, 1, 2, 3, 4, 5, 6, 7];
const nodesIn = (byte, number) => BITS.filter((bit) => byte & (1 << bit)).map((bit) => 8 * number + bit);

// The nodes of a set whose parents are not in it, with those parents: [[node, parent]].
export const brokenEdges = (set, nodes) =>
  set
    .map((node) => [node, nodes[node].path.at(-2)])
    .filter(([, parent]) => parent !== undefined && !set.includes(parent));

// 1 where the tree is broken.
export function brokenMap({ map, sets }, nodes) {
  const broken = Uint8Array.from(sets, (set) => brokenEdges(set, nodes).length > 0);
  return Uint8Array.from(map, (number) => broken[number]);
}

// The share of the person's pixels, see person_pixels of decoding.py, that are broken; null where there are none.
export function shareOfPerson(broken, found) {
  let person = 0;
  let count = 0;
  for (let pixel = 0; pixel < broken.length; pixel++) {
    count += broken[pixel];
    if (broken[pixel] || found[pixel] !== NOBODY) person++;
  }
  return person ? count / person : null;
}

// What is seen of the sets when only some nodes are: {map, colors}, a number for all sets of which the same is seen, and
// its colour: the mean of the nodes' colours, since none of them is more right than the others.
export function seenSets({ map, sets }, nodes, visible) {
  const numbers = new Map();
  const colors = [];
  const seen = Uint32Array.from(sets, (set) => {
    const shown = set.filter((node) => visible.has(node));
    const key = shown.join();
    if (!numbers.has(key)) {
      numbers.set(key, numbers.size);
      if (shown.length) colors[numbers.get(key)] = meanOf(shown.map((node) => nodes[node].color));
    }
    return numbers.get(key);
  });
  return { map: Uint32Array.from(map, (number) => seen[number]), colors };
}

const meanOf = (colors) =>
  [0, 1, 2].map((band) => Math.round(colors.reduce((sum, color) => sum + color[band], 0) / colors.length));

// The largest connected region of a map of ones, with corners joined: {pixels, column, row, reach}, how many pixels it
// has, the one that lies deepest in it, and how deep by rows and columns; null where the map is empty.
export function largestRegion(map, width, height) {
  const depth = depthsOf(map, width, height);
  const seen = new Uint8Array(map.length);
  let largest = null;
  for (let start = 0; start < map.length; start++) {
    if (!map[start] || seen[start]) continue;
    const pixels = [start];
    let deepest = start;
    seen[start] = 1;
    for (const pixel of pixels) {
      if (depth[pixel] > depth[deepest]) deepest = pixel;
      const column = pixel % width;
      for (let across = column > 0 ? -1 : 0; across <= (column + 1 < width ? 1 : 0); across++)
        for (const next of [pixel + across - width, pixel + across, pixel + across + width])
          if (map[next] && !seen[next]) {
            seen[next] = 1;
            pixels.push(next);
          }
    }
    if (pixels.length > (largest?.pixels ?? 0)) largest = { pixels: pixels.length, deepest };
  }
  if (!largest) return null;
  const { pixels, deepest } = largest;
  return { pixels, column: deepest % width, row: Math.floor(deepest / width), reach: depth[deepest] };
}

// How far each pixel of a map of ones is from the next 0 or from beyond the edge, by rows and columns: two sweeps, one
// from each corner (Rosenfeld and Pfaltz, JACM 1966).
function depthsOf(map, width, height) {
  const wide = width + 2; // with a border of zeros
  const depth = new Int32Array(wide * (height + 2));
  for (let row = 0; row < height; row++)
    for (let column = 0; column < width; column++)
      if (map[row * width + column]) {
        const at = (row + 1) * wide + column + 1;
        depth[at] = 1 + Math.min(depth[at - 1], depth[at - wide - 1], depth[at - wide], depth[at - wide + 1]);
      }
  const result = new Int32Array(width * height);
  for (let row = height - 1; row >= 0; row--)
    for (let column = width - 1; column >= 0; column--) {
      const at = (row + 1) * wide + column + 1;
      const after = Math.min(depth[at + 1], depth[at + wide - 1], depth[at + wide], depth[at + wide + 1]);
      depth[at] = Math.min(depth[at], 1 + after);
      result[row * width + column] = depth[at];
    }
  return result;
}
