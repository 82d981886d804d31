// The steps of the story, told of whatever checkpoints there are.

import assert from "node:assert/strict";
import test from "node:test";

import { contrastOf } from "../../../hierseg/page/viewer/pure/contrast.js";
import { storyOf } from "../../../hierseg/page/viewer/pure/story.js";

const NODES = ["body", "upper", "lower", "head", "leg"]; // head is of upper, leg of lower
const LEVELS = [
  { name: "body", title: "body", members: [0] },
  { name: "upper-lower", title: "halves", members: [1, 2] },
  { name: "parts", title: "parts", members: [3, 4] },
];
const REGION = { point: { column: 4, row: 2, reach: 1 }, node: 4, parent: 2, decoded: null };
const FREE = { title: "BCE", tree: false };
const TREE = { title: "Focal-Tree-Min", tree: true };
const SOFTMAX = { title: "Softmax over leaves", tree: false, consistent: true };

const figures = (parts, broken = null, photos = 507) => ({
  photos,
  split: "val",
  iou: { body: 0.9, "upper-lower": 0.8, parts },
  violations_of_person: broken,
});
const model = (name, loss, more = {}) => ({
  name,
  loss,
  title: loss?.title ?? name,
  share: 1 / 12,
  region: REGION,
  figures: null,
  ...more,
});
const bce = (more) => model("bce", FREE, { figures: figures(0.551, 0.082), ...more });
const ftm = (more) => model("ftm", TREE, { share: 1 / 800, figures: figures(0.542, 0.0011), ...more });

const leaf = (more) => model("leaf", SOFTMAX, { share: 0, region: null, figures: figures(0.604, 0), ...more });

const said = ({ words }) => words.map((piece) => (piece.node === undefined ? piece : NODES[piece.node])).join("");
const told = (...models) => storyOf(LEVELS, models);

test("a story goes down the tree, breaks it, mends it, and says what the tree loss learnt and each IoU", () => {
  const steps = told(bce(), ftm());
  assert.deepEqual(steps.map(said), [
    "Each pixel of a person is labelled body.",
    "One level down the tree, it is upper or lower.",
    "On the tree's last level, it is head or leg.",
    "Trained without the tree, BCE says leg here, yet not lower: impossible.",
    "Decoding mends this: only whole paths down the tree count, and here it says background.",
    "Focal-Tree-Min was trained with the tree: even without decoding, it breaks the tree at 1 pixel in 800, BCE at 1 pixel in 12.",
    "After decoding, overlap with masks drawn by hand (IoU of parts): BCE .551, Focal-Tree-Min .542.",
  ]);
  assert.deepEqual(steps.map(({ show }) => [show.view, show.level, show.raw]), [
    ["single", "body", false],
    ["single", "upper-lower", false],
    ["single", "parts", false],
    ["single", "parts", true],
    ["single", "parts", false],
    ["both", "parts", true],
    ["slider", "parts", false],
  ]);
  assert.deepEqual(steps.map(({ show }) => show.checkpoint ?? [show.first, show.second]), [
    ...Array(5).fill("bce"),
    ["bce", "ftm"],
    ["bce", "ftm"],
  ]);
  assert.deepEqual(steps.map(({ point }) => point !== null), [false, false, false, true, true, false, false]);
});

test("what is not of the photo is quoted with the photos that it is of", () => {
  const [learnt, measured] = told(bce(), ftm()).slice(-2);
  assert.equal(learnt.source, "Median over 507 validation photos, from the model cards: at 1 pixel in 910, BCE at 1 pixel in 12.");
  assert.equal(measured.source, "Mean over parts on 507 validation photos, from the model cards. One training run each: a difference of .01 may be chance.");
  for (const step of told(bce(), ftm()).slice(0, -2)) assert.equal(step.source, "");
});

test("figures of other photos, or of none, are not set against each other", () => {
  for (const other of [null, figures(0.542, 0.0011, 100), { ...figures(0.542, 0.0011), split: "test" }]) {
    const steps = told(bce({ figures: other }), ftm());
    assert.equal(steps[5].source, "");
    assert.match(said(steps[6]), /: Focal-Tree-Min \.542\.$/);
    assert.equal(told(bce(), ftm({ figures: null })).length, 6);
  }
  assert.equal(told(bce({ figures: figures(0.551) }), ftm()).at(-2).source, "");
});

