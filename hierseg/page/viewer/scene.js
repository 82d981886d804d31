// The scene: what the server said of one photo, as arrays. After the one inference, everything is answered from it.
//
// hierseg/page/payload.py makes the value: {version, note, original: [width, height] of the photo as it was sent, photo
// (shrunk where that is large), tree, background, void, levels, nodes: [{name, title, label, color, path}],
// checkpoints: [{name, title, threshold, maps}], the best on validation first, truth, example: whether no visitor sent
// it}.

import { say } from "./page.js";
import { mapsOf, unpack } from "./pure/decoding.js";
import { nodesOfLabels, through } from "./pure/tables.js";
import { showNothing, showScene } from "./state.js";

let newest = 0;
let endSource = () => {};

// Begins a new source of scenes: a photo, the camera, a sequence. The one before is ended, and what is still on its way
// from there is not shown any more.
export function begin(end = () => {}) {
  const endLast = endSource;
  endSource = end;
  newest++;
  endLast();
}

// Shows a sentence instead of a scene.
export function close(why, message) {
  newest++;
  showNothing();
  say(why, message);
}

export function refuse(message) {
  begin();
  close("refused", message);
}

// Shows a scene, unless something newer came in while it was unpacked.
export async function open(value) {
  const turn = ++newest;
  const scene = await unpacked(value);
  if (turn === newest) showScene(scene);
}

// The value with its pictures unpacked, and `models`: the checkpoints with their maps.
async function unpacked(value) {
  const photo = await decodeImage(value.photo);
  const { width, height } = photo;
  const [truth, ...maps] = await Promise.all([
    value.truth && unpack(value.truth, width),
    ...value.checkpoints.map((checkpoint) => unpack(checkpoint.maps, width)),
  ]);
  const models = value.checkpoints.map((checkpoint, index) => ({
    ...checkpoint,
    ...mapsOf(maps[index], width * height, value.levels.length),
  }));
  return { ...value, photo, width, height, models, truth: truth && through(nodesOfLabels(value), truth) };
}

async function decodeImage(url) {
  const blob = await (await fetch(url)).blob();
  return createImageBitmap(blob, { colorSpaceConversion: "none" });
}
