// The viewer's piece of the page, from viewer.html.

let element = null;
const filled = new WeakMap(); // of places: what they were filled for

export function attach(viewer) {
  element = viewer;
}

export const find = (selector) => element.querySelector(selector);
export const findAll = (selector) => [...element.querySelectorAll(selector)];

export function make(name, content = [], attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...[content].flat());
  return made;
}

// Fills a place, unless it was filled for the same.
export function fillFor(place, what, fill) {
  if (filled.get(place) !== what) fill(place);
  filled.set(place, what);
}

// Says where the viewer stands: "empty", "working" or "refused" without a scene, "example" or "ready" with one.
// While it is working, what was beside the last scene stays in its place; it is bare where there is none.
export function say(state, message) {
  find(".viewer").dataset.state = state;
  if (state !== "working") find(".viewer").toggleAttribute("data-bare", state === "empty" || state === "refused");
  find(".message").textContent = message;
  for (const part of [".bar", ".side"]) find(part).inert = state === "working";
}

// Scrolls to the picture, with the bar above it, unless it is wholly in view.
export function reveal() {
  const [bar, stage] = [find(".bar"), find(".stage")];
  const top = bar.offsetParent ? bar : stage;
  if (top.getBoundingClientRect().top >= 0 && stage.getBoundingClientRect().bottom <= window.innerHeight) return;
  top.scrollIntoView({ behavior: "instant" }); // what moves slowly is stopped when the photo takes its room
}
