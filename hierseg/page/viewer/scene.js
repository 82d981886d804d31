// The scene: what the server said of one photo, as arrays. After the one inference, everything is answered from it.
//
// hierseg/page/payload.py makes the value: {version, note, original: [width, height] of the photo as it was sent, tree,
// background, void, levels, level_titles, nodes: [{name, title, label, color, path}], checkpoints: [{name, title,
// threshold, loss: {title, line, tree, consistent, paper} or null, figures: {photos, split, iou, violations_of_person} or null,
// risk: {promises: [{one_in, certainty, wrong}], held_out} or null}], offered: [{name, title}] of these and of those that
// were not asked, the best on validation first, parts: the photo (shrunk where it is large) and the maps of each
// checkpoint}. photo.js marks what no visitor sent as `lent`, and what the page opens with as `example`, the camera and a
// clip mark theirs as `moving`; a photo that one did send has its `file`, and what comes from a file the `path` that names
// it. Where checkpoints are run one by one, `more(names)` returns the value with those of other names too.

import { say } from "./page.js";
import { mapsOf, unpack } from "./pure/decoding.js";
import { showNothing, showScene, state } from "./state.js";

const asked = new WeakMap(); // of a scene: the names that more is being asked of
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

// Has the checkpoints of these names segment the scene too.
export async function complete(names) {
  const { scene } = state;
  if (!scene.more || names.every((name) => asked.get(scene)?.has(name))) return;
  asked.set(scene, new Set(names));
  say("working", "Running another network …");
  const { message, ...value } = await scene.more(names);
  if (state.scene !== scene) return;
  if (message) refuse(message);
  else await open({ ...scene, ...value });
}

// The value with its pictures unpacked, and `models`: the checkpoints with their maps.
export async function unpacked({ parts: [jpeg, ...packed], ...value }) {
  const photo = await createImageBitmap(new Blob([jpeg], { type: "image/jpeg" }), { colorSpaceConversion: "none" });
  const { width, height } = photo;
  const maps = await Promise.all(packed.map((each) => unpack(each, width)));
  const models = value.checkpoints.map((checkpoint, index) => ({
    ...checkpoint,
    ...mapsOf(maps[index], width * height, value.levels.length),
  }));
  return { ...value, photo, width, height, models };
}
