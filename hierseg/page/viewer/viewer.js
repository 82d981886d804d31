// The viewer. gr.HTML starts it and hands in its element.
//
// A photo, a camera or a sequence goes through scene.js into state.js, which has every part drawn; a part's controls
// change the state. What follows from scene and state is in models.js and, without anything of the page, in pure/, which
// tests/page/viewer holds against the library.

import * as about from "./about.js";
import * as address from "./address.js";
import * as camera from "./camera.js";
import * as caption from "./caption.js";
import * as choices from "./choices.js";
import * as description from "./description.js";
import * as effects from "./effects.js";
import * as gestures from "./gestures.js";
import * as intake from "./intake.js";
import { modelsShown, namesShown } from "./models.js";
import { attach, find } from "./page.js";
import { showFirst } from "./photo.js";
import * as readout from "./readout.js";
import * as risk from "./risk.js";
import * as saving from "./saving.js";
import * as sequence from "./sequence.js";
import { complete } from "./scene.js";
import * as settings from "./settings.js";
import * as stage from "./stage.js";
import { drawWith } from "./state.js";
import * as story from "./story.js";
import * as tree from "./tree.js";
import * as truth from "./truth.js";

// In this order: the address may ask for something else; the stage is measured when the page around it says what it says,
// and the read-out lies on the stage.
const DRAWN = [
  address,
  choices,
  about,
  caption,
  story,
  stage,
  gestures,
  tree,
  truth,
  settings,
  risk,
  effects,
  readout,
  sequence,
  saving,
  intake,
  description,
];

// Draws parts, unless a checkpoint that is looked at has not been asked yet.
const drawParts = (parts) => (modelsShown().every(Boolean) ? parts.forEach((part) => part.draw()) : complete(namesShown()));

export function start(element) {
  window.endLoading?.(); // what app.py puts before Gradio's scripts
  attach(element);
  drawWith(
    () => drawParts(DRAWN),
    () => drawParts([stage, gestures, readout]),
  );
  for (const part of [...DRAWN, camera]) if (part !== intake) part.connect?.();
  showFirst(find("#examples img")?.src);
  intake.connect(); // after the example, which gives way to a photo
}
