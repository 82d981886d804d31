// Pixels to fewer or more pixels, to the bit as the libraries do it on the server. A picture is {width, height, data}:
// RGB, a byte each, row by row.

const BITS = 22; // of a weight's fraction in Pillow's whole-number arithmetic
const GAP = 2; // Letterbox.apply's reducing_gap

export const picture = (width, height) => ({ width, height, data: new Uint8Array(3 * width * height) });

// Pillow's resize(size, BILINEAR, reducing_gap=2.0): first whole blocks are averaged, where that leaves twice the size
// or more, then a triangle filter is applied along each axis.
export function resize(source, width, height) {
  const across = Math.max(1, Math.trunc(source.width / width / GAP));
  const down = Math.max(1, Math.trunc(source.height / height / GAP));
  const reduced = across > 1 || down > 1 ? reduce(source, across, down) : source;
  // Of the last block, only the part inside the picture counts.
  const wide = width === source.width && across === 1 ? reduced : alongRows(reduced, width, source.width / across);
  return height === source.height && down === 1 ? wide : alongColumns(wide, height, source.height / down);
}

// The mean of every block of `across` by `down` pixels; blocks at the right and lower edge may be smaller.
function reduce(source, across, down) {
  const made = picture(Math.ceil(source.width / across), Math.ceil(source.height / down));
  for (let row = 0, at = 0; row < made.height; row++) {
    const last = Math.min(source.height, (row + 1) * down);
    for (let column = 0; column < made.width; column++) {
      const end = Math.min(source.width, (column + 1) * across);
      const count = (last - row * down) * (end - column * across);
      const multiplier = Math.trunc(Math.fround(2 ** 24 / count)); // Pillow's way to divide
      for (let channel = 0; channel < 3; channel++) {
        let sum = count >> 1;
        for (let y = row * down; y < last; y++)
          for (let x = column * across; x < end; x++) sum += source.data[3 * (y * source.width + x) + channel];
        made.data[at++] = Math.floor((sum * multiplier) / 2 ** 24);
      }
    }
  }
  return made;
}

// For each pixel along an axis that becomes `count` long, from `length` of the source: the first pixel that it is a
// weighted sum of, and the weights.
function filters(count, length, size) {
  const scale = Math.fround(length) / count; // Pillow hands the length over in single precision
  const support = Math.max(1, scale);
  return Array.from({ length: count }, (_, index) => {
    const center = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(size, Math.trunc(center + support + 0.5));
    const weights = [];
    for (let at = first; at < end; at++) weights.push(Math.max(0, 1 - Math.abs((at - center + 0.5) * (1 / support))));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: weights.map((weight) => Math.round((weight / sum) * 2 ** BITS)) };
  });
}

const rounded = (sum) => (sum + (1 << (BITS - 1))) >> BITS; // weights add up to 1, so it is a byte

function alongRows(source, width, length) {
  const made = picture(width, source.height);
  const plans = filters(width, length, source.width);
  for (let row = 0, at = 0; row < source.height; row++)
    for (const { first, weights } of plans) {
      const start = 3 * (row * source.width + first);
      for (let channel = 0; channel < 3; channel++, at++) {
        let sum = 0;
        for (let tap = 0; tap < weights.length; tap++) sum += weights[tap] * source.data[start + 3 * tap + channel];
        made.data[at] = rounded(sum);
      }
    }
  return made;
}

function alongColumns(source, height, length) {
  const made = picture(source.width, height);
  const line = 3 * source.width;
  filters(height, length, source.height).forEach(({ first, weights }, row) => {
    for (let at = 0; at < line; at++) {
      let sum = 0;
      for (let tap = 0; tap < weights.length; tap++) sum += weights[tap] * source.data[(first + tap) * line + at];
      made.data[row * line + at] = rounded(sum);
    }
  });
  return made;
}

// OpenCV's resize by area, to fewer pixels: each is the mean of what it covers, parts of pixels counted as such.
export function shrink(source, width, height) {
  const made = picture(width, height);
  const columns = coverage(source.width, width);
  const rows = coverage(source.height, height);
  const line = new Float64Array(3 * width);
  rows.forEach((covered, row) => {
    line.fill(0);
    for (const [y, share] of covered)
      columns.forEach((part, column) => {
        for (const [x, weight] of part) {
          const start = 3 * (y * source.width + x);
          for (let channel = 0; channel < 3; channel++)
            line[3 * column + channel] += share * weight * source.data[start + channel];
        }
      });
    for (let at = 0; at < line.length; at++) made.data[row * line.length + at] = Math.round(line[at]);
  });
  return made;
}

function coverage(size, count) {
  const scale = size / count;
  return Array.from({ length: count }, (_, index) => {
    const [from, to] = [index * scale, Math.min(size, (index + 1) * scale)];
    const covered = [];
    for (let at = Math.floor(from); at < to - 1e-3; at++)
      covered.push([at, (Math.min(at + 1, to) - Math.max(at, from)) / (to - from)]);
    return covered;
  });
}
