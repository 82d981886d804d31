// What was chosen is kept in the address, after the "#", so that a link shows it again: nothing of the photo, and nothing
// that the server hears of.

import { changesOf, choice, node, nodes, tick, whole, written } from "./pure/address.js";
import { change, redraw, state, usual } from "./state.js";
import { VIEWS } from "./views.js";

const names = ({ offered }) => offered.map((checkpoint) => checkpoint.name);

// A setting has a line here, by the word that stands for it in the address.
const KEPT = {
  level: choice("level", ({ levels }) => levels),
  view: choice("view", ({ offered }) => (offered.length < 2 ? ["single"] : Object.keys(VIEWS))),
  raw: tick("raw"),
  checkpoint: choice("checkpoint", names),
  pair: {
    write: ({ first, second }) => `${first},${second}`,
    read(word, scene) {
      const [first, second, ...more] = word.split(",");
      const two = names(scene).includes(first) && names(scene).includes(second) && first !== second && !more.length;
      return two ? { first, second } : {};
    },
  },
  threshold: whole("threshold", 5, 95), // in hundredths
  risk: whole("risk", 2, 100), // 1 in so many; one that cannot be promised is as if it were not chosen
  opacity: whole("opacity", 0, 100),
  split: whole("split", 0, 100),
  outlines: tick("outlines"),
  names: tick("names"),
  hidden: nodes("hidden"),
  background: choice("background", () => ["blur", "grey", "color", "none"]), // a visitor's own picture is in no link
  color: {
    write: ({ color }) => color.slice(1),
    read: (word) => (/^[0-9a-f]{6}$/.test(word) ? { color: `#${word}` } : {}),
  },
  subject: node("subject"),
};
const PATIENCE = 250; // milliseconds of rest before it is written: Safari lets a page write 100 times in half a minute

let asked = null; // what is to be shown as soon as there is a scene
let waiting = 0;

export function connect() {
  asked = window.location.hash || null;
  window.addEventListener("hashchange", ask);
}

function ask() {
  asked = window.location.hash;
  redraw();
}

export function draw() {
  if (asked !== null) {
    const words = asked.slice(1);
    asked = null;
    change({ ...usual(state.scene), ...changesOf(KEPT, words, state.scene) });
  }
  clearTimeout(waiting);
  if (state.told) return; // what a story shows was not chosen
  waiting = setTimeout(write, PATIENCE);
}

function write() {
  if (!state.scene || state.told || asked !== null) return;
  const url = new URL(window.location.href);
  url.hash = written(KEPT, state, usual(state.scene));
  if (url.href === window.location.href) return;
  history.replaceState(history.state, "", url);
  // The Hub's page around a Space has the address that visitors see; Spaces hand its hash on to their frame when it opens.
  if (window.parent !== window) window.parent.postMessage({ hash: url.hash }, "https://huggingface.co");
}
