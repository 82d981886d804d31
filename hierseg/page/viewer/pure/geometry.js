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
  const step = across ? { x: size.width + gap, y: 0 } : { x: 0, y: size.height + gap };
  return {
    scale,
    width: size.width + step.x * (count - 1),
    height: size.height + step.y * (count - 1),
    panels: Array.from({ length: count }, (_, index) => ({ x: index * step.x, y: index * step.y, ...size })),
  };
}

// The pixel of the photo at a point of the canvas, and its panel's number; null between the panels.
export function pixelAt({ panels }, { width, height }, x, y) {
  const number = panels.findIndex(
    (panel) => x >= panel.x && x < panel.x + panel.width && y >= panel.y && y < panel.y + panel.height,
  );
  if (number < 0) return null;
  const panel = panels[number];
  const column = Math.floor(((x - panel.x) / panel.width) * width);
  const row = Math.floor(((y - panel.y) / panel.height) * height);
  return { column, row, panel: number };
}

// The middle of a pixel of the photo in a panel.
export function placeOf({ column, row }, { width, height }, panel) {
  return {
    x: panel.x + ((column + 0.5) / width) * panel.width,
    y: panel.y + ((row + 0.5) / height) * panel.height,
  };
}
