// A photo in, the maps of a checkpoint out: predictor.py and payload.py's maps, from a network that runs in the browser.

import { crop, fit, lay, mapsOf, restore } from "./letterbox.js";
import { windows } from "./zoom.js";

const LEAST_CONTRAST = 8; // of 255, in any channel: a photo with less shows nothing
const STRIP_PIXELS = 65_536; // worked on at a time
const STEPS = 100; // as in payload.py
const SUREST = 12; // as in calibration.py

// What a checkpoint says of a photo {width, height, data}: packed maps as payload.py has them, one below the other.
// `network` turns a canvas into maps. Of a checkpoint, `inference` holds hierseg.inference's fields, `fill` what becomes 0
// when it is normalised, and `calibration` null or slope and intercept of each node. `tree` holds {nodes: [{path}],
// levels}.
export async function predict(photo, network, { inference, fill, calibration }, tree) {
  const run = (window) => pass(photo, window, network, inference, fill, tree);
  const whole = await run({ top: 0, left: 0, bottom: photo.height, right: photo.width });
  const zoomed = [];
  if (inference.zoom)
    for (const window of windows(somebody(whole.scores, tree), [photo.height, photo.width], inference.zoom))
      zoomed.push(await run(window));
  return maps(photo, whole, zoomed, inference.zoom, tree, calibration);
}

async function pass(photo, window, network, inference, fill, tree) {
  const size = [window.bottom - window.top, window.right - window.left];
  const letterbox = fit(...size, inference.input_size);
  const mirrored = fit(...size, inference.mirror_size ?? inference.input_size);
  const seen = lay(photo, window, letterbox, fill);
  if (contrast(seen, letterbox) < LEAST_CONTRAST)
    return { window, scores: mapsOf(tree.nodes.length, ...letterbox.content) };
  const alone = crop(await network(seen), letterbox);
  if (!inference.mirror) return { window, scores: alone };
  const same = mirrored.canvas.every((side, axis) => side === letterbox.canvas[axis]);
  const other = turned(await network(turned(same ? seen : lay(photo, window, mirrored, fill), 3)), 1);
  const there = restore(crop(other, mirrored), letterbox.content);
  for (let at = 0; at < alone.data.length; at++) alone.data[at] = (alone.data[at] + there.data[at]) / 2;
  return { window, scores: alone };
}

// The largest difference of two pixels of the photo in one channel.
function contrast(canvas, { content, offset }) {
  const [least, most] = [
    [255, 255, 255],
    [0, 0, 0],
  ];
  for (let row = offset[0]; row < offset[0] + content[0]; row++)
    for (let column = offset[1]; column < offset[1] + content[1]; column++)
      for (let channel = 0; channel < 3; channel++) {
        const value = canvas.data[3 * (row * canvas.width + column) + channel];
        least[channel] = Math.min(least[channel], value);
        most[channel] = Math.max(most[channel], value);
      }
  return Math.max(...most.map((value, channel) => value - least[channel]));
}

// The same picture or maps with left and right changed; a pixel is `step` numbers.
function turned(source, step) {
  const data = new source.data.constructor(source.data.length);
  const line = step * source.width;
  for (let start = 0; start < data.length; start += line)
    for (let at = 0; at < line; at += step)
      for (let part = 0; part < step; part++) data[start + at + part] = source.data[start + line - step - at + part];
  return { ...source, data };
}

function somebody({ height, width, data }, { nodes }) {
  const best = new Float32Array(height * width);
  for (const root of [...nodes.keys()].filter((node) => nodes[node].path.length === 1))
    for (let pixel = 0; pixel < best.length; pixel++)
      best[pixel] = Math.max(best[pixel], data[root * best.length + pixel]);
  return { height, width, data: best };
}

