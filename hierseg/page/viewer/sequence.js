// A sequence: several photos, or the pictures of a clip, each segmented in turn and kept, to be looked at one by one.

import { CLIP_RATE, film } from "./clip.js";
import { drawShares } from "./draw.js";
import { areasOf, depthShown, modelsShown, ownThreshold } from "./models.js";
import { find, make, say } from "./page.js";
import { decode } from "./pure/decoding.js";
import { csvOf, safeName, zip } from "./pure/files.js";
import { areas } from "./pure/measures.js";
import { membersOfLevel } from "./pure/tables.js";
import { annotationsBy, cocoBlob, figuresBlob, imageOf, look, maskOf, picture, save } from "./saving.js";
import { begin, close, open, refuse, unpacked } from "./scene.js";
import { pictureBlob } from "./stage.js";
import { state } from "./state.js";
import * as thumbnails from "./thumbnails.js";

const MOST_TICKS = 6; // labels of a time line
const MOST_SKIPPED = 3; // pictures of a clip at a time
const LARGEST_ZIP = 1e9; // bytes, or little more: the format ends at four times as many

let sequence = null; // {kind, items: [{title, value, time, shares}], failures, place, ending, playing} of photos or a clip

export function connect() {
  sequence = null;
  find(".stop").addEventListener("click", () => sequence.ending.abort());
  find(".play").addEventListener("click", () => (sequence.playing ? pause() : play()));
  find(".save-all").addEventListener("click", saveAll);
  find(".save-shares").addEventListener("click", saveShares);
  find("[name=place]").addEventListener("input", (event) => scrub(Number(event.target.value)));
  thumbnails.connect(scrub);
}

// Segments the pictures of a source one after the other; what is there can be looked at meanwhile. One that fails does
// not end it. The source yields {title, path, file, time, picture, total, doing, done}: `picture` makes what `segment`
// sends, `path` names it in tables, `doing` says what is being segmented and what is left out, `done` the same of the first
// so many that are.
export async function runSequence(kind, source, segment) {
  const own = { kind, items: [], failures: [], place: 0, ending: new AbortController(), playing: null };
  const { signal } = own.ending;
  begin(() => {
    own.ending.abort();
    own.playing?.abort();
    sequence = null;
    find(".sequence").hidden = true;
  });
  sequence = own;
  find(".sequence").dataset.kind = kind;
  find(".sequence").dataset.running = true;
  find(".failures").replaceChildren();
  Object.assign(find(".sequence progress"), { value: 0, max: 1 });
  thumbnails.clear();
  close("working", "Opening …");
  try {
    for await (const { title, path, file, time, picture: content, total, doing, done } of source) {
      if (signal.aborted) break;
      if (!own.items.length) say("working", `${doing} …`);
      const value = await segment(content, signal);
      if (!value) break;
      const message = value.message ?? (await add(own, { title, time, value: light({ ...value, path, file }) }));
      if (message) fail(own, { title, path, message });
      find(".sequence progress").max = total;
      find(".sequence progress").value = own.items.length + own.failures.length;
      tell(done(own.items.length));
    }
  } catch (error) {
    fail(own, { message: error.message }); // the file itself cannot be read any further
  }
  if (sequence !== own) return;
  delete find(".sequence").dataset.running;
  if (own.items.length) draw();
  else refuse(own.failures.length ? wordsOf(own.failures[0]) : "Nothing was segmented.");
}

// A scene's value whose bytes the browser may keep on a disk: there can be any number of photos.
const light = (value) => ({ ...value, parts: value.parts?.map((part) => new Blob([part])) });

const wordsOf = ({ title, message }) => (title ? `${title}: ${message}` : message);

function fail(own, failure) {
  own.failures.push(failure);
  if (sequence === own) find(".failures").append(make("li", wordsOf(failure)));
}

// Adds a picture and shows it; returns a sentence where it cannot be shown.
async function add(own, item) {
  own.items.push(item);
  try {
    await show(own.items.length - 1);
  } catch (error) {
    own.items.pop();
    console.warn(error);
    return "This picture cannot be shown.";
  }
  return null;
}

async function show(place) {
  const own = sequence;
  const item = own.items[place];
  own.place = place;
  await open({ ...item.value, moving: own.kind === "clip" });
  if (sequence !== own || own.place !== place) return;
  if (own.kind !== "clip" || item.shares) return;
  item.shares = state.scene.models.map(sharesOf);
  draw();
}

function scrub(place) {
  pause();
  show(place);
}

// Each node's share of the photo, by the checkpoint's own threshold.
function sharesOf(model) {
  const { nodes } = state.scene;
  return areas(decode(model, nodes, ownThreshold(model), 0), model.scores, nodes).map((area) => area.share_of_photo);
}

// Plays a clip at its own pace, over and over; where the machine is too slow, pictures are left out, but not many in a row.
async function play() {
  const own = sequence;
  own.playing = new AbortController();
  const { signal } = own.playing;
  draw();
  for (let last = performance.now(); !signal.aborted; ) {
    const now = await new Promise(requestAnimationFrame);
    const passed = Math.floor(((now - last) * CLIP_RATE) / 1000);
    if (signal.aborted || passed < 1) continue;
    last += (1000 * passed) / CLIP_RATE;
    await show((own.place + Math.min(passed, MOST_SKIPPED)) % own.items.length);
  }
}

function pause() {
  if (!sequence?.playing) return;
  sequence.playing.abort();
  sequence.playing = null;
  draw();
}

