// Regions of a map as polygons.

import { NOBODY } from "./decoding.js";

// Each number's closed lines in a map, [[x, y], ...] in pixels, as a Map; NOBODY has none. For each square of four
// neighbouring pixel centres, the middles of its sides between two regions are joined: marching squares for any number of
// regions, which leave no gap between neighbours and have every pixel's centre on the right side.
export function polygonsOf(map, width, height) {
  const lines = new Map(); // number -> entry into a square -> [exit from it, by way of its middle or not]
  const stride = 2 * width + 1; // points are numbered in halves of a pixel
  const wide = width + 2; // with a rim of NOBODY
  const padded = new Uint8Array(wide * (height + 2)).fill(NOBODY);
  for (let y = 0; y < height; y++) padded.set(map.subarray(y * width, (y + 1) * width), (y + 1) * wide + 1);
  for (let y = 0; y <= height; y++) {
    for (let x = 0, pixel = y * wide; x <= width; x++, pixel++) {
      const first = padded[pixel];
      if (first === padded[pixel + 1] && first === padded[pixel + wide] && first === padded[pixel + wide + 1]) continue;
      const corners = [first, padded[pixel + 1], padded[pixel + wide + 1], padded[pixel + wide]]; // clockwise
      const middle = 2 * y * stride + 2 * x;
      const sides = [middle - 1, middle - stride, middle + 1, middle + stride]; // each before the corner of its number
      const crossed = [0, 1, 2, 3].filter((side) => corners[side] !== corners[(side + 3) % 4]);
      crossed.forEach((side, index) => {
        const number = corners[side];
        if (number === NOBODY) return;
        if (!lines.has(number)) lines.set(number, new Map());
        const exit = sides[crossed[(index + 1) % crossed.length]];
        lines.get(number).set(sides[side], crossed.length > 2 ? [middle, exit] : [exit]);
      });
    }
  }
  const pointOf = (place) => [(place % stride) / 2, Math.floor(place / stride) / 2];
  return new Map([...lines].map(([number, ways]) => [number, closed(ways).map((line) => bends(line.map(pointOf)))]));
}

// Follows ways from entry to exit until all are used up.
function closed(ways) {
  const found = [];
  for (const start of ways.keys()) {
    const line = [];
    for (let place = start; ways.has(place); ) {
      const onward = ways.get(place);
      ways.delete(place);
      line.push(...onward);
      place = onward.at(-1);
    }
    found.push(line);
  }
  return found;
}

// Without the points at which a line goes straight on.
function bends(points) {
  return points.filter(([x, y], index) => {
    const [fromX, fromY] = points.at(index - 1);
    const [toX, toY] = points[(index + 1) % points.length];
    return (x - fromX) * (toY - y) !== (y - fromY) * (toX - x);
  });
}

// A drawing of the nodes in a map of nodes, each one path with its name as `id` and its title.
export function svgOf(map, nodes, [width, height]) {
  const polygons = polygonsOf(map, width, height);
  const paths = nodes.flatMap(({ name, title, color }, node) => {
    const outline = (polygons.get(node) ?? []).map((points) => `M${points.join(" ")}Z`).join("");
    if (!outline) return [];
    return `<path id="${escaped(name)}" fill="rgb(${color})" fill-rule="evenodd" d="${outline}"><title>${escaped(title)}</title></path>\n`;
  });
  const head = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}">`;
  return `${head}\n${paths.join("")}</svg>\n`;
}

const escaped = (text) => text.replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt(0)};`);