test("what does not hold of the checkpoints, or is not on the photo, is left out", () => {
  const endings = (...models) => told(...models).map((step) => said(step).split(" ")[0]);
  assert.deepEqual(endings(bce()), ["Each", "One", "On", "Trained", "Decoding"]);
  assert.deepEqual(endings(ftm()), ["Each", "One", "On", "Focal-Tree-Min", "After"]);
  assert.deepEqual(endings(bce({ share: 0, region: null }), ftm()), ["Each", "One", "On", "Focal-Tree-Min", "After"]);
  assert.deepEqual(endings(model("mine", null)), ["Each", "One", "On"]);
  assert.equal(said(told(ftm({ share: 0 }), model("mine", null))[3]).includes("it breaks the tree at no pixel."), true);
});

test("of several that break the tree, the one is shown that breaks it most", () => {
  const steps = told(bce(), model("focal", { title: "Focal", tree: false }, { share: 1 / 5 }), ftm());
  assert.match(said(steps[3]), /^Trained without the tree, Focal /);
  assert.match(said(steps[5]), /Focal at 1 pixel in 5\.$/);
});

test("what decoding says instead is named on the level that is shown", () => {
  const region = { ...REGION, node: 2, parent: 0, decoded: [0, 1, 3] };
  const [, , , broken, mended] = told(bce({ region }), ftm());
  assert.equal(broken.show.level, "upper-lower");
  assert.match(said(mended), /and here it says upper\.$/);
  assert.match(said(told(bce({ region: { ...region, decoded: [0] } }))[4]), /and here it says body\.$/);
});

test("a tree of one level or of two has a story too", () => {
  assert.deepEqual(storyOf(LEVELS.slice(0, 1), [model("mine", null)]).map(said), ["Each pixel of a person is labelled body."]);
  assert.deepEqual(storyOf(LEVELS.slice(1), [model("mine", null)]).map(said), [
    "Each pixel of a person is labelled upper or lower.",
    "On the tree's last level, it is head or leg.",
  ]);
});

test("a loss with which nothing can break the tree is said to be one where others are, or learnt it", () => {
  const cannot = /^Softmax over leaves cannot break the tree/;
  const steps = told(leaf(), bce(), ftm());
  assert.match(said(steps[6]), cannot);
  assert.deepEqual([steps[6].show.checkpoint, steps[6].show.raw], ["leaf", true]);
  assert.equal(said(steps[7]), "After decoding, overlap with masks drawn by hand (IoU of parts): Softmax over leaves .604, BCE .551, Focal-Tree-Min .542.");
  assert.match(said(told(leaf(), bce()).at(-1)), cannot);
  for (const others of [told(leaf()), told(leaf({ share: 0.1 }), ftm())])
    assert.equal(others.some((step) => cannot.test(said(step))), false);
});

test("what is said of two that are compared is of these two", () => {
  const PARTS = { name: "parts", title: "parts" };
  const SOURCE = "Mean over parts on 507 validation photos, from the model cards. One training run each: a difference of .01 may be chance.";
  const SUM = "it scores only the smallest parts, and adds their scores up for anything larger.";
  assert.deepEqual(contrastOf([leaf(), bce()], PARTS), [
    "Without decoding, BCE breaks the tree at 1 pixel in 12 of the person here.",
    `Softmax over leaves cannot break the tree: ${SUM}`,
    `After decoding, overlap with masks drawn by hand (IoU of parts): Softmax over leaves .604, BCE .551. ${SOURCE}`,
  ]);
  assert.deepEqual(contrastOf([bce(), ftm()], PARTS), [
    "Without decoding, BCE breaks the tree at 1 pixel in 12 of the person here, Focal-Tree-Min at 1 pixel in 800.",
    `After decoding, overlap with masks drawn by hand (IoU of parts): BCE .551, Focal-Tree-Min .542. ${SOURCE}`,
  ]);
  const other = figures(0.542, 0.0011, 100); // of other photos
  assert.deepEqual(contrastOf([leaf({ share: null }), ftm({ share: null, figures: other })], PARTS), [
    `Softmax over leaves cannot break the tree: ${SUM}`,
  ]);
  assert.deepEqual(contrastOf([model("one", null, { share: null }), model("two", null, { share: null })], PARTS), []);
});
