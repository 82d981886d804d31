// How photos come in: what is dropped or pasted anywhere on the page goes the way of a photo chosen in the photo box;
// several photos, or a clip, become a sequence.

import { picturesOf } from "./clip.js";
import { find } from "./page.js";
import { refuse } from "./scene.js";
import { runSequence } from "./sequence.js";
import { segmentFrame, segmentPhoto } from "./server.js";

const MOST_PHOTOS = 50;
export const LARGEST_PHOTO = 15e6; // bytes, as in actions.py
const TOO_LARGE = `This photo is larger than ${LARGEST_PHOTO / 1e6} MB.`;

const openPhotos = (files) => runSequence("photos", photosOf(files), segmentPhoto);
const openClip = ([file]) => runSequence("clip", picturesOf(file), segmentFrame);
const photoInput = () => document.querySelector("#photo input[type=file]"); // none while the box is at its camera
const hasFiles = (event) => event.dataTransfer?.types.includes("Files");

export function connect() {
  for (const [kind, openAll] of Object.entries({ photos: openPhotos, clip: openClip })) {
    const input = find(`[type=file][name=${kind}]`);
    find(`[data-open=${kind}]`).addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      if (input.files.length) openAll([...input.files]);
      input.value = "";
    });
  }
  listenToPage("dragover", (event) => {
    if (hasFiles(event)) event.preventDefault(); // or the browser leaves the page for the file that is dropped
  });
  listenToPage("drop", onDrop, { capture: true });
  listenToPage("paste", (event) => {
    if (event.clipboardData?.files.length) openFiles([...event.clipboardData.files]);
  });
  listenToPage("change", refuseTooLarge, { capture: true }); // before Gradio sends it
  listenToPage("click", offerAll, { capture: true });
}

// Listens to the whole page for as long as the viewer is in it.
function listenToPage(kind, listen, options) {
  const viewer = find(".viewer");
  document.addEventListener(kind, (event) => viewer.isConnected && listen(event), options);
}

function openFiles(files) {
  const input = photoInput();
  if (files.length > 1 || !input) openPhotos(files);
  else if (files[0].type.startsWith("video/")) openClip(files);
  else {
    const moved = new DataTransfer();
    moved.items.add(files[0]);
    input.files = moved.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
}

function onDrop(event) {
  if (!hasFiles(event)) return;
  event.preventDefault();
  if (event.target.closest?.("#ground-truth")) return;
  event.stopPropagation();
  event.target.dispatchEvent(new DragEvent("dragleave", { bubbles: true })); // the photo box stops waiting for it
  if (event.dataTransfer.files.length) openFiles([...event.dataTransfer.files]);
}

// Gradio's chooser offers only what the system knows as pictures; the server tells a photo by its content.
function offerAll({ target }) {
  if (target.matches?.("#photo [type=file]")) target.removeAttribute("accept");
}

function refuseTooLarge(event) {
  const [file] = event.target === photoInput() ? event.target.files : [];
  if (!(file?.size > LARGEST_PHOTO)) return;
  event.stopPropagation();
  event.target.value = "";
  refuse(TOO_LARGE);
}

// Yields the photos as sequence.js takes them.
async function* photosOf(files) {
  const cut = files.length > MOST_PHOTOS;
  const doing = cut ? `Segmenting the first ${MOST_PHOTOS} of ${files.length} photos` : "Segmenting the photos";
  const most = cut ? `; ${MOST_PHOTOS} is the most at once` : "";
  const done = (count) => `${count} of ${files.length} photos segmented${most}`;
  for (const file of files.slice(0, MOST_PHOTOS)) yield { title: file.name, picture: () => urlOf(file), doing, done };
}

async function urlOf(file) {
  if (file.size > LARGEST_PHOTO) throw new Error(TOO_LARGE);
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error("This file cannot be read.")));
    reader.readAsDataURL(file);
  });
}
