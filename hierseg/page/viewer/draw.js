// Pictures of maps: filled regions, outlines that stay sharp at any size, and the panels of a view on one canvas.

// A canvas of the maps' size in which each pixel has the colour of its number, or is empty where there is none.
function fillLayer(map, width, height, colors) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const packed = new Uint32Array(256); // ABGR, as ImageData lays bytes out on a little-endian machine
  for (const [number, [red, green, blue]] of Object.entries(colors))
    packed[number] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  for (let pixel = 0; pixel < map.length; pixel++) pixels[pixel] = packed[map[pixel]];
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").putImageData(image, 0, 0);
  return layer;
}

// The lines between regions, in pixels of the map: for each square of four neighbouring pixel centres, the middles of its
// sides that lie between two regions are joined. This is marching squares for any number of regions.
function outlinePath(map, width, height) {
  const path = new Path2D();
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

// A light line on a dark one shows on every photo and on every colour.
function outlineLayer(path, width, height, scale, ratio) {
  const layer = new OffscreenCanvas(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
  const context = layer.getContext("2d");
  context.scale(layer.width / width, layer.height / height);
  for (const [color, thickness] of [
    ["rgb(0 0 0 / 0.6)", 3],
    ["rgb(255 255 255 / 0.95)", 1.3],
  ]) {
    context.strokeStyle = color;
    context.lineWidth = (thickness * ratio) / scale;
    context.stroke(path);
  }
  return layer;
}

// Where `count` pictures of one shape lie in a box, one beside the other, or below it where they are much larger so. None
// is thinner than `least`: a photo of 9000 by 3 pixels would have no height.
function arrange(count, width, height, boxWidth, boxHeight, gap, least = 1) {
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

// Words in a panel's upper corner, "left" or "right", in as many lines as it takes to stay within the panel.
function tag(context, text, panel, side, ratio) {
  context.save();
  context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
  const widthOf = (words) => context.measureText(words).width;
  const lines = [];
  for (const word of text.split(" ")) {
    const longer = `${lines.at(-1)} ${word}`;
    if (lines.length && widthOf(longer) <= panel.width - 32 * ratio) lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  const width = Math.max(...lines.map(widthOf)) + 16 * ratio;
  const x = side === "left" ? panel.x + 8 * ratio : panel.x + panel.width - width - 8 * ratio;
  context.fillStyle = "rgb(0 0 0 / 0.72)";
  context.beginPath();
  context.roundRect(x, panel.y + 8 * ratio, width, (7 + 17 * lines.length) * ratio, 6 * ratio);
  context.fill();
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  lines.forEach((line, index) => context.fillText(line, x + 8 * ratio, panel.y + (20.5 + 17 * index) * ratio));
  context.restore();
}

// A cross with a dark rim at a place of a panel.
function cross(context, x, y, ratio) {
  for (const [color, thickness] of [
    ["rgb(0 0 0 / 0.8)", 4],
    ["#fff", 1.5],
  ]) {
    context.strokeStyle = color;
    context.lineWidth = thickness * ratio;
    context.beginPath();
    for (const [dx, dy] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ]) {
      context.moveTo(x + 4 * dx * ratio, y + 4 * dy * ratio);
      context.lineTo(x + 12 * dx * ratio, y + 12 * dy * ratio);
    }
    context.stroke();
  }
}
