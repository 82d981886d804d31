// One photo at a time: it stays in view, dimmed, until its result is there, or a newer one has come.

import { find, say } from "./page.js";
import { begin, close, open, refuse } from "./scene.js";
import { contentOf, segmentExample, segmentPhoto } from "./server.js";

const WORKING = "Segmenting the photo …";
const FIRST = "An example. Drop a photo of your own.";
const INVITATION =
  "Drop a photo of people anywhere on the page, paste one, or click an example. The body parts appear here.";

export function showPhoto(file) {
  const picture = URL.createObjectURL(file);
  show(picture, (signal) => segmentPhoto(() => contentOf(file), signal, tell));
}

export const showExample = (number, picture) => show(picture, (signal) => segmentExample(number, signal, tell));

// What the page opens with; a failure is nothing that a visitor did.
export async function showFirst(hasExamples) {
  const value = hasExamples ? await segmentExample(0, begun()) : {};
  if (value?.parts?.length) open({ ...value, example: true, note: FIRST });
  else if (value) close("empty", INVITATION);
}

async function show(picture, segment) {
  const signal = begun();
  find(".coming").src = picture;
  close("working", WORKING);
  const value = await segment(signal);
  if (value?.message) refuse(value.message);
  else if (value) open(value);
}

function tell({ busy, ahead, waiting }) {
  if (busy) say("working", "Too many photos are waiting. Yours is sent again in a moment …");
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
