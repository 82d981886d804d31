// One photo at a time: it is in view, dimmed, until its result is there, or a newer one has come.

import { find, make, reveal, say } from "./page.js";
import { begin, close, open, refuse } from "./scene.js";
import { contentOf, segmentExample, segmentPhoto } from "./server.js";
import { makeRoom } from "./stage.js";
import { playFirst } from "./story.js";

const SENDING = "Sending the photo …";
const WORKING = "Segmenting the photo …";
const INVITATION =
  "Drop a photo of people anywhere on the page, paste one, or click an example. The body parts appear here.";

export const invite = () => close("empty", INVITATION);

export function showPhoto(file) {
  const picture = URL.createObjectURL(file);
  show(picture, (signal) => segmentPhoto(() => contentOf(file), signal, tell), { file, path: file.name });
}

export const showExample = (number, picture) =>
  show(picture, async (signal) => {
    const value = await segmentExample(number, signal, tell);
    return value && { ...value, lent: true };
  });

// What the page opens with; a failure is nothing that a visitor did.
export async function showFirst(picture) {
  const signal = begun();
  if (picture) {
    close("working", "Opening an example …");
    preview(picture, signal);
  }
  const value = picture ? await segmentExample(0, signal) : {};
  if (value?.parts?.length) open({ ...value, lent: true, example: true }).then(playFirst);
  else if (value) invite();
}

async function show(picture, segment, source = {}) {
  const signal = begun();
  close("working", SENDING);
  preview(picture, signal).then(reveal);
  const value = await segment(signal);
  if (value?.message) refuse(value.message);
  else if (value) open({ ...value, ...source });
}

// Shows a photo as soon as the browser has decoded it. Until then, and where it cannot, the one before stays in view.
async function preview(picture, signal) {
  const image = make("img", [], { className: "coming", src: picture, alt: "" });
  await image.decode().catch(() => {});
  if (signal.aborted || !image.naturalWidth) return;
  makeRoom(image);
  find(".coming").replaceWith(image);
}

function tell({ busy, ahead, waiting, loading }) {
  if (loading < 1) say("working", `Loading the network, only this once: ${Math.round(100 * loading)} % …`);
  else if (busy) say("working", "Too many photos are waiting. Yours is sent again in a moment …");
  else say("working", ahead ? `Others came first: yours is number ${ahead} of ${waiting} in the queue …` : WORKING);
}

// Returns a signal that is given when something newer is shown.
function begun() {
  const ending = new AbortController();
  begin(() => {
    ending.abort();
    URL.revokeObjectURL(find(".coming").src);
    find(".coming").removeAttribute("src");
  });
  return ending.signal;
}
