// What is counted in maps of nodes, as in predictor.py, comparison.py and metrics.py.

import { NOBODY, STEPS, UNKNOWN } from "./decoding.js";

// For each node: its share of the photo and of the person, and the mean score over its pixels, as Prediction.areas.
// `scores` are a checkpoint's maps, one a depth.
export function areas(found, scores, nodes) {
  const pixels = new Float64Array(nodes.length);
  const sums = new Float64Array(nodes.length);
  const paths = nodes.map((node) => node.path);
  let person = 0;
  for (let pixel = 0; pixel < found.length; pixel++) {
    if (found[pixel] === NOBODY) continue;
    person++;
    const path = paths[found[pixel]];
    for (let depth = 0; depth < path.length; depth++) {
      const score = scores[depth][pixel];
      pixels[path[depth]]++;
      // Half a step back: a score rounded up is half a step too high in the mean.
      sums[path[depth]] += score === 0 ? 0 : score - 0.5;
    }
  }
  return nodes.map((_, node) => ({
    share_of_photo: pixels[node] / found.length,
    share_of_person: person ? pixels[node] / person : 0,
    confidence: pixels[node] ? sums[node] / pixels[node] / STEPS : 0,
  }));
}

// Where two maps differ: {map, shares of the photo by number in the map, their sum, the same of who is in either}.
// The map's numbers: 0 nowhere, 1 somebody in the first map only, 2 in the other only, 3 another node.
export function difference(one, other) {
  const map = new Uint8Array(one.length);
  const pixels = [0, 0, 0, 0];
  let somebody = 0;
  for (let pixel = 0; pixel < map.length; pixel++) {
    const here = one[pixel];
    const there = other[pixel];
    if (here !== NOBODY || there !== NOBODY) somebody++;
    if (here === there) continue;
    map[pixel] = there === NOBODY ? 1 : here === NOBODY ? 2 : 3;
    pixels[map[pixel]]++;
  }
  const differing = pixels[1] + pixels[2] + pixels[3];
  const shares = pixels.map((count) => count / map.length);
  return { map, shares, ofPhoto: differing / map.length, ofPerson: somebody ? differing / somebody : 0 };
}

// Intersection over union with the ground truth for every node, as metrics.iou; null for nodes that are in neither. A
// pixel counts only for nodes of which the truth knows: not for those below a node at which it ends.
export function agreement(found, truth, nodes) {
  const both = new Float64Array(nodes.length);
  const either = new Float64Array(nodes.length);
  const paths = nodes.map((node) => node.path);
  for (let pixel = 0; pixel < found.length; pixel++) {
    const right = truth[pixel];
    if (right === UNKNOWN) continue;
    const here = found[pixel] === NOBODY ? [] : paths[found[pixel]];
    const there = right === NOBODY ? [] : paths[right];
    for (const node of here) {
      if (node !== right && paths[node].includes(right)) break;
      either[node]++;
      if (there.includes(node)) both[node]++;
    }
    for (const node of there) if (!here.includes(node)) either[node]++;
  }
  return nodes.map((_, node) => (either[node] ? both[node] / either[node] : null));
}

// The mean of what is known; null where nothing is.
export function mean(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}
