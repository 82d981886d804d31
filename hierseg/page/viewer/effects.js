// What is in front, a node or whoever is found, cut out with a soft edge; and what is put behind it. Sizes are those of
// the canvases, so that what is shown and what is saved are painted alike.

import { greyOut, put, softLayer } from "./draw.js";
import { alphaOf, onceOf, showsRaw, thereOf } from "./models.js";
import { fillFor, find, findAll, make } from "./page.js";
import { inOrder } from "./pure/tables.js";
import { change, state } from "./state.js";

const SURE = 3; // times that a mask is laid on itself: what is left is hardly mixed with what is behind
const SPREAD_SIZE = 1280; // longest side of what colours are spread in; they change little over the width of an edge
const BLUR_SIZE = 640; // and of what is blurred, so that blur is as wide on every size of a photo
const BLUR = 4; // times that it is halved

export function connect() {
  for (const input of findAll("[name=hierseg-background]"))
    input.addEventListener("change", () => change({ background: input.value }));
  find("[name=color]").addEventListener("input", (event) => change({ color: event.target.value }));
  find("[name=subject]").addEventListener("change", ({ target }) =>
    change({ subject: target.value === "" ? null : Number(target.value) }),
  );
  find("[name=backdrop]").addEventListener("change", choosePicture);
}

async function choosePicture({ target }) {
  const picture = await createImageBitmap(target.files[0]).catch(() => null);
  find(".backdrop output").textContent = picture ? target.files[0].name : "The browser cannot open this picture.";
  if (picture) change({ backdrop: picture });
}

export function draw() {
  const { nodes } = state.scene;
  const names = nodes.map((node) => node.name).join();
  fillFor(find("[name=subject]"), names, (list) => offer(list, nodes));
  find(".viewer").dataset.background = backgroundShown();
  for (const input of findAll("[name=hierseg-background]")) input.checked = input.value === state.background;
  find("[name=color]").value = state.color;
  find("[name=subject]").value = state.subject ?? "";
}

// What is behind where the view shows it: differences and raw scores are seen on the photo as it is.
export const backgroundShown = () => (showsRaw() || state.view === "differences" ? "keep" : state.background);

// A single root is the whole person.
function offer(list, nodes) {
  const order = inOrder(nodes);
  const roots = order.filter((node) => nodes[node].path.length === 1);
  const parts = order.filter((node) => roots.length > 1 || node !== roots[0]);
  const titled = (node) => make("option", nodes[node].title, { value: node });
  list.replaceChildren(make("option", "whole person", { value: "" }), ...parts.map(titled));
}

// What is in front, in words; null where it is not in the photo.
export function subjectOf(model) {
  const { scene, subject } = state;
  if (!thereOf(model, subject)) return null;
  return subject === null ? "person" : scene.nodes[subject].name;
}

// What is in front of a photo in some size, and nothing else. Along its edge the photo's pixels are mixed with what was
// behind, so the colours of what is surely in front are spread over the edge.
export function cutOut(model, photo) {
  const alpha = alphaOf(model, state.subject);
  const sure = scaled(photo, photo.width, photo.height);
  for (let time = 0; time < SURE; time++) lay(sure, alpha, "destination-in");
  const result = scaled(photo, photo.width, photo.height); // as opaque as the photo, however little is sure
  lay(result, spread(fitted(sure, Math.min(SPREAD_SIZE, Math.max(photo.width, photo.height)))));
  lay(result, sure);
  return lay(result, alpha, "destination-in");
}

const BACKDROPS = {
  blur: (context, panel, photo, model) => put(context, panel, onceOf(model, "blurred", state.subject, () => blurred(model))),
  grey: (context, panel, photo) => {
    put(context, panel, photo);
    greyOut(context, panel);
  },
  color: (context, panel) => {
    context.fillStyle = state.color;
    context.fillRect(panel.x, panel.y, panel.width, panel.height);
  },
  picture: (context, panel) => {
    if (state.backdrop) cover(context, panel, state.backdrop);
  },
  none: () => {},
};

// Paints a photo with what is chosen behind it.
export function paintInFront(context, panel, photo, model) {
  BACKDROPS[state.background](context, panel, photo, model);
  const shown = photo === state.scene.photo; // what is saved in the photo's own size is not worth remembering
  put(context, panel, shown ? onceOf(model, "cut out", state.subject, () => cutOut(model, photo)) : cutOut(model, photo));
}

// What is behind, blurred without what is in front, which would shine around itself.
function blurred(model) {
  const behind = fitted(state.scene.photo, BLUR_SIZE);
  for (let time = 0; time < SURE; time++) lay(behind, alphaOf(model, state.subject), "destination-out");
  return spread(behind, BLUR);
}

// A layer with the colours around them where it is transparent, and without its finest details: halved time and again,
// and each half enlarged below what it was made of. Gortler et al., The Lumigraph, 1996, section 3.4 (pull-push).
function spread(layer, finest = 0) {
  const { width, height } = layer;
  if (Math.max(width, height) < 2) return layer;
  const coarse = spread(scaled(layer, Math.ceil(width / 2), Math.ceil(height / 2)), finest - 1);
  const result = lay(scaled(coarse, width, height), coarse); // twice, or much of it would stay half transparent
  return finest > 0 ? result : lay(result, layer);
}

function scaled(picture, width, height) {
  return lay(softLayer(width, height), picture);
}

function fitted(picture, longest) {
  const scale = longest / Math.max(picture.width, picture.height);
  return scaled(picture, Math.max(1, Math.round(picture.width * scale)), Math.max(1, Math.round(picture.height * scale)));
}

function lay(layer, picture, how = "source-over") {
  const context = layer.getContext("2d");
  context.globalCompositeOperation = how;
  context.drawImage(picture, 0, 0, layer.width, layer.height);
  return layer;
}

// Fills a panel with the middle of a picture.
function cover(context, panel, picture) {
  const scale = Math.max(panel.width / picture.width, panel.height / picture.height);
  const [width, height] = [panel.width / scale, panel.height / scale];
  const [left, top] = [(picture.width - width) / 2, (picture.height - height) / 2];
  context.drawImage(picture, left, top, width, height, panel.x, panel.y, panel.width, panel.height);
}
