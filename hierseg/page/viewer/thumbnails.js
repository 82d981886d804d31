// The strip of several photos: a small picture of each with its parts, to be clicked or gone through with the arrow keys.

import { fillOf, modelsShown } from "./models.js";
import { find, findAll, make } from "./page.js";
import { state } from "./state.js";

const HEIGHT = 64; // in the page's pixels
const MOVES = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1, Home: -Infinity, End: Infinity };

// `show` is called with the place of one that was chosen.
export function connect(show) {
  const strip = find(".thumbnails");
  strip.addEventListener("click", (event) => {
    if (event.target.closest("button")) show(placeOf(event));
  });
  strip.addEventListener("keydown", (event) => {
    if (!MOVES[event.key] || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const buttons = findAll(".thumbnails button");
    const place = Math.max(0, Math.min(buttons.length - 1, placeOf(event) + MOVES[event.key]));
    buttons[place].focus();
    show(place);
  });
}

export function clear() {
  find(".thumbnails").replaceChildren();
}

const placeOf = ({ target }) => findAll(".thumbnails button").indexOf(target.closest("button"));

// Paints the photo that is shown as it is shown, and marks it.
export function draw(items, place) {
  const strip = find(".thumbnails");
  while (strip.children.length > items.length) strip.lastChild.remove();
  while (strip.children.length < items.length) strip.append(thumbnail(items[strip.children.length].title));
  const buttons = findAll(".thumbnails button");
  buttons.forEach((button, number) => {
    button.tabIndex = number === place ? 0 : -1; // the arrow keys lead to the others
    button.ariaCurrent = number === place;
  });
  paint(buttons[place].firstElementChild);
  const { offsetLeft, offsetWidth } = buttons[place];
  strip.scrollLeft = Math.max(offsetLeft + offsetWidth - strip.clientWidth, Math.min(strip.scrollLeft, offsetLeft));
}

function thumbnail(title) {
  const button = make("button", make("canvas", [], { width: 1, height: 1 }), { type: "button", title, ariaLabel: title });
  return make("li", button);
}

function paint(canvas) {
  const { photo, width, height } = state.scene;
  const ratio = window.devicePixelRatio || 1;
  canvas.height = HEIGHT * ratio;
  canvas.width = Math.max(1, Math.min(2.5, Math.max(0.4, width / height)) * canvas.height);
  const scale = Math.max(canvas.width / width, canvas.height / height); // very long ones are cut
  const place = [(canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2, width * scale, height * scale];
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(photo, ...place);
  context.globalAlpha = state.opacity / 100;
  context.drawImage(fillOf(modelsShown()[0]), ...place);
}
