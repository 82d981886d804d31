// How a photo lies in the network's input, and how scores come back to it: photo/letterbox.py.

import { picture, resize } from "./resize.js";

export const STRIDE = 32;

// The letterbox of `height` by `width` pixels whose longer side is to become `size`. Pairs are [height, width].
export function fit(height, width, size) {
  const scale = size / Math.max(height, width);
  const content = [height, width].map((side) => Math.max(1, roundHalfEven(side * scale)));
  const canvas = content.map((side) => Math.ceil(side / STRIDE) * STRIDE);
  const offset = canvas.map((side, axis) => Math.floor((side - content[axis]) / 2));
  return { photo: [height, width], content, canvas, offset };
}

// Python's round.
export function roundHalfEven(value) {
  const below = Math.floor(value);
  if (value - below !== 0.5) return Math.round(value);
  return below % 2 ? below + 1 : below;
}

// A part of a photo on its canvas; `fill` is the colour around it.
export function lay(photo, window, letterbox, fill) {
  const [height, width] = letterbox.canvas;
  const [top, left] = letterbox.offset;
  const canvas = picture(width, height);
  for (let at = 0; at < canvas.data.length; at++) canvas.data[at] = fill[at % 3];
  const inner = resize(cut(photo, window), letterbox.content[1], letterbox.content[0]);
  for (let row = 0; row < inner.height; row++) {
    const line = inner.data.subarray(3 * row * inner.width, 3 * (row + 1) * inner.width);
    canvas.data.set(line, 3 * ((top + row) * width + left));
  }
  return canvas;
}

function cut(photo, { top, left, bottom, right }) {
  if (right - left === photo.width && bottom - top === photo.height) return photo;
  const part = picture(right - left, bottom - top);
  for (let row = top; row < bottom; row++) {
    const start = 3 * (row * photo.width + left);
    part.data.set(photo.data.subarray(start, start + 3 * part.width), 3 * (row - top) * part.width);
  }
  return part;
}

// Maps are {nodes, height, width, data}: float32, one node's map after the other.
export const mapsOf = (nodes, height, width) => ({ nodes, height, width, data: new Float32Array(nodes * height * width) });

// The photo's part of the network's output.
export function crop(scores, { content, offset }) {
  const [height, width] = content;
  const made = mapsOf(scores.nodes, height, width);
  for (let node = 0; node < scores.nodes; node++)
    for (let row = 0; row < height; row++) {
      const start = (node * scores.height + offset[0] + row) * scores.width + offset[1];
      made.data.set(scores.data.subarray(start, start + width), (node * height + row) * width);
    }
  return made;
}

// Cropped scores, bilinearly, for rows `first` to `last` - 1 of the photo.
export function restore(content, [height, width], first = 0, last = height) {
  const made = mapsOf(content.nodes, last - first, width);
  const rows = places(height, content.height, first, last);
  const columns = places(width, content.width, 0, width);
  const tall = new Float32Array(content.width);
  for (let node = 0; node < content.nodes; node++)
    for (let row = 0, to = node * made.height * width; row < made.height; row++) {
      const start = (node * content.height + rows.before[row]) * content.width;
      const end = (node * content.height + rows.after[row]) * content.width;
      const share = rows.share[row];
      for (let x = 0; x < content.width; x++)
        tall[x] = content.data[start + x] * (1 - share) + content.data[end + x] * share;
      for (let column = 0; column < width; column++, to++) {
        const part = columns.share[column];
        made.data[to] = tall[columns.before[column]] * (1 - part) + tall[columns.after[column]] * part;
      }
    }
  return made;
}

// Where each pixel's centre lies among the centres of another grid: the two next to it, and the share of the second.
function places(length, size, first, last) {
  const count = last - first;
  const made = { before: new Uint32Array(count), after: new Uint32Array(count), share: new Float32Array(count) };
  for (let index = 0; index < count; index++) {
    const at = Math.max(0, Math.min(size - 1, (first + index + 0.5) * (size / length) - 0.5));
    made.before[index] = Math.floor(at);
    made.after[index] = Math.min(made.before[index] + 1, size - 1);
    made.share[index] = at - made.before[index];
  }
  return made;
}
