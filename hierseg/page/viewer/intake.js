// How photos come in: chosen, dropped or pasted anywhere on the page, or an example. One is shown by itself; several, or
// the pictures of a clip, become a sequence.

import { picturesOf } from "./clip.js";
import { find, findAll, reveal } from "./page.js";
import { showExample, showPhoto } from "./photo.js";
import { runSequence } from "./sequence.js";
import { contentOf, segmentFrame, segmentPhoto } from "./server.js";
import { state } from "./state.js";

let drawn = null; // the scene in the thumbnail

export function connect() {
  for (const input of findAll("#photo .button [type=file]")) {
    const take = () => {
      openFiles([...input.files]);
      input.value = ""; // or the same file, chosen again, would be no change
    };
    input.addEventListener("change", take);
    if (input.files.length) take(); // on a slow line, it is chosen before the modules have come
  }
  for (const button of findAll("#examples button")) {
    const take = () => openExample(button);
    button.addEventListener("click", take);
    if (button.matches("[aria-current]")) take(); // it marked itself: the modules had not come yet
  }
  listenToPage("dragover", onDrag);
  listenToPage("dragleave", onDrag);
  listenToPage("drop", onDrop);
  listenToPage("paste", ({ clipboardData }) => openFiles([...(clipboardData?.files ?? [])]));
}

// Listens to the whole page for as long as the viewer is in it.
function listenToPage(kind, listen) {
  const viewer = find(".viewer");
  document.addEventListener(kind, (event) => viewer.isConnected && listen(event));
}

// The visitor's photo in small, on the button for another one.
export function draw() {
  const { scene } = state;
  const thumb = find(".thumb");
  thumb.hidden = Boolean(scene.lent);
  find(".choose span").textContent = scene.lent ? "Choose a photo" : "Another photo";
  if (scene.example) mark(find("#examples button"));
  if (scene.lent || scene === drawn) return;
  drawn = scene;
  mark(null);
  const scale = 64 / Math.min(scene.width, scene.height);
  Object.assign(thumb, { width: scene.width * scale, height: scene.height * scale });
  thumb.getContext("2d").drawImage(scene.photo, 0, 0, thumb.width, thumb.height);
}

// Marks the example that is shown, or none.
function mark(shown) {
  for (const button of findAll("#examples button")) button.ariaCurrent = button === shown ? "true" : null;
}

function openExample(button) {
  mark(button);
  reveal();
  showExample(button.dataset.number, button.firstElementChild.src);
}

function openFiles(files) {
  const [file] = files;
  if (file) reveal();
  if (files.length > 1) runSequence("photos", photosOf(files), segmentPhoto);
  else if (file?.type.startsWith("video/")) runSequence("clip", picturesOf(file), segmentFrame);
  else if (file) showPhoto(file);
}

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
const isForTruth = (event) => event.target.closest?.("[name=truth]"); // which takes what is dropped on it by itself

function onDrag(event) {
  if (!hasFiles(event) || isForTruth(event)) return;
  event.preventDefault(); // or the browser leaves the page for the file that is dropped
  find(".viewer").toggleAttribute("data-awaited", event.type === "dragover");
}

function onDrop(event) {
  if (!hasFiles(event) || isForTruth(event)) return;
  event.preventDefault();
  find(".viewer").removeAttribute("data-awaited");
  openFiles([...event.dataTransfer.files]);
}

// Yields the photos as sequence.js takes them.
async function* photosOf(files) {
  const total = files.length;
  const doing = `Segmenting ${total} photos`;
  const done = (count) => `${count} of ${total} photos segmented`;
  for (const file of files)
    yield { title: file.name, path: file.name, file, picture: () => contentOf(file), total, doing, done };
}
