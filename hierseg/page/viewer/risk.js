// How sure is sure enough: a choice among the risks that the checkpoints shown can promise, and what is promised.

import { areasOf, modelsShown, ownThresholdsHold, riskKept, risksOffered } from "./models.js";
import { fillFor, find, make } from "./page.js";
import { NO_RISK, inWords, promiseInWords } from "./pure/risk.js";
import { membersOfLevel } from "./pure/tables.js";
import { inPercent } from "./pure/words.js";
import { change, state } from "./state.js";

export function connect() {
  find("[name=risk]").addEventListener("change", (event) => change({ risk: Number(event.target.value) }));
}

export function draw() {
  const risks = risksOffered();
  const own = ownThresholdsHold();
  find(".risk").hidden = risks.length === 0;
  if (risks.length === 0) return;
  fillFor(find("[name=risk]"), `${risks}`, (list) =>
    list.replaceChildren(...[NO_RISK, ...risks].map((oneIn) => make("option", inWords(oneIn), { value: oneIn }))),
  );
  find("[name=risk]").value = riskKept();
  find("[name=risk]").disabled = !own;
  find(".promise").textContent = own
    ? promiseInWords(modelsShown(), riskKept())
    : "This can be promised only at the checkpoint's own person cut-off.";
}

// At one risk, how deep the two that are compared go: that is what they can be compared by.
export function depthsInWords() {
  const { levels, level_titles: titles } = state.scene;
  if (riskKept() === NO_RISK) return [];
  const leaves = membersOfLevel(state.scene, levels.length - 1);
  const [one, other] = modelsShown().map((model) => {
    const named = leaves.reduce((sum, leaf) => sum + areasOf(model)[leaf].share_of_person, 0);
    return { title: model.title, share: inPercent(named) };
  });
  return [`At this risk ${one.title} names ${titles.at(-1)} for ${one.share} of the person's pixels, ${other.title} for ${other.share}.`];
}
