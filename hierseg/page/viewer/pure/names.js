// Where the names of a map's regions are written.

import { clamp } from "./geometry.js";

const FINE = 240; // cells along the longer side in which regions are looked for: a name need not lie to the pixel
const FARTHEST = 6; // steps of half its height, or of half its width, by which a name may be moved

// For each number of a map: the pixel deepest within its largest connected region, and that region's share of the map,
// {number, column, row, share}, the largest first.
export function middles(map, width, height, apart = Math.max(1, Math.ceil(Math.max(width, height) / FINE))) {
  const columns = Math.ceil(width / apart);
  const rows = Math.ceil(height / apart);
  const half = apart >> 1;
  const columnOf = (cell) => Math.min(width - 1, (cell % columns) * apart + half);
  const rowOf = (cell) => Math.min(height - 1, Math.floor(cell / columns) * apart + half);
  const cells = Uint8Array.from({ length: columns * rows }, (_, cell) => map[rowOf(cell) * width + columnOf(cell)]);
  const depths = depthsOf(cells, columns, rows);
  const found = new Map();
  for (const region of regionsOf(cells, columns, rows)) {
    const number = cells[region[0]];
    if (region.length <= (found.get(number)?.length ?? 0)) continue;
    found.set(number, region);
  }
  return [...found]
    .toSorted(([, one], [, other]) => other.length - one.length)
    .map(([number, region]) => {
      const deepest = region.reduce((best, cell) => (depths[cell] > depths[best] ? cell : best));
      return {
        number,
        column: columnOf(deepest),
        row: rowOf(deepest),
        share: region.length / cells.length,
      };
    });
}

// The cells of each connected region.
function* regionsOf(cells, columns, rows) {
  const seen = new Uint8Array(cells.length);
  for (let first = 0; first < cells.length; first++) {
    if (seen[first]) continue;
    const region = [first];
    seen[first] = 1;
    for (let next = 0; next < region.length; next++)
      for (const cell of besides(region[next], columns, rows))
        if (!seen[cell] && cells[cell] === cells[first]) {
          seen[cell] = 1;
          region.push(cell);
        }
    yield region;
  }
}

function besides(cell, columns, rows) {
  const column = cell % columns;
  const found = [];
  if (column > 0) found.push(cell - 1);
  if (column + 1 < columns) found.push(cell + 1);
  if (cell >= columns) found.push(cell - columns);
  if (cell + columns < columns * rows) found.push(cell + columns);
  return found;
}

// How many steps each cell is away from the nearest of another number or beyond the rim, from side to side and up and
// down: in one pass from the upper left and one back.
function depthsOf(cells, columns, rows) {
  const depths = new Uint16Array(cells.length);
  const rim = (cell) => {
    const column = cell % columns;
    if (column === 0 || column + 1 === columns || cell < columns || cell + columns >= cells.length) return true;
    return besides(cell, columns, rows).some((other) => cells[other] !== cells[cell]);
  };
  const order = [...cells.keys()];
  for (const cell of order) depths[cell] = rim(cell) ? 1 : Math.min(depths[cell - 1], depths[cell - columns]) + 1;
  for (const cell of order.toReversed())
    if (!rim(cell)) depths[cell] = Math.min(depths[cell], Math.min(depths[cell + 1], depths[cell + columns]) + 1);
  return depths;
}

// Boxes for names, {x, y} of their upper left corners: as near as can be to have {x, y} in their middle, within a panel,
// and none over one before it; null for a name that finds no room. `names` are {x, y, width, height}.
export function arrangeNames(names, panel) {
  const placed = [];
  return names.map(({ x, y, width, height }) => {
    const boxes = SHIFTS.map(([across, down]) => ({
      x: clamp(x + (across - 1) * (width / 2), panel.x, panel.x + panel.width - width),
      y: clamp(y + (down - 1) * (height / 2), panel.y, panel.y + panel.height - height),
      width,
      height,
    }));
    const free = boxes.find((box) => inside(box, panel) && !placed.some((other) => overlap(box, other)));
    if (free) placed.push(free);
    return free ? { x: free.x, y: free.y } : null;
  });
}

// Steps of half a name's width and height, the nearest first; a name is wider than it is high.
const steps = Array.from({ length: 2 * FARTHEST + 1 }, (_, index) => index - FARTHEST);
const far = ([across, down]) => Math.hypot(3 * across, down);
const SHIFTS = steps.flatMap((across) => steps.map((down) => [across, down])).toSorted((one, other) => far(one) - far(other));

const inside = (box, panel) => box.width <= panel.width && box.height <= panel.height;

const overlap = (one, other) =>
  one.x < other.x + other.width &&
  other.x < one.x + one.width &&
  one.y < other.y + other.height &&
  other.y < one.y + one.height;