// Scores of rows `top` to `bottom` - 1 of the photo: those of the whole, mixed with those of the windows.
function rowsOf(photo, whole, zoomed, zoom, top, bottom) {
  const scores = restore(whole.scores, [photo.height, photo.width], top, bottom);
  for (const { window, scores: seen } of zoomed) {
    const [first, last] = [Math.max(window.top, top), Math.min(window.bottom, bottom)];
    if (first >= last) continue;
    const size = [window.bottom - window.top, window.right - window.left];
    const there = restore(seen, size, first - window.top, last - window.top);
    const down = fading(window.top, window.bottom, photo.height, zoom.fade);
    const across = fading(window.left, window.right, photo.width, zoom.fade);
    for (let node = 0; node < scores.nodes; node++)
      for (let row = first; row < last; row++) {
        const to = (node * scores.height + row - top) * photo.width + window.left;
        const from = (node * there.height + row - first) * there.width;
        const weight = Math.fround(zoom.weight) * down[row - window.top];
        for (let column = 0; column < there.width; column++) {
          const before = scores.data[to + column];
          scores.data[to + column] = before + (there.data[from + column] - before) * weight * across[column];
        }
      }
  }
  return scores;
}

// A factor for each pixel along one axis: 1, falling to 0 at edges that are not the photo's.
function fading(first, last, length, share) {
  const fade = Math.max(1, share * (last - first));
  return Float32Array.from({ length: last - first }, (_, index) => {
    const at = index + 0.5;
    return Math.min(1, first > 0 ? at / fade : 1, last < length ? (last - first - at) / fade : 1);
  });
}

// What payload.maps gives: index of the best path's leaf, its mean score in steps, the calibrated score of its node at each
// depth in steps, and which nodes have raw scores above .5, a bit each.
function maps(photo, whole, zoomed, zoom, tree, calibration) {
  const size = photo.height * photo.width;
  const depths = tree.levels.length;
  const made = new Uint8Array((2 + depths + Math.ceil(tree.nodes.length / 8)) * size);
  const parents = new Set(tree.nodes.map(({ path }) => path.at(-2)));
  const leaves = [...tree.nodes.keys()].filter((node) => !parents.has(node));
  const paths = leaves.map((leaf) => tree.nodes[leaf].path);
  const parts = paths.map((path) => Math.fround(1 / path.length));
  const step = Math.max(1, Math.trunc(STRIP_PIXELS / photo.width));
  for (let top = 0; top < photo.height; top += step) {
    const bottom = Math.min(photo.height, top + step);
    const { data } = rowsOf(photo, whole, zoomed, zoom, top, bottom);
    const count = (bottom - top) * photo.width;
    for (let pixel = 0, at = top * photo.width; pixel < count; pixel++, at++) {
      let best = 0;
      let highest = -1;
      for (let number = 0; number < paths.length; number++) {
        const path = paths[number];
        let sum = data[path[0] * count + pixel];
        for (let depth = 1; depth < path.length; depth++) sum = Math.fround(sum + data[path[depth] * count + pixel]);
        const mean = Math.fround(sum * parts[number]);
        if (mean > highest) [best, highest] = [number, mean];
      }
      made[at] = leaves[best];
      made[size + at] = inSteps(Math.min(1, highest));
      for (let depth = 0; depth < depths; depth++) {
        const node = paths[best][Math.min(depth, paths[best].length - 1)];
        made[(2 + depth) * size + at] = inSteps(calibrated(data[node * count + pixel], calibration?.[node]));
      }
      for (let node = 0; node < tree.nodes.length; node++)
        if (data[node * count + pixel] > 0.5) made[(2 + depths + (node >> 3)) * size + at] |= 1 << (node & 7);
    }
  }
  return made;
}

const inSteps = (score) => Math.ceil(Math.fround(score * STEPS));

// calibration.py's score on a line, [slope, intercept].
function calibrated(score, line) {
  if (!line) return score;
  const least = 1 / (1 + Math.exp(SUREST));
  const clipped = Math.max(least, Math.min(1 - least, score));
  const logit = Math.log(clipped) - Math.log1p(-clipped);
  return 1 / (1 + Math.exp(-(line[0] * logit + line[1])));
}
