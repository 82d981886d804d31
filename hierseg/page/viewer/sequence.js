// A sequence: several photos, or the pictures of a clip, each segmented in turn and kept, to be looked at one by one.

import { film } from "./clip.js";
import { drawShares } from "./draw.js";
import { depthShown, modelsShown, ownThreshold } from "./models.js";
import { find, make, say } from "./page.js";
import { decode } from "./pure/decoding.js";
import { safeName, zip } from "./pure/files.js";
import { areas } from "./pure/measures.js";
import { membersOfLevel } from "./pure/tables.js";
import { figuresBlob, maskOf, save } from "./saving.js";
import { begin, close, open, refuse } from "./scene.js";
import { pictureBlob } from "./stage.js";
import { state } from "./state.js";

let sequence = null; // {kind, items: [{title, value, shares}], place, ending} of several photos or a clip

export function connect() {
  sequence = null;
  find(".stop").addEventListener("click", () => sequence.ending.abort());
  find(".save-all").addEventListener("click", saveAll);
  find("[name=place]").addEventListener("input", (event) => show(Number(event.target.value)));
}

// Segments the pictures of a source one after the other; what is there can be looked at meanwhile. One that fails does
// not end it. The source yields {title, picture, doing, done}: `picture` makes what `segment` sends, `doing` says what is
// being segmented and what is left out, `done` the same of the first so many that are.
export async function runSequence(kind, source, segment) {
  const own = { kind, items: [], place: 0, ending: new AbortController() };
  const { signal } = own.ending;
  const failures = [];
  begin(() => {
    own.ending.abort();
    sequence = null;
    find(".sequence").hidden = true;
  });
  sequence = own;
  find(".sequence").dataset.kind = kind;
  find(".failures").replaceChildren();
  find(".stop").hidden = false;
  find(".save-all").hidden = true;
  close("working", "Opening …");
  try {
    for await (const { title, picture, doing, done } of source) {
      if (signal.aborted) break;
      if (!own.items.length) say("working", `${doing} …`);
      const value = await segment(picture, signal);
      if (!value) break;
      const failure = value.message ?? (await add(own, { title, value }));
      if (failure) failures.push(`${title}: ${failure}`);
      find(".progress").textContent = done(own.items.length);
    }
  } catch (error) {
    failures.push(error.message); // the file itself cannot be read any further
  }
  if (sequence !== own) return;
  find(".stop").hidden = true;
  find(".save-all").hidden = own.items.length === 0;
  find(".failures").replaceChildren(...failures.map((words) => make("li", words)));
  if (own.items.length) draw();
  else refuse(failures[0] ?? "Nothing was segmented.");
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
  await open(item.value);
  if (sequence !== own || own.place !== place) return;
  if (own.kind === "clip") item.shares ??= state.scene.models.map(sharesOf);
  draw();
}

// Each node's share of the photo, by the checkpoint's own threshold.
function sharesOf(model) {
  const { nodes } = state.scene;
  return areas(decode(model, nodes, ownThreshold(model), 0), model.scores, nodes).map((area) => area.share_of_photo);
}

export function draw() {
  if (!sequence?.items.length) return;
  const { kind, items, place } = sequence;
  find(".sequence").hidden = false;
  find("[name=place]").max = items.length - 1;
  find("[name=place]").value = place;
  find(".place").textContent = `${place + 1} of ${items.length}: ${items[place].title}`;
  if (kind !== "clip" || !state.scene) return;
  const model = state.scene.models.indexOf(modelsShown()[0]);
  const nodes = membersOfLevel(state.scene, depthShown());
  const rows = items.map((item) => nodes.map((node) => item.shares?.[model][node] ?? 0));
  const colors = nodes.map((node) => state.scene.nodes[node].color);
  drawShares(find(".shares"), rows, colors, place);
}

// Saves every picture as it is shown now: a zip of pictures, masks and figures, or a film of the clip.
async function saveAll() {
  const own = sequence;
  const { kind, items, place } = own;
  const saved = [];
  find(".save-all").disabled = true;
  try {
    for (const number of items.keys()) {
      if (sequence === own) await show(number);
      if (sequence !== own) return; // a photo came in between: there is nothing to save any more
      tell(`${number + 1} of ${items.length} prepared for saving`);
      if (kind === "clip") saved.push(await createImageBitmap(await pictureBlob()));
      else saved.push(...(await filesOf(items[number], number)));
    }
    if (sequence !== own) return;
    if (kind === "clip") {
      tell("Filming …");
      const clip = await film(saved).catch(() => null); // without an encoder some browsers throw
      if (!clip?.size) {
        tell("This browser cannot film. Save pictures one by one, or try another browser.");
        return;
      }
      save(clip, `hierseg-clip.${clip.type.split("/")[1]}`);
    } else save(await zip(saved), "hierseg-photos.zip");
    tell("Saved");
    if (sequence === own) await show(place);
  } catch (error) {
    tell("Saving failed: there may be too little memory. Try again with fewer pictures.");
    console.warn(error);
  } finally {
    find(".save-all").disabled = false;
  }
}

function tell(words) {
  find(".progress").textContent = words;
}

async function filesOf({ title }, number) {
  const stem = `${String(number + 1).padStart(2, "0")}-${safeName(title.replace(/\.[^.]*$/, ""))}`;
  const files = [
    [`${stem}/picture-${state.view}.png`, await pictureBlob()],
    [`${stem}/figures.json`, figuresBlob()],
  ];
  for (const model of modelsShown()) files.push([`${stem}/mask-${model.name}-${state.level}.png`, await maskOf(model)]);
  return files;
}
