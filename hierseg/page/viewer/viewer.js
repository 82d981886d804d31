// The viewer. gr.HTML starts it and hands in its element, its props, `watch`, which tells when those change, and the
// server's functions.
//
// A value of the page, a camera or a sequence goes through scene.js into state.js, which has every part drawn; a part's
// controls change the state. What follows from scene and state is in models.js and, without anything of the page, in
// pure/, which tests/page/viewer holds against the library.

import * as camera from "./camera.js";
import * as caption from "./caption.js";
import * as choices from "./choices.js";
import * as intake from "./intake.js";
import { attach, find } from "./page.js";
import * as readout from "./readout.js";
import * as saving from "./saving.js";
import { begin, close, open } from "./scene.js";
import * as sequence from "./sequence.js";
import * as server from "./server.js";
import * as settings from "./settings.js";
import * as stage from "./stage.js";
import { drawWith } from "./state.js";
import * as tree from "./tree.js";
import * as truth from "./truth.js";

// In this order: the stage is measured when the page around it says what it says, and the read-out lies on the stage.
const DRAWN = [choices, caption, stage, tree, truth, settings, readout, sequence];
const INVITATION =
  "Drop a photo of people anywhere on the page, paste one, or click an example. The body parts appear here.";

export function start({ element, props, watch, server: functions }) {
  attach(element);
  server.connect(functions);
  drawWith(() => DRAWN.forEach((part) => part.draw()));
  for (const part of [choices, stage, tree, settings, readout, sequence, saving, camera, intake]) part.connect();
  sayPlaceInQueue(element.closest(".block"), props);
  watch("value", () => load(props.value));
  load(props.value);
}

// Takes in a value of the page: null where there is no photo, {working} while one is on its way, {message} when it was
// refused, and else a scene's, at first that of an example.
function load(value) {
  begin();
  if (!value) close("empty", INVITATION);
  else if (value.working) close("working", value.working);
  else if (value.message) close("refused", value.message);
  else open(value);
}

// Gradio writes its own line over the viewer while a photo waits; it is hidden, and said here in words.
function sayPlaceInQueue(block, props) {
  let said = "";
  new MutationObserver(() => {
    if (find(".viewer").dataset.state !== "working" || !props.value?.working) return;
    const place = /queue: (\d+)\/(\d+)/.exec(block.querySelector(".progress-text")?.textContent ?? "");
    const waiting = place && `Others came first: yours is number ${place[1]} of ${place[2]} in the queue …`;
    const words = waiting ?? props.value.working;
    if (words !== said) find(".message").textContent = words;
    said = words;
  }).observe(block, { subtree: true, childList: true, characterData: true });
}
