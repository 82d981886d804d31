// Windows around people who are small in a photo: photo/zoom.py. A window is {top, left, bottom, right}.

import { roundHalfEven } from "./letterbox.js";

const CELL = 8; // pixels of the grid on which neighbours are put together
const LEAST_PIXELS = 12; // of somebody; fewer are noise

// `scores` {height, width, data}: how much each pixel belongs to somebody. `photo`: [height, width]. `zoom`: Zoom's fields.
export function windows(scores, photo, zoom) {
  const found = scores.data.map((score) => score > zoom.found);
  const people = [];
  for (const cells of groups(cellsOf(found, scores), scores)) {
    const { count, rows, columns } = extentOf(cells, found, scores);
    if (count < LEAST_PIXELS) continue;
    const [down, across] = [photo[0] / scores.height, photo[1] / scores.width];
    people.push([around([rows.map((row) => row * down), columns.map((column) => column * across)], photo, zoom), count]);
  }
  const worth = merged(people).filter(([window]) => most(sizeOf(window)) <= zoom.largest * most(photo));
  worth.sort(([, one], [, other]) => other - one);
  return worth.slice(0, zoom.windows).map(([window]) => window);
}

const sizeOf = ({ top, left, bottom, right }) => [bottom - top, right - left];
const least = (values) => values.reduce((one, other) => Math.min(one, other));
const most = (values) => values.reduce((one, other) => Math.max(one, other));

// Which cells of the grid hold a pixel that is found.
function cellsOf(found, { width }) {
  const cells = new Set();
  const across = Math.ceil(width / CELL);
  found.forEach((is, pixel) => {
    if (is) cells.add(Math.floor(Math.floor(pixel / width) / CELL) * across + Math.floor((pixel % width) / CELL));
  });
  return cells;
}

// The cells that touch, also at a corner, together; by their first cell in the order of reading.
function groups(cells, { width }) {
  const across = Math.ceil(width / CELL);
  const left = new Set([...cells].toSorted((one, other) => one - other));
  const made = [];
  for (const start of left) {
    const group = [];
    const waiting = [start];
    left.delete(start);
    while (waiting.length) {
      const cell = waiting.pop();
      const [row, column] = [Math.floor(cell / across), cell % across];
      group.push([row, column]);
      for (let y = row - 1; y <= row + 1; y++)
        for (let x = Math.max(0, column - 1); x <= Math.min(across - 1, column + 1); x++)
          if (left.delete(y * across + x)) waiting.push(y * across + x);
    }
    made.push(group);
  }
  return made;
}

// How many pixels are found in the box around a group of cells, and their first and last row and column, the last plus 1.
function extentOf(cells, found, { height, width }) {
  const [top, left] = [0, 1].map((axis) => CELL * least(cells.map((cell) => cell[axis])));
  const [bottom, right] = [0, 1].map((axis) => CELL * (1 + most(cells.map((cell) => cell[axis]))));
  const [rows, columns] = [
    [height, 0],
    [width, 0],
  ];
  let count = 0;
  for (let row = top; row < Math.min(height, bottom); row++)
    for (let column = left; column < Math.min(width, right); column++) {
      if (!found[row * width + column]) continue;
      count++;
      rows[0] = Math.min(rows[0], row);
      rows[1] = Math.max(rows[1], row + 1);
      columns[0] = Math.min(columns[0], column);
      columns[1] = Math.max(columns[1], column + 1);
    }
  return { count, rows, columns };
}

// The window around a box with its margin, not too small and not too slim, inside the photo.
function around(spans, photo, { margin, smallest, slimmest }) {
  const box = spans.map(([first, last]) => last - first);
  const longer = Math.max(most(box) * (1 + 2 * margin), smallest * most(photo));
  const [rows, columns] = spans.map(([first, last], axis) => {
    const wanted = Math.max(last - first + (2 * margin * longer) / (1 + 2 * margin), slimmest * longer);
    const side = Math.min(photo[axis], wanted);
    const start = Math.trunc(Math.max(0, Math.min(photo[axis] - side, (first + last - side) / 2)));
    return [start, Math.min(photo[axis], start + Math.max(1, roundHalfEven(side)))];
  });
  return { top: rows[0], left: columns[0], bottom: rows[1], right: columns[1] };
}

const touch = (one, other) =>
  one.top < other.bottom && other.top < one.bottom && one.left < other.right && other.left < one.right;

// Puts windows together until none touch.
function merged(people) {
  let apart = [];
  for (let [window, pixels] of people) {
    for (;;) {
      const touching = apart.filter(([other]) => touch(other, window));
      if (!touching.length) break;
      for (const [other, others] of touching) {
        window = {
          top: Math.min(window.top, other.top),
          left: Math.min(window.left, other.left),
          bottom: Math.max(window.bottom, other.bottom),
          right: Math.max(window.right, other.right),
        };
        pixels += others;
      }
      apart = apart.filter((entry) => !touching.includes(entry));
    }
    apart.push([window, pixels]);
  }
  return apart;
}
