// What is chosen, as the words of an address.

import assert from "node:assert/strict";
import test from "node:test";

import { changesOf, choice, node, nodes, tick, whole, written } from "../../../hierseg/page/viewer/pure/address.js";

const SCENE = { levels: ["body", "parts & more"], nodes: [{ name: "body" }, { name: "upper" }, { name: "lower" }] };
const TABLE = {
  level: choice("level", ({ levels }) => levels),
  opacity: whole("opacity", 0, 100),
  threshold: whole("threshold", 5, 95),
  outlines: tick("outlines"),
  subject: node("subject"),
  hidden: nodes("hidden"),
};
const USUAL = { level: "body", opacity: 55, threshold: null, outlines: true, subject: null, hidden: new Set() };

test("words bring back every state from which they were written", () => {
  for (const level of SCENE.levels)
    for (const opacity of [0, 55, 100])
      for (const threshold of [null, 5, 50, 95])
        for (const outlines of [true, false]) {
          for (const subject of [null, 0, 1])
            for (const hidden of [new Set(), new Set([1]), new Set([0, 1])]) {
              const state = { level, opacity, threshold, outlines, subject, hidden };
              const words = written(TABLE, { ...state, scene: SCENE }, USUAL);
              assert.deepEqual({ ...USUAL, ...changesOf(TABLE, words, SCENE) }, state);
            }
        }
});

test("only what differs from the usual is written", () => {
  assert.equal(written(TABLE, USUAL, USUAL), "");
  assert.equal(written(TABLE, { ...USUAL, opacity: 20, outlines: false }, USUAL), "opacity=20&outlines=off");
});

test("what is unknown or out of range is as if it were not there", () => {
  const words = [
    "level=toes", "level=", "opacity=101", "opacity=-1", "opacity=1e1", "opacity=5.5", "opacity=", "threshold=4",
    "threshold=96", "threshold=null", "outlines=true", "photo=x", "level", "&&=&", "%", "__proto__=1", "subject=",
    "subject=tail", "hidden=",
  ];
  for (const each of words) assert.deepEqual(changesOf(TABLE, each, SCENE), {}, each);
  assert.deepEqual(changesOf(TABLE, words.join("&"), SCENE), {});
  assert.deepEqual(changesOf(TABLE, "hidden=tail,upper", SCENE), { hidden: new Set([1]) });
});
