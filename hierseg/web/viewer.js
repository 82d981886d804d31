// The viewer: draws one photo and the label maps of every checkpoint on a canvas.
// Runs as the body of gr.HTML's js_on_load, which hands in `element`, `props` and `watch`.
// After the one inference, checkpoint, level and opacity are answered here, without the server.
//
// props.value is null before the first photo, {message} when a photo was refused, and else
// {photo, background, levels, nodes: [{name, title, label, color, path, leaf}],
// checkpoints: [{name, title, labels, areas}]}: see hierseg/web/payload.py, which makes it.

const choice = { checkpoint: null, level: null };
let scene = null;
let newest = 0;

const find = (selector) => element.querySelector(selector);

async function decodeImage(url) {
  const blob = await (await fetch(url)).blob();
  return createImageBitmap(blob, { colorSpaceConversion: "none" });
}

// Reads the numbers of a grey PNG, one label a pixel.
async function decodeLabels(url) {
  const bitmap = await decodeImage(url);
  const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const rgba = context.getImageData(0, 0, bitmap.width, bitmap.height).data;
  const labels = new Uint8Array(bitmap.width * bitmap.height);
  for (let pixel = 0; pixel < labels.length; pixel++) labels[pixel] = rgba[4 * pixel];
  return labels;
}

async function load(value) {
  const turn = ++newest;
  if (!value || value.message) {
    scene = null;
    show(value ? "refused" : "empty", value ? value.message : find(".viewer").dataset.invitation);
    return;
  }
  const [photo, ...maps] = await Promise.all([
    decodeImage(value.photo),
    ...value.checkpoints.map((checkpoint) => decodeLabels(checkpoint.labels)),
  ]);
  if (turn !== newest) return; // a newer photo came in meanwhile
  scene = { ...value, photo, maps };
  const names = value.checkpoints.map((checkpoint) => checkpoint.name);
  const titles = value.checkpoints.map((checkpoint) => checkpoint.title);
  if (!names.includes(choice.checkpoint)) choice.checkpoint = names.at(-1);
  if (!value.levels.includes(choice.level)) choice.level = value.levels.at(-1);
  offer("checkpoint", names, titles);
  offer("level", value.levels, value.levels);
  draw();
}

function show(state, message) {
  find(".viewer").dataset.state = state;
  find(".message").textContent = message;
}

function offer(kind, values, titles) {
  const options = find(`[data-choice="${kind}"] .options`);
  options.replaceChildren(
    ...values.map((value, index) => {
      const label = document.createElement("label");
      const input = document.createElement("input");
      input.type = "radio";
      input.name = `hierseg-${kind}`;
      input.value = value;
      input.checked = value === choice[kind];
      input.addEventListener("change", () => {
        choice[kind] = value;
        draw();
      });
      label.append(input, titles[index]);
      return label;
    }),
  );
}

function draw() {
  if (!scene) return;
  const active = scene.checkpoints.findIndex((checkpoint) => checkpoint.name === choice.checkpoint);
  const depth = scene.levels.indexOf(choice.level);
  const canvas = find("canvas");
  const { width, height } = scene.photo;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  context.drawImage(scene.photo, 0, 0);
  const layer = paint(scene.maps[active], width, height, depth, Number(find("[name=opacity]").value) / 100);
  context.drawImage(layer, 0, 0);
  canvas.dataset.checkpoint = choice.checkpoint;
  canvas.dataset.level = choice.level;
  const areas = scene.checkpoints[active].areas;
  const found = Object.values(areas).some((area) => area.share_of_photo > 0);
  show("ready", found ? "" : "No person found in this photo. Try one in which people are larger.");
  list(depth, areas);
}

// Returns a canvas with each region filled in its node's colour and outlined.
function paint(labels, width, height, depth, opacity) {
  const shown = new Uint8Array(256).fill(scene.background); // label -> label of its ancestor on this level
  const color = new Uint32Array(256); // label -> opaque ABGR, as ImageData lays bytes out on a little-endian machine
  const line = new Uint32Array(256);
  for (const node of scene.nodes) {
    shown[node.label] = node.path[Math.min(depth, node.path.length - 1)];
    const [red, green, blue] = node.color;
    color[node.label] = (255 << 24) | (blue << 16) | (green << 8) | red;
    line[node.label] = (255 << 24) | (pale(blue) << 16) | (pale(green) << 8) | pale(red);
  }
  const map = new Uint8Array(labels.length);
  for (let pixel = 0; pixel < map.length; pixel++) map[pixel] = shown[labels[pixel]];
  const image = new ImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const alpha = Math.round(opacity * 255) << 24;
  for (let row = 0, pixel = 0; row < height; row++) {
    for (let column = 0; column < width; column++, pixel++) {
      const label = map[pixel];
      if (label === scene.background || opacity === 0) continue;
      const edge =
        (column > 0 && map[pixel - 1] !== label) ||
        (column + 1 < width && map[pixel + 1] !== label) ||
        (row > 0 && map[pixel - width] !== label) ||
        (row + 1 < height && map[pixel + width] !== label);
      pixels[pixel] = edge ? line[label] : (color[label] & 0xffffff) | alpha;
    }
  }
  const layer = new OffscreenCanvas(width, height);
  layer.getContext("2d").putImageData(image, 0, 0);
  return layer;
}

// Outlines are paler than the fill, so that they show on clothes of the fill's own colour.
function pale(channel) {
  return Math.round(channel + (255 - channel) * 0.6);
}

function inPercent(share) {
  if (share === 0) return "none";
  return share < 0.005 ? "< 1 %" : `${(100 * share).toFixed(0)} %`;
}

function list(depth, areas) {
  const onLevel = scene.nodes.filter(
    (node) => node.path.length - 1 === depth || (node.path.length - 1 < depth && node.leaf),
  );
  find(".legend").replaceChildren(
    ...onLevel.map((node) => {
      const entry = document.createElement("li");
      const swatch = document.createElement("span");
      const share = document.createElement("span");
      const area = areas[node.name];
      swatch.className = "swatch";
      swatch.style.background = `rgb(${node.color.join(" ")})`;
      share.className = "share";
      share.textContent = inPercent(area.share_of_person);
      entry.classList.toggle("absent", area.share_of_photo === 0);
      entry.append(swatch, node.title, share);
      return entry;
    }),
  );
}

find("[name=opacity]").addEventListener("input", draw);
find(".viewer").dataset.invitation =
  "Drop a photo of people into the box, paste one, or click an example. The parts appear here at once.";
watch("value", () => load(props.value));
load(props.value);
