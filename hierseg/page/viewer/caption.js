// The sentences at the picture: the message over it; below it, the figures of a view, what sets the two that are compared
// apart, and the quote of the report.

import { brokenShareOf, depthShown, differences, findsSomebody, modelsShown, showsRaw } from "./models.js";
import { find, make, say } from "./page.js";
import { contrastOf } from "./pure/contrast.js";
import { inPercent, inPixels } from "./pure/words.js";
import { depthsInWords } from "./risk.js";
import { state } from "./state.js";
import { ANOTHER_PART, BROKEN, ONLY_ONE, ONLY_OTHER } from "./views.js";

const NOBODY_FOUND =
  "No person found in this photo. Try one with larger people, or lower the person cut-off.";

export function draw() {
  const { scene, truth } = state;
  const found = modelsShown().some(findsSomebody);
  say(scene.example ? "example" : "ready", [found ? "" : NOBODY_FOUND, scene.note, truth?.note].filter(Boolean).join(" "));
  const sentences = showsRaw() ? undecoded : SENTENCES[state.view];
  find(".caption").replaceChildren(...(sentences?.() ?? []));
  find(".contrast").replaceChildren(...(state.view === "single" ? [] : contrast()));
  drawQuote();
}

const SENTENCES = {
  slider: depthsInWords,
  both: depthsInWords,
  differences: () => {
    const [one, other] = modelsShown();
    const { ofPhoto, ofPerson, shares } = differences();
    return [
      `On this level the two differ on ${inPercent(ofPhoto, 1)} of the photo and ${inPercent(ofPerson, 1)} of the person:`,
      key(ONLY_ONE, `only ${one.title} ${inPercent(shares[1], 1)}`),
      key(ONLY_OTHER, `only ${other.title} ${inPercent(shares[2], 1)}`),
      key(ANOTHER_PART, `another part ${inPercent(shares[3], 1)}`),
    ];
  },
};

function undecoded() {
  const shares = modelsShown().map((model) => [model.title, brokenShareOf(model)]).filter(([, share]) => share !== null);
  const said = shares.map(([title, share], index) => `${title} ${index ? "" : "breaks "}${inPixels(share)}`).join(", ");
  return [
    "Each node with a raw score above .5 is shown. Overlapping colours are mixed.",
    key(BROKEN[0], "impossible: a node without its parent. ", BROKEN[1]),
    ...(said ? [`Of the person's pixels, ${said}.`] : []),
  ];
}

// A film's figures would change too fast to be read; without decoding, they are in the caption.
function contrast() {
  const { levels, level_titles: titles, moving } = state.scene;
  const models = modelsShown().map((model) => ({ ...model, share: moving || showsRaw() ? null : brokenShareOf(model) }));
  return contrastOf(models, { name: levels[depthShown()], title: titles[depthShown()] }).map((words) => make("span", words));
}

// What a colour stands for, or two of them in stripes.
function key(color, words, other = color) {
  const chip = make("span", [], { className: "chip" });
  const [one, two] = [color, other].map((each) => `rgb(${each.join(" ")})`);
  chip.style.background = `repeating-linear-gradient(-45deg, ${one} 0 3px, ${two} 3px 6px)`;
  return make("span", [chip, words]);
}

// The sentence of the report is not for a comparison that lacks one of the checkpoints it names.
function drawQuote() {
  const sentence = find(".quote span"); // none where there is no report
  const shown = modelsShown();
  const lacking = state.scene.offered.filter(({ name }) => !shown.some((model) => model.name === name));
  if (sentence) sentence.hidden = lacking.some(({ title }) => sentence.textContent.includes(title));
}