export function draw() {
  if (!sequence?.items.length || !state.scene) return;
  const { kind, items, place, playing } = sequence;
  find(".sequence").hidden = false;
  const slider = find("[name=place]");
  slider.max = items.length - 1;
  slider.value = place;
  slider.ariaValueText = items[place].title;
  find(".sequence").toggleAttribute("data-alone", items.length < 2);
  find(".place").textContent = `${place + 1} of ${items.length}: ${items[place].title}`;
  find(".play").textContent = playing ? "Pause" : "Play";
  find(".save-all").textContent = kind === "clip" ? "Save as clip" : "Save all (ZIP)";
  if (kind === "clip") drawTimeLine(items, place);
  else thumbnails.draw(items, place);
}

function drawTimeLine(items, place) {
  const model = state.scene.models.indexOf(modelsShown()[0]);
  const nodes = membersOfLevel(state.scene, depthShown());
  const rows = items.map((item) => nodes.map((node) => item.shares?.[model][node] ?? 0));
  const colors = nodes.map((node) => state.scene.nodes[node].color);
  drawShares(find(".shares"), rows, colors, place);
  const end = items.at(-1).time;
  const step = [0.5, 1, 2, 3, 5].find((seconds) => end / seconds < MOST_TICKS);
  const times = Array.from({ length: Math.floor(end / step) + 1 }, (_, number) => number * step);
  find(".times").replaceChildren(
    ...times.map((time) => {
      const label = make("span", `${time} s`);
      label.style.left = `${end ? (100 * time) / end : 0}%`;
      label.style.translate = `-${label.style.left}`; // all of it stays within the line
      return label;
    }),
  );
}

// Saves every picture as it is shown now: a zip of pictures, masks and figures, or several; or a film of a clip.
async function saveAll() {
  pause();
  const own = sequence;
  const { kind, items, place } = own;
  const saved = [];
  let zips = 0; // that are saved already
  const annotations = new Map(); // of each checkpoint that is shown
  await attempt(async () => {
    for (const number of items.keys()) {
      if (sequence === own) await show(number);
      if (sequence !== own) return; // a photo came in between: there is nothing to save any more
      tell(`${number + 1} of ${items.length} prepared for saving`);
      if (kind === "clip") saved.push(await createImageBitmap(await pictureBlob()));
      else saved.push(...(await filesOf(items[number], number, annotations)));
      if (kind === "photos" && saved.reduce((sum, [, blob]) => sum + blob.size, 0) > LARGEST_ZIP)
        save(await zip(saved.splice(0)), `hierseg-photos-${++zips}.zip`);
    }
    if (sequence !== own) return;
    if (kind === "clip") {
      tell("Recording the clip …");
      const clip = await film(saved).catch(() => null); // without an encoder some browsers throw
      if (!clip?.size) {
        tell("This browser cannot record a clip. Save pictures one by one, or try another browser.");
        return;
      }
      save(clip, `hierseg-clip.${clip.type.split("/")[1]}`);
    } else {
      const images = items.map(({ value }, number) => imageOf(value, number + 1));
      for (const [name, each] of annotations) saved.push([`coco-${name}.json`, cocoBlob(images, each)]);
      saved.push(["shares.csv", new Blob([csvOf(await sharesTable(own))])]);
      save(await zip(saved), zips ? `hierseg-photos-${zips + 1}.zip` : "hierseg-photos.zip");
    }
    tell("Saved");
    if (sequence === own) await show(place);
  });
}

async function saveShares() {
  pause();
  await attempt(async () => {
    const own = sequence;
    const rows = await sharesTable(own);
    if (sequence !== own) return;
    save(new Blob([csvOf(rows)], { type: "text/csv" }), "hierseg-shares.csv");
    tell("Saved");
  });
}

async function attempt(act) {
  for (const button of [find(".save-all"), find(".save-shares")]) button.disabled = true;
  try {
    await act();
  } catch (error) {
    tell("Saving failed: there may be too little memory. Try again with fewer pictures.");
    console.warn(error);
  } finally {
    for (const button of [find(".save-all"), find(".save-shares")]) button.disabled = false;
  }
}

function tell(words) {
  find(".progress").textContent = words;
}

// A row for each picture and checkpoint that is shown, as it is decoded now, and for each picture that failed: the columns
// of `python -m hierseg archive --export csv`.
async function sharesTable(own) {
  const { items, failures } = own;
  const { nodes, version } = state.scene;
  const names = modelsShown().map((model) => model.name);
  const kinds = ["share_of_photo", "share_of_person", "confidence"];
  const columns = nodes.flatMap((node) => kinds.map((kind) => `${node.name}_${kind}`));
  const rows = [["path", "width", "height", "checkpoint", "version", "error", ...columns]];
  for (const { value } of items) {
    const scene = await unpacked(value);
    if (sequence !== own) break;
    for (const model of names.map((name) => scene.models.find((each) => each.name === name))) {
      const figures = areasOf(model).flatMap((area) => kinds.map((kind) => area[kind]));
      rows.push([value.path, ...value.original, model.name, version, "", ...figures]);
    }
  }
  for (const { path, message } of failures) rows.push([path, "", "", "", version, message, ...columns.map(() => "")]);
  return rows;
}

async function filesOf({ title }, number, annotations) {
  const stem = `${String(number + 1).padStart(2, "0")}-${safeName(title.replace(/\.[^.]*$/, ""))}`;
  const files = [
    [`${stem}/picture-${look()}.png`, await picture()],
    [`${stem}/figures.json`, figuresBlob()],
  ];
  for (const model of modelsShown()) {
    files.push([`${stem}/mask-${model.name}-${state.level}.png`, await maskOf(model)]);
    annotations.set(model.name, [...(annotations.get(model.name) ?? []), ...annotationsBy(model, number + 1)]);
  }
  return files;
}
