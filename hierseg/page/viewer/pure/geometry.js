// Where lines and panels lie.

// Adds the lines between regions to a path, in pixels of the map: for each square of four neighbouring pixel centres, the
// middles of its sides that lie between two regions are joined. This is marching squares for any number of regions.
export function outline(map, width, height, path) {
  for (let row = 0; row + 1 < height; row++) {
    for (let column = 0; column + 1 < width; column++) {
      const at = row * width + column;
      const a = map[at];
      const b = map[at + 1];
      const c = map[at + width];
      const d = map[at + width + 1];
      if (a === b && a === c && a === d) continue;
      const x = column + 1;
      const y = row + 1;
      const middles = [];
      if (a !== b) middles.push(x, y - 0.5);
      if (b !== d) middles.push(x + 0.5, y);
      if (c !== d) middles.push(x, y + 0.5);
      if (a !== c) middles.push(x - 0.5, y);
      if (middles.length === 4) {
        path.moveTo(middles[0], middles[1]);
        path.lineTo(middles[2], middles[3]);
        continue;
      }
      for (let index = 0; index < middles.length; index += 2) {
        path.moveTo(x, y);
        path.lineTo(middles[index], middles[index + 1]);
      }
    }
  }
  return path;
}

// Where `count` pictures of one shape lie in a box, one beside the other, or below it where they are much larger so. None
// is thinner than `least`: a photo of 9000 by 3 pixels would have no height.
export function arrange(count, { width, height }, boxWidth, boxHeight, gap, least = 1) {
  const beside = Math.min((boxWidth - gap * (count - 1)) / (count * width), boxHeight / height);
  const below = Math.min(boxWidth / width, (boxHeight - gap * (count - 1)) / (count * height));
  const across = beside >= 0.75 * below; // eyes compare better from side to side
  const scale = across ? beside : below;
  const size = { width: Math.max(least, Math.round(width * scale)), height: Math.max(least, Math.round(height * scale)) };
  return { scale, ...inRow(count, across, gap, size, { x: 0, y: 0, ...size }) };
}

// Panels of one size in a row or a column; `whole`, the whole photo, which lies the same way in each, may be larger than they are.
function inRow(count, across, gap, { width, height }, whole) {
  const step = across ? { x: width + gap, y: 0 } : { x: 0, y: height + gap };
  const panels = Array.from({ length: count }, (_, index) => {
    const [x, y] = [index * step.x, index * step.y];
    return { x, y, width, height, whole: { ...whole, x: x + whole.x, y: y + whole.y } };
  });
  return { across, gap, width: width + step.x * (count - 1), height: height + step.y * (count - 1), panels };
}

// A zoom shows the photo `by` times as large as it fits, with the point (x, y), in shares of its size, in the middle.
export const WHOLE = { by: 1, x: 0.5, y: 0.5 };
export const CLOSEST = 16;

// An arrangement zoomed. Panels grow with the photo until they fill the room; the photo never leaves one of their sides bare.
// `zoom` in what is returned is the one asked for, kept within those bounds.
export function zoomed(arranged, zoom, room) {
  const { panels, across, gap } = arranged;
  const [{ width, height }] = panels;
  const by = clamp(zoom.by, 1, CLOSEST);
  const whole = { width: by * width, height: by * height };
  const spare = (side) => Math.max(0, Math.floor(room[side] - arranged[side]));
  const size = {
    width: Math.min(Math.floor(whole.width), width + Math.floor(spare("width") / (across ? panels.length : 1))),
    height: Math.min(Math.floor(whole.height), height + Math.floor(spare("height") / (across ? 1 : panels.length))),
  };
  const middle = (at, side) => clamp(at, size[side] / 2 / whole[side], 1 - size[side] / 2 / whole[side]);
  const [x, y] = [middle(zoom.x, "width"), middle(zoom.y, "height")];
  const corner = { x: size.width / 2 - x * whole.width, y: size.height / 2 - y * whole.height };
  const row = inRow(panels.length, across, gap, size, { ...whole, ...corner });
  return { ...row, scale: by * arranged.scale, zoom: { by, x, y } };
}

// The zoom that is `factor` times as close and brings what was at the point `from` to the point `to`, as far as its bounds
// let it. Points are in pixels from the middle of the canvas, which stays where it is when the canvas grows.
export function rezoomed(arranged, zoom, room, factor, from, to = from) {
  const before = zoomed(arranged, zoom, room);
  const after = zoomed(arranged, { ...zoom, by: zoom.by * factor }, room);
  const number = nearest(before, from.x + before.width / 2, from.y + before.height / 2);
  const along = (axis, side) => {
    const [old, own] = [before.panels[number].whole, after.panels[number]];
    const share = (from[axis] + before[side] / 2 - old[axis]) / old[side];
    return share + (own[axis] + own[side] / 2 - to[axis] - after[side] / 2) / own.whole[side];
  };
  return zoomed(arranged, { by: after.zoom.by, x: along("x", "width"), y: along("y", "height") }, room).zoom;
}

const away = (at, from, size) => Math.max(from - at, at - from - size, 0);

// The number of the panel that a point is in or nearest to.
function nearest({ panels }, x, y) {
  const distances = panels.map((panel) => away(x, panel.x, panel.width) + away(y, panel.y, panel.height));
  return distances.indexOf(Math.min(...distances));
}

export const inside = (panel, { x, y }) =>
  x >= panel.x && x < panel.x + panel.width && y >= panel.y && y < panel.y + panel.height;

// The pixel of the photo at a point of the canvas, and its panel's number; null between the panels.
export function pixelAt({ panels }, { width, height }, x, y) {
  const number = panels.findIndex((panel) => inside(panel, { x, y }));
  if (number < 0) return null;
  const { whole } = panels[number];
  const column = clamp(Math.floor(((x - whole.x) / whole.width) * width), 0, width - 1);
  const row = clamp(Math.floor(((y - whole.y) / whole.height) * height), 0, height - 1);
  return { column, row, panel: number };
}

// The middle of a pixel of the photo, as it lies in a panel or beyond its sides.
export function placeOf({ column, row }, { width, height }, { whole }) {
  return {
    x: whole.x + ((column + 0.5) / width) * whole.width,
    y: whole.y + ((row + 0.5) / height) * whole.height,
  };
}

export const clamp = (value, least, most) => Math.max(least, Math.min(most, value));
