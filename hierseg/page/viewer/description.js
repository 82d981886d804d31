// What is on the picture in words, for those who do not see it: the canvas's label, which is said when a result is done.

import { areasOf, depthShown, modelsShown } from "./models.js";
import { find } from "./page.js";
import { membersOfLevel } from "./pure/tables.js";
import { inPercent } from "./pure/words.js";
import { state } from "./state.js";

let said = null; // the scene that was announced last

export function draw() {
  const { scene } = state;
  const words = ["Photo.", ...modelsShown().map(sentence)].join(" ");
  find(".stage canvas").ariaLabel = words;
  const film = "live" in find(".viewer").dataset || !find(".sequence").hidden; // not every picture of it is news
  if (scene !== said && !film) find(".description").textContent = words;
  said = scene;
}

function sentence(model) {
  const areas = areasOf(model);
  const found = (depth) => membersOfLevel(state.scene, depth).filter((node) => areas[node].share_of_photo > 0);
  const covered = found(0).reduce((sum, node) => sum + areas[node].share_of_photo, 0);
  if (!covered) return `${model.title} finds no person.`;
  const wordsOf = (node) => `${state.scene.nodes[node].title} ${inPercent(areas[node].share_of_person)}`;
  const parts = found(depthShown()).map(wordsOf);
  return `${model.title} finds a person on ${inPercent(covered)} of it. Of the person: ${parts.join(", ")}.`;
}
