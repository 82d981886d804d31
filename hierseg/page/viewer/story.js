// The story of a photo: steps that show it in one way after the other, with a sentence each. It plays by itself once, on
// the example that the page opens with, until a visitor does anything; and whenever it is asked for.

import { brokenRegionOf, brokenShareOf, findsSomebody } from "./models.js";
import { find, make } from "./page.js";
import { storyOf } from "./pure/story.js";
import { membersOfLevel } from "./pure/tables.js";
import { endTelling, state, tell } from "./state.js";

const PACE = 5000; // milliseconds a step
const ACTIONS = ["click", "keydown", "input", "change", "paste", "drop"]; // scrolling and pointing are none
const IDLE_KEYS = ["Tab", "Shift", "Control", "Alt", "Meta"];

let story = null; // {scene, steps, place} while it is told
let timer = 0; // of the next step; 0 where nothing moves by itself
let untouched = true;

export function connect() {
  forget();
  untouched = true;
  const buttons = {
    back: () => turn(story.place - 1),
    next: () => turn(story.place + 1),
    pause: () => (timer ? turn(story.place) : play()),
    skip: end,
  };
  for (const [name, act] of Object.entries(buttons)) find(`.story .${name}`).addEventListener("click", act);
  find(".tell").addEventListener("click", () => begin(find(".story .next")));
  for (const action of ACTIONS) document.addEventListener(action, giveWay, { capture: true });
}

export function draw() {
  if (story?.scene !== state.scene) forget(); // with another photo comes back what was chosen before
  find(".tell").hidden = !state.scene.models.some(findsSomebody);
  find(".story").hidden = story === null;
  if (!story) return;
  const { steps, place } = story;
  write(".step", steps[place].words.map(titled));
  write(".source", [steps[place].source]);
  write(".count", [`${place + 1} of ${steps.length}`]);
  write(".next", [place + 1 < steps.length ? "Next" : "Done"]);
  write(".pause", [timer ? "Stop" : "Play"]);
  find(".story .back").disabled = place === 0;
}

// Plays the story of the example that the page opened with, unless the visitor or the address wants something else.
export function playFirst() {
  if (state.scene?.example && untouched && window.location.hash.length < 2) begin();
}

function begin(focused) {
  tell({ show: {}, point: null }); // as the checkpoints decode by themselves
  const { scene } = state;
  if (!scene.models.some(findsSomebody)) return end();
  const levels = scene.levels.map((name, depth) => ({
    name,
    title: scene.level_titles[depth],
    members: membersOfLevel(scene, depth),
  }));
  const models = scene.models.map((model) => ({
    ...model,
    share: brokenShareOf(model) ?? 0,
    region: brokenRegionOf(model),
  }));
  story = { scene, steps: storyOf(levels, models), place: 0 };
  if (window.matchMedia("(prefers-reduced-motion: reduce)").matches) go(0);
  else play();
  focused?.focus();
}

function go(place) {
  story.place = place;
  tell(story.steps[place]);
}

// By hand: from then on nothing moves by itself.
function turn(place) {
  stop();
  if (place < story.steps.length) go(place);
  else end();
}

function play() {
  stop();
  timer = setTimeout(() => {
    if (document.hidden) play(); // nobody would see it
    else if (story.place + 1 < story.steps.length) {
      story.place++;
      play();
    } else end();
  }, PACE);
  go(story.place);
}

function stop() {
  clearTimeout(timer);
  timer = 0;
}

function forget() {
  stop();
  story = null;
}

// Ends the story, with what was chosen before it.
function end() {
  const focused = find(".story").contains(document.activeElement);
  forget();
  endTelling(true);
  if (focused) find(".tell").focus({ preventScroll: true }); // it may be far below
}

// Whoever does anything goes on from what is shown. It is drawn anew a moment later: a box that is being ticked would lose
// its tick.
function giveWay({ type, target, key }) {
  if (target.closest?.(".story, .tell") || (type === "keydown" && IDLE_KEYS.includes(key))) return;
  untouched = false;
  if (!story) return;
  forget();
  setTimeout(() => endTelling(false));
}

function titled(piece) {
  if (piece.node === undefined) return piece;
  const { title, color } = state.scene.nodes[piece.node];
  const name = make("b", title);
  name.style.setProperty("--color", `rgb(${color.join(" ")})`);
  return name;
}

// Changes what a piece of the story says, only where it says something else: it is read aloud when it changes.
function write(selector, pieces) {
  const [place, said] = [find(`.story ${selector}`), make("span", pieces)];
  if (place.textContent !== said.textContent) place.replaceChildren(...said.childNodes);
}
