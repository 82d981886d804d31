// The sentences at the picture: the message over it, the figures of a view below it, and the quote of the report.

import { differences, findsSomebody, modelsShown } from "./models.js";
import { find, make, say } from "./page.js";
import { inPercent } from "./pure/words.js";
import { depthsInWords } from "./risk.js";
import { state } from "./state.js";
import { ANOTHER_PART, BREAK, ONLY_ONE, ONLY_OTHER } from "./views.js";

const NOBODY_FOUND =
  "No person found in this photo. Try one in which people are larger, or move the person cut-off down.";

export function draw() {
  const { scene, truth } = state;
  const found = modelsShown().some(findsSomebody);
  say(scene.example ? "example" : "ready", [found ? "" : NOBODY_FOUND, scene.note, truth?.note].filter(Boolean).join(" "));
  find(".caption").replaceChildren(...(SENTENCES[state.view]?.() ?? []));
  drawQuote();
}

const SENTENCES = {
  slider: depthsInWords,
  both: depthsInWords,
  differences: () => {
    const [one, other] = modelsShown();
    const { ofPhoto, ofPerson, shares } = differences();
    return [
      `On this level the two differ on ${inPercent(ofPhoto, 1)} of the photo, ${inPercent(ofPerson, 1)} of the people: `,
      key(ONLY_ONE, `only ${one.title} ${inPercent(shares[1], 1)}`),
      key(ONLY_OTHER, `only ${other.title} ${inPercent(shares[2], 1)}`),
      key(ANOTHER_PART, `another part ${inPercent(shares[3], 1)}`),
    ];
  },
  breaks: () => [
    key(BREAK, "A part's raw score is above .5 and its parent's is not. "),
    "Masks follow whole paths, so what the other views show never breaks the tree.",
  ],
};

// What a colour stands for.
function key(color, words) {
  const chip = make("span", [], { className: "chip" });
  chip.style.background = `rgb(${color.join(" ")})`;
  return make("span", [chip, words]);
}

// The sentence of the report is not for a comparison that lacks one of the checkpoints it names.
function drawQuote() {
  const sentence = find(".quote span"); // none where there is no report
  const shown = modelsShown();
  const lacking = state.scene.offered.filter(({ name }) => !shown.some((model) => model.name === name));
  if (sentence) sentence.hidden = lacking.some(({ title }) => sentence.textContent.includes(title));
}
