// What is drawn on a canvas: filled regions, outlines that stay sharp at any size, words, a cross, a time line.

import { arrangeNames } from "./pure/names.js";

// A canvas of the maps' size in which each pixel has the colour of its number, or is empty where there is none.
export function fillLayer(map, width, height, colors) {
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const packed = new Uint32Array(Math.max(256, colors.length ?? 0)); // ABGR, as ImageData lays bytes out on a little-endian machine
  for (const [number, [red, green, blue]] of Object.entries(colors))
    packed[number] = ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  for (let pixel = 0; pixel < map.length; pixel++) pixels[pixel] = packed[map[pixel]];
  return layerOf(image);
}

function layerOf(image) {
  const layer = new OffscreenCanvas(image.width, image.height);
  layer.getContext("2d").putImageData(image, 0, 0);
  return layer;
}

// The same of a map of ones in stripes of two colours, so that it differs from every part, whatever its colour.
export function stripesLayer(map, width, height, colors) {
  const thickness = Math.max(2, Math.round(Math.max(width, height) / 200));
  const stripe = (pixel) => 1 + (Math.floor(((pixel % width) + Math.floor(pixel / width)) / thickness) % 2);
  return fillLayer(map.map((one, pixel) => one && stripe(pixel)), width, height, { 1: colors[0], 2: colors[1] });
}

// A canvas that enlarges and shrinks well.
export function softLayer(width, height) {
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").imageSmoothingQuality = "high";
  return layer;
}

// A canvas of the maps' size that is as opaque as a map says, from 0 to 255.
export function alphaLayer(alpha, width, height) {
  const image = new ImageData(width, height);
  for (let pixel = 0; pixel < alpha.length; pixel++) image.data[4 * pixel + 3] = alpha[pixel];
  return layerOf(image);
}

export function put(context, { x, y, width, height }, picture) {
  context.drawImage(picture, x, y, width, height);
}

// Draws within a box alone.
export function drawWithin(context, { x, y, width, height }, draw) {
  context.save();
  context.beginPath();
  context.rect(x, y, width, height);
  context.clip();
  draw();
  context.restore();
}

// Takes the colours out of a box.
export function greyOut(context, { x, y, width, height }) {
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(x, y, width, height);
  context.globalCompositeOperation = "source-over";
}

// Draws outlines, in pixels of a map, where the map lies in the picture; they are as thin however large it is. A light line
// on a dark one shows on every photo and on every colour.
export function drawOutlines(context, path, place, { width, height }, ratio) {
  context.save();
  context.translate(place.x, place.y);
  context.scale(place.width / width, place.height / height);
  for (const [color, thickness] of [
    ["rgb(0 0 0 / 0.6)", 3],
    ["rgb(255 255 255 / 0.95)", 1.3],
  ]) {
    context.strokeStyle = color;
    context.lineWidth = (thickness * ratio * width) / place.width;
    context.stroke(path);
  }
  context.restore();
}

// Words in a panel's upper corner, "left" or "right", in as many lines as it takes to stay within the panel.
export function tag(context, text, panel, side, ratio) {
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

// The names of regions at their middles, {title, color, x, y}; one that had to be moved is tied to its middle by a line.
export function writeNames(context, names, panel, ratio) {
  context.save();
  context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
  context.textBaseline = "middle";
  const height = 20 * ratio;
  const sized = names.map((name) => ({ ...name, width: context.measureText(name.title).width + 17 * ratio, height }));
  const boxes = arrangeNames(sized, panel);
  boxes.forEach((box, index) => {
    if (!box) return;
    const { title, color, x, y, width } = sized[index];
    const end = [Math.max(box.x, Math.min(box.x + width, x)), Math.max(box.y, Math.min(box.y + height, y))];
    if (end[0] !== x || end[1] !== y)
      strokeRimmed(context, ratio, () => {
        context.moveTo(x, y);
        context.lineTo(...end);
      });
    context.fillStyle = "rgb(0 0 0 / 0.76)";
    context.beginPath();
    context.roundRect(box.x, box.y, width, height, 4 * ratio);
    context.fill();
    context.fillStyle = `rgb(${color.join(" ")})`;
    context.fillRect(box.x, box.y, 5 * ratio, height);
    context.fillStyle = "#fff";
    context.fillText(title, box.x + 11 * ratio, box.y + height / 2);
  });
  context.restore();
}

// A cross at a place of a panel.
export function cross(context, x, y, ratio) {
  strokeRimmed(context, ratio, () => {
    for (const [across, down] of [
      [1, 0],
      [-1, 0],
      [0, 1],
      [0, -1],
    ]) {
      context.moveTo(x + 4 * across * ratio, y + 4 * down * ratio);
      context.lineTo(x + 12 * across * ratio, y + 12 * down * ratio);
    }
  });
}

// A white line with a dark rim shows on every photo.
function strokeRimmed(context, ratio, trace, [rim, line] = [4, 1.5]) {
  for (const [color, thickness] of [
    ["rgb(0 0 0 / 0.8)", rim],
    ["#fff", line],
  ]) {
    context.strokeStyle = color;
    context.lineWidth = thickness * ratio;
    context.beginPath();
    trace();
    context.stroke();
  }
}

// A ring with a dark rim around a place of a panel.
export function ring(context, x, y, radius, ratio) {
  strokeRimmed(context, ratio, () => context.arc(x, y, radius, 0, 2 * Math.PI), [7, 3.5]);
}

// Draws how the parts' shares of the photo change from picture to picture: areas one above the other, and where one is.
export function drawShares(canvas, rows, colors, current) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const top = Math.max(0.01, ...rows.map((row) => row.reduce((sum, share) => sum + share, 0)));
  const across = (index) => (rows.length > 1 ? (index / (rows.length - 1)) * width : width / 2);
  const floor = rows.map(() => 0);
  colors.forEach((color, part) => {
    const ceiling = rows.map((row, index) => floor[index] + row[part]);
    context.fillStyle = `rgb(${color.join(" ")})`;
    context.beginPath();
    floor.forEach((share, index) => context.lineTo(across(index), height * (1 - share / top)));
    for (let index = rows.length - 1; index >= 0; index--)
      context.lineTo(across(index), height * (1 - ceiling[index] / top));
    context.fill();
    ceiling.forEach((share, index) => (floor[index] = share));
  });
  context.fillStyle = "#000";
  context.fillRect(across(current) - ratio, 0, 2 * ratio, height);
  context.fillStyle = "#fff";
  context.fillRect(across(current) - ratio / 2, 0, ratio, height);
}

export const jpegOf = (canvas) => new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.9));
