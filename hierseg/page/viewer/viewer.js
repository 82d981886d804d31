// The viewer: what a visitor chose, the controls that say so, and one canvas that shows it.
// Runs, after the other scripts, as the body of gr.HTML's js_on_load, which hands in `element`, `props`, `watch` and
// `server`. props.value is null where there is no photo, {working} while one is on its way, {message} when it was refused,
// and else a scene: at first that of an example. After the one inference, everything is answered here.

const VIEWS = {
  single: "One",
  slider: "Slider",
  both: "Side by side",
  differences: "Differences",
  breaks: "Broken tree",
};
const ONLY_ONE = [255, 149, 0];
const ONLY_OTHER = [64, 169, 255];
const ANOTHER_PART = [255, 255, 255];
const BREAK = [255, 214, 10];

const choice = { view: "single", checkpoint: null, first: null, second: null, level: null }; // two where two are compared
const settings = { split: 50, opacity: 55, threshold: null, certainty: 0, outlines: true }; // null: the checkpoint's own
const hidden = new Set(); // nodes that a visitor unticked
let pointed = null; // the node whose row of the tree a mouse is over
let scene = null;
let newest = 0;
let layout = null; // where the panels lie, in device pixels
let base = null; // the canvas without the cross
let probe = null; // {column, row} of the photo that is read out, in which panel
let remembered = new Map();
let stopLive = null; // ends the camera while it runs
let sequence = null; // {kind, items: [{title, value, shares}], place, ended} of several photos or a clip

const find = (selector) => element.querySelector(selector);
const make = (name, content = [], attributes = {}) => {
  const made = Object.assign(document.createElement(name), attributes);
  made.append(...[content].flat());
  return made;
};

// Keeps what is dear to compute; the oldest goes when there is too much.
function remember(key, compute) {
  if (!remembered.has(key)) {
    if (remembered.size > 40) remembered.delete(remembered.keys().next().value);
    remembered.set(key, compute());
  }
  return remembered.get(key);
}

async function load(value) {
  stopLive?.();
  endSequence();
  probe = null;
  if (!value || value.message || value.working) {
    newest++;
    scene = null;
    show(value?.working ? "working" : value ? "refused" : "empty", value?.message ?? value?.working ?? INVITATION);
  } else await open(value);
}

// Takes a scene in; what was chosen before stays chosen where it can.
async function open(value) {
  const turn = ++newest;
  const opened = await openScene(value);
  if (turn !== newest) return; // a newer photo came in meanwhile
  const asBefore = scene && JSON.stringify(scene.models.map(nameOf)) === JSON.stringify(opened.models.map(nameOf));
  scene = opened;
  remembered = new Map();
  if (!asBefore) offerChoices();
  redraw();
}

const nameOf = (model) => model.name;

function offerChoices() {
  const names = scene.models.map(nameOf);
  const titles = scene.models.map((model) => model.title);
  const [best, next] = names;
  if (!names.includes(choice.checkpoint)) choice.checkpoint = best;
  if (!names.includes(choice.first) || !names.includes(choice.second)) [choice.first, choice.second] = [best, next];
  if (!scene.levels.includes(choice.level)) choice.level = scene.levels.at(-1);
  if (names.length < 2) choice.view = "single";
  offer("view", names.length < 2 ? [] : Object.keys(VIEWS), Object.values(VIEWS));
  offer("checkpoint", names, titles);
  offerPair(names, titles);
  offer("level", scene.levels, scene.levels);
  listTree();
}

const INVITATION =
  "Drop a photo of people anywhere on the page, paste one, or click an example. The body parts appear here.";

function show(state, message) {
  find(".viewer").dataset.state = state;
  find(".message").textContent = message;
}

// Fills a group of radio buttons; a group without a choice to make is not shown.
function offer(kind, values, titles) {
  const group = find(`[data-choice="${kind}"]`);
  group.dataset.few = values.length < 2;
  group.querySelector(".options").replaceChildren(
    ...values.map((value, index) => {
      const input = make("input", [], { type: "radio", name: `hierseg-${kind}`, value, checked: value === choice[kind] });
      input.addEventListener("change", () => choose(kind, value));
      return make("label", [input, titles[index]]);
    }),
  );
}

// Fills the two lists of who is compared with whom; of two checkpoints, it is the one with the other.
function offerPair(names, titles) {
  find('[data-choice="pair"]').dataset.few = names.length < 3;
  for (const list of element.querySelectorAll(".pair select"))
    list.replaceChildren(...names.map((value, index) => make("option", titles[index], { value })));
}

function choose(kind, value) {
  const { first, second } = choice;
  if (kind === "first" && value === second) choice.second = first; // nobody is compared with itself
  if (kind === "second" && value === first) choice.first = second;
  choice[kind] = value;
  // Whoever is looked at alone also takes part in the comparison.
  if (kind === "checkpoint" && value !== first && value !== second) choice.second = value;
  redraw();
}

const byName = (name) => scene.models.find((model) => model.name === name);
const depthNow = () => scene.levels.indexOf(choice.level);
const thresholdOf = (model) => settings.threshold ?? Math.round(model.threshold * STEPS);

// The models that the view shows, left to right.
function modelsShown() {
  return (choice.view === "single" ? [choice.checkpoint] : [choice.first, choice.second]).map(byName);
}

function foundBy(model) {
  const decoding = [thresholdOf(model), settings.certainty];
  return remember(`found ${model.name} ${decoding}`, () => decodePaths(scene, model, ...decoding));
}

function enlargedBy(model) {
  const decoding = [thresholdOf(model), settings.certainty];
  return remember(`enlarged ${model.name} ${decoding}`, () => enlarge(foundBy(model), scene));
}

const decodingKey = (model) => `${model.name} ${thresholdOf(model)} ${settings.certainty} ${choice.level}`;
const lookKey = (model) => `${decodingKey(model)} ${[...hidden]} ${pointed}`;

function levelMap(model) {
  return remember(`level ${decodingKey(model)}`, () => through(levelTable(scene, depthNow()), foundBy(model)));
}

// What is on the picture: the level without what is hidden or, while the tree is pointed at, one node and all below it.
function shownTable() {
  if (pointed === null) return levelTable(scene, depthNow(), hidden);
  const depth = Math.max(depthNow(), scene.nodes[pointed].path.length - 1);
  const table = levelTable(scene, depth);
  scene.nodes.forEach((node, index) => {
    if (!node.path.includes(pointed)) table[index] = NOBODY;
  });
  return table;
}

function shownMap(model) {
  return remember(`shown ${lookKey(model)}`, () => through(shownTable(), foundBy(model)));
}

function fillOf(model) {
  const colors = scene.nodes.map((node) => node.color);
  return remember(`fill ${lookKey(model)}`, () => fillLayer(shownMap(model), scene.width, scene.height, colors));
}

function outlinesOf(model) {
  const path = remember(`path ${lookKey(model)}`, () => outlinePath(shownMap(model), scene.width, scene.height));
  const ratio = window.devicePixelRatio || 1;
  return remember(`line ${lookKey(model)} ${layout.scale}`, () =>
    outlineLayer(path, scene.width, scene.height, layout.scale, ratio),
  );
}

// What a view's panels show: functions that draw into a panel.
function panelsOf(view) {
  const models = modelsShown();
  if (view === "single" || view === "both")
    return models.map((model) => (context, panel) => drawModel(context, panel, model, view === "both"));
  if (view === "slider") return [(context, panel) => drawSlider(context, panel, models)];
  if (view === "differences") return [(context, panel) => drawDifferences(context, panel, models)];
  return models.map((model) => (context, panel) => drawBreaks(context, panel, model));
}

function drawModel(context, panel, model, named) {
  context.drawImage(scene.photo, panel.x, panel.y, panel.width, panel.height);
  context.globalAlpha = settings.opacity / 100;
  context.drawImage(fillOf(model), panel.x, panel.y, panel.width, panel.height);
  context.globalAlpha = 1;
  if (settings.outlines) context.drawImage(outlinesOf(model), panel.x, panel.y, panel.width, panel.height);
  if (named) tag(context, model.title, panel, "left", layout.ratio);
}

function drawSlider(context, panel, [one, other]) {
  const split = Math.round((panel.width * settings.split) / 100);
  for (const [model, from, to] of [
    [one, 0, split],
    [other, split, panel.width],
  ]) {
    context.save();
    context.beginPath();
    context.rect(panel.x + from, panel.y, to - from, panel.height);
    context.clip();
    drawModel(context, panel, model, false);
    context.restore();
  }
  const { ratio } = layout;
  context.fillStyle = "#fff";
  context.fillRect(panel.x + split - ratio, panel.y, 2 * ratio, panel.height);
  context.beginPath();
  context.arc(panel.x + split, panel.y + panel.height / 2, 13 * ratio, 0, 2 * Math.PI);
  context.fill();
  context.fillStyle = "#222";
  for (const way of [-1, 1]) {
    context.beginPath();
    context.moveTo(panel.x + split + way * 9 * ratio, panel.y + panel.height / 2);
    context.lineTo(panel.x + split + way * 3.5 * ratio, panel.y + panel.height / 2 - 5 * ratio);
    context.lineTo(panel.x + split + way * 3.5 * ratio, panel.y + panel.height / 2 + 5 * ratio);
    context.fill();
  }
  const half = panel.width / 2;
  tag(context, one.title, { ...panel, width: half }, "left", ratio);
  tag(context, other.title, { ...panel, x: panel.x + half, width: half }, "right", ratio);
}

// A photo without its colours and darkened, so that what is laid over it stands out.
function drawDimmed(context, panel) {
  context.drawImage(scene.photo, panel.x, panel.y, panel.width, panel.height);
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(panel.x, panel.y, panel.width, panel.height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "rgb(0 0 0 / 0.55)";
  context.fillRect(panel.x, panel.y, panel.width, panel.height);
}

function differences() {
  const [one, other] = modelsShown();
  return remember(`differences ${decodingKey(one)} ${decodingKey(other)}`, () =>
    difference(levelMap(one), levelMap(other)),
  );
}

function drawDifferences(context, panel) {
  const [one, other] = modelsShown();
  const layer = remember(`differing ${decodingKey(one)} ${decodingKey(other)}`, () => {
    const colors = { 1: ONLY_ONE, 2: ONLY_OTHER, 3: ANOTHER_PART };
    return fillLayer(differences().map, scene.width, scene.height, colors);
  });
  drawDimmed(context, panel);
  context.drawImage(layer, panel.x, panel.y, panel.width, panel.height);
}

function drawBreaks(context, panel, model) {
  drawDimmed(context, panel);
  const layer = remember(`breaks ${model.name}`, () =>
    fillLayer(model.breaks, scene.width, scene.height, { 1: BREAK }),
  );
  context.drawImage(layer, panel.x, panel.y, panel.width, panel.height);
  tag(context, `${model.title} ${inPercent(shareOfBreaks(model), 2)}`, panel, "left", layout.ratio);
}

const shareOfBreaks = (model) =>
  remember(`share of breaks ${model.name}`, () => model.breaks.reduce((sum, one) => sum + one, 0) / scene.size);

function inPercent(share, digits = 0) {
  if (share === 0) return digits ? "0 %" : "none";
  const least = 10 ** -digits;
  return 100 * share < least ? `< ${least} %` : `${(100 * share).toFixed(digits)} %`;
}

const inHundredths = (steps) => (steps >= STEPS ? "1.0" : `.${String(steps).padStart(2, "0")}`);

function redraw() {
  if (!scene) return;
  const viewer = find(".viewer");
  viewer.dataset.view = choice.view;
  const state = scene.example ? "example" : "ready";
  viewer.dataset.state = state; // before the stage is measured: it is not laid out in other states
  for (const kind of Object.keys(choice))
    for (const input of viewer.querySelectorAll(`[name=hierseg-${kind}]`))
      if (input.type === "radio") input.checked = input.value === choice[kind];
      else input.value = choice[kind];
  const stage = find(".stage");
  if (!stage.clientWidth) return; // not laid out yet; it is drawn when it is
  const draws = panelsOf(choice.view);
  const ratio = window.devicePixelRatio || 1;
  const tallest = Math.max(280, 0.7 * window.innerHeight, window.innerHeight - 230); // a zoomed page is low
  const gap = 6 * ratio;
  layout = arrange(draws.length, scene.width, scene.height, stage.clientWidth * ratio, tallest * ratio, gap, Math.round(12 * ratio));
  layout.ratio = ratio;
  const canvas = find(".stage canvas");
  canvas.width = layout.width;
  canvas.height = layout.height;
  canvas.style.width = `${layout.width / ratio}px`;
  base = new OffscreenCanvas(layout.width, layout.height);
  const context = base.getContext("2d");
  context.imageSmoothingQuality = "high";
  draws.forEach((draw, index) => draw(context, layout.panels[index]));
  assemble();
  for (const kind of Object.keys(choice)) canvas.dataset[kind] = choice[kind];
  const somebody = modelsShown().some((model) => foundBy(model).some((node) => node !== NOBODY));
  const nobody = "No person found in this photo. Try one in which people are larger, or move the person threshold down.";
  show(state, somebody ? scene.note : `${nobody} ${scene.note}`.trim());
  caption();
  fillQuote();
  fillTree();
  fillSettings();
  if (probe) read(probe);
  if (sequence) showSequence();
}

// Puts the canvas together: what was drawn, and the cross where one is.
function assemble() {
  const context = find(".stage canvas").getContext("2d");
  context.drawImage(base, 0, 0);
  if (!probe) return;
  for (const panel of layout.panels) {
    const x = panel.x + ((probe.column + 0.5) / scene.width) * panel.width;
    const y = panel.y + ((probe.row + 0.5) / scene.height) * panel.height;
    cross(context, x, y, layout.ratio);
  }
}

function chip(color) {
  const made = make("span", [], { className: "chip" });
  made.style.background = `rgb(${color.join(" ")})`;
  return made;
}

// The sentence below the picture, for views that are no masks.
function caption() {
  const [one, other] = modelsShown();
  let words = [];
  if (choice.view === "differences") {
    const { ofPhoto, ofPerson, shares } = differences();
    words = [
      `On this level the two differ on ${inPercent(ofPhoto, 1)} of the photo, ${inPercent(ofPerson, 1)} of the people: `,
      make("span", [chip(ONLY_ONE), `only ${one.title} ${inPercent(shares[1], 1)}`]),
      make("span", [chip(ONLY_OTHER), `only ${other.title} ${inPercent(shares[2], 1)}`]),
      make("span", [chip(ANOTHER_PART), `another part ${inPercent(shares[3], 1)}`]),
    ];
  } else if (choice.view === "breaks") {
    words = [
      make("span", [chip(BREAK), "A part's raw score is above .5 and its parent's is not. "]),
      "Masks follow whole paths, so what the other views show never breaks the tree.",
    ];
  }
  find(".caption").replaceChildren(...words);
}

// The sentence of the report is not for a comparison that lacks one of the checkpoints it names.
function fillQuote() {
  const sentence = find(".quote span");
  const shown = modelsShown();
  if (sentence)
    sentence.hidden = scene.models.some(
      (model) => !shown.includes(model) && sentence.textContent.includes(model.title),
    );
}

// The tree as a table: a row a node, with a tick to show it, and a column a model.
function listTree() {
  pointed = null;
  const rows = scene.nodes
    .map((node, index) => ({ node, index }))
    .toSorted((one, other) => comparePaths(one.node.path, other.node.path))
    .map(({ node, index }) => {
      const input = make("input", [], { type: "checkbox", checked: !hidden.has(index) });
      input.addEventListener("change", () => {
        if (input.checked) node.path.forEach((member) => hidden.delete(member));
        else hidden.add(index);
        pointed = null; // or the mouse, still over the row, would keep on the picture what was just taken off
        redraw();
      });
      const swatch = make("span", [], { className: "swatch" });
      swatch.style.setProperty("--color", `rgb(${node.color.join(" ")})`);
      const heading = make("th", make("label", [input, swatch, node.title]), { scope: "row" });
      heading.style.setProperty("--depth", node.path.length - 1);
      const row = make("tr", heading);
      row.dataset.node = node.name;
      row.addEventListener("pointerenter", (event) => {
        if (event.pointerType === "mouse") pointAt(index);
      });
      row.addEventListener("pointerleave", () => pointAt(null));
      return row;
    });
  find(".tree").replaceChildren(
    make("caption", "Parts, their share of the person and how sure the network is of them"),
    make("thead", make("tr")),
    make("tbody", rows),
  );
}

function pointAt(node) {
  if (pointed === node) return;
  pointed = node;
  redraw();
}

// Depth first, siblings in the tree's order.
function comparePaths(one, other) {
  for (let depth = 0; depth < Math.min(one.length, other.length); depth++)
    if (one[depth] !== other[depth]) return one[depth] - other[depth];
  return one.length - other.length;
}

function fillTree() {
  const models = modelsShown();
  const figures = models.map((model) =>
    remember(`areas ${model.name} ${thresholdOf(model)} ${settings.certainty}`, () =>
      areas(scene, model, foundBy(model)),
    ),
  );
  const onLevel = new Set(nodesOf(scene, depthNow()));
  find(".tree thead tr").replaceChildren(
    make("th", "Part", { scope: "col" }),
    ...models.map((model) => make("th", [model.title, make("small", "share · sure")], { scope: "col" })),
  );
  scene.nodes.forEach((node, index) => {
    const row = find(`.tree [data-node="${node.name}"]`);
    row.classList.toggle("shown", onLevel.has(index));
    row.classList.toggle("absent", figures.every((model) => model[index].share_of_photo === 0));
    const input = row.querySelector("input");
    const covered = node.path.slice(0, -1).some((member) => hidden.has(member));
    input.checked = !covered && !hidden.has(index);
    while (row.children.length > 1) row.lastChild.remove();
    for (const model of figures) {
      const { share_of_person: share, confidence } = model[index];
      const sure = share ? inHundredths(Math.round(confidence * STEPS)) : "";
      row.append(make("td", [inPercent(share), make("small", sure)]));
    }
  });
  fillTruth(models);
}

function mean(values) {
  const known = values.filter((value) => value !== null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}

const inThousandths = (value) => (value === null ? "–" : value.toFixed(3).replace(/^0/, ""));

// Beside a ground truth: intersection over union of every node and the mean of every level.
function fillTruth(models) {
  const table = find(".truth");
  if (!scene.truth) {
    table.replaceChildren();
    return;
  }
  const scores = models.map((model) =>
    remember(`agreement ${model.name} ${thresholdOf(model)} ${settings.certainty}`, () =>
      agreement(scene, foundBy(model)),
    ),
  );
  const line = (title, values, attributes = {}) =>
    make("tr", [make("th", title, { scope: "row" }), ...values.map((value) => make("td", inThousandths(value)))], attributes);
  table.replaceChildren(
    make("caption", `Intersection over union with the ground truth, at ${scene.width} by ${scene.height} pixels`),
    make("thead", make("tr", [make("th", "IoU"), ...models.map((model) => make("th", model.title, { scope: "col" }))])),
    make("tbody", [
      ...scene.levels.map((level, depth) =>
        line(
          level,
          scores.map((values) => mean(nodesOf(scene, depth).map((node) => values[node]))),
          { className: "mean" },
        ),
      ),
      ...scene.nodes.map((node, index) =>
        line(
          node.title,
          scores.map((values) => values[index]),
        ),
      ),
    ]),
  );
}

function fillSettings() {
  const automatic = [...new Set(modelsShown().map((model) => inHundredths(Math.round(model.threshold * STEPS))))];
  const words = {
    split: `${settings.split} %`,
    opacity: `${settings.opacity} %`,
    threshold: settings.threshold === null ? `${automatic.join(" | ")} (the checkpoint's)` : inHundredths(settings.threshold),
    certainty: settings.certainty ? inHundredths(settings.certainty) : "none",
  };
  for (const [name, text] of Object.entries(words)) {
    find(`[data-slider=${name}] output`).textContent = text;
    const value = settings[name] ?? thresholdOf(modelsShown()[0]);
    find(`[name=${name}]`).value = value;
  }
  find("[name=outlines]").checked = settings.outlines;
}

// A model's path at a pixel; what was too unsure to be shown looks different.
function pathAt(model, pixel) {
  const line = make("div", make("b", model.title));
  const { path } = scene.nodes[model.leaf[pixel]];
  const found = foundBy(model)[pixel];
  const reached = found === NOBODY ? 0 : scene.nodes[found].path.length;
  if (found === NOBODY) line.append(" background");
  path.forEach((node, depth) => {
    const score = inHundredths(model.scores[depth][pixel]);
    const step = make("span", `${scene.nodes[node].title} ${score}`, { className: depth < reached ? "step" : "step unsure" });
    line.append(depth ? " › " : " ", step);
  });
  return line;
}

// Shows the paths under a pixel of the photo; `aloud` for screen readers, when keys moved it.
function read({ column, row, panel: number }, aloud = false) {
  probe = {
    column: Math.max(0, Math.min(scene.width - 1, column)),
    row: Math.max(0, Math.min(scene.height - 1, row)),
    panel: number,
  };
  const pixel = probe.row * scene.width + probe.column;
  const readout = find(".readout");
  readout.setAttribute("aria-live", aloud ? "polite" : "off");
  readout.replaceChildren(...modelsShown().map((model) => pathAt(model, pixel)));
  readout.hidden = false;
  const stage = find(".stage");
  const canvas = find(".stage canvas");
  const panel = layout.panels[number] ?? layout.panels[0];
  const x = canvas.offsetLeft + (panel.x + ((probe.column + 0.5) / scene.width) * panel.width) / layout.ratio;
  const y = canvas.offsetTop + (panel.y + ((probe.row + 0.5) / scene.height) * panel.height) / layout.ratio;
  const left = Math.max(4, Math.min(stage.clientWidth - readout.offsetWidth - 4, x + 16));
  const top = y + 20 + readout.offsetHeight > stage.clientHeight ? y - readout.offsetHeight - 16 : y + 16;
  readout.style.transform = `translate(${Math.round(left)}px, ${Math.round(Math.max(4, top))}px)`;
  assemble();
}

function stopReading() {
  probe = null;
  find(".readout").hidden = true;
  if (scene && base) assemble();
}

// The pixel of the photo under a pointer, or null between the panels.
function pixelUnder(event) {
  const canvas = find(".stage canvas");
  const box = canvas.getBoundingClientRect();
  const x = ((event.clientX - box.left) / box.width) * canvas.width;
  const y = ((event.clientY - box.top) / box.height) * canvas.height;
  const panel = layout.panels.findIndex(
    ({ x: left, y: top, width, height }) => x >= left && x < left + width && y >= top && y < top + height,
  );
  if (panel < 0) return null;
  const { x: left, y: top, width, height } = layout.panels[panel];
  const column = Math.floor(((x - left) / width) * scene.width);
  const row = Math.floor(((y - top) / height) * scene.height);
  return { column, row, panel };
}

function point(event) {
  if (!scene) return;
  const under = pixelUnder(event);
  if (choice.view === "slider" && event.buttons && under) {
    settings.split = Math.round((100 * under.column) / scene.width);
    find(".readout").hidden = true;
    probe = null;
    redraw();
  } else if (under) read(under);
  else stopReading();
}

function onKey(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  if (!scene) return;
  if (event.key === "Escape") stopReading();
  else if (moves[event.key]) {
    event.preventDefault(); // the page must not scroll away
    const step = event.shiftKey ? 1 : Math.max(1, Math.round(Math.max(scene.width, scene.height) / 64));
    const [across, down] = moves[event.key];
    const from = probe ?? { column: scene.width >> 1, row: scene.height >> 1, panel: 0 };
    read({ column: from.column + across * step, row: from.row + down * step, panel: from.panel }, true);
  }
}

// Files are named after the checkpoint they are of; views of two models have both.
async function saveAs(kind) {
  const models = modelsShown();
  const title = `hierseg-${models.map((model) => model.name).join("-")}`;
  if (kind === "overlay") save(await pictureBlob(), `${title}-${choice.view}.png`);
  else if (kind === "mask") save(await maskOf(models[0]), `${title}-${choice.level}.png`);
  else if (kind === "json") save(figuresBlob(), `${title}.json`);
  else {
    const files = [];
    for (const model of models) {
      files.push([`${model.name}/mask-${choice.level}.png`, await maskOf(model)]);
      for (const [index, node] of scene.nodes.entries()) {
        const table = new Uint8Array(256);
        scene.nodes.forEach((other, below) => (table[below] = other.path.includes(index) ? 255 : 0));
        const blackAndWhite = Uint8Array.from({ length: 768 }, (_, entry) => Math.floor(entry / 3));
        const mask = await indexedPng(through(table, enlargedBy(model)), ...scene.original, blackAndWhite);
        files.push([`${model.name}/${node.name}.png`, mask]);
      }
    }
    save(await zip(files), `${title}.zip`);
  }
}

// A model's mask on the chosen level, whatever is hidden, in the size of the photo that was sent.
function maskOf(model) {
  const palette = new Uint8Array(768);
  palette.fill(255, 3 * scene.void, 3 * scene.void + 3);
  for (const node of scene.nodes) palette.set(node.color, 3 * node.label);
  const labels = new Uint8Array(256).fill(scene.background);
  scene.nodes.forEach((node, index) => (labels[index] = node.label));
  const table = through(labels, levelTable(scene, depthNow()));
  return indexedPng(through(table, enlargedBy(model)), ...scene.original, palette);
}

// The view at the size of the photo that is shown, without the cross.
async function pictureBlob() {
  const draws = panelsOf(choice.view);
  const onScreen = layout;
  const count = draws.length;
  const gap = 8;
  layout = arrange(count, scene.width, scene.height, count * (scene.width + gap), scene.height, gap);
  layout.ratio = Math.max(1, scene.height / 800);
  const canvas = new OffscreenCanvas(layout.width, layout.height);
  draws.forEach((draw, index) => draw(canvas.getContext("2d"), layout.panels[index]));
  layout = onScreen;
  return canvas.convertToBlob({ type: "image/png" });
}

function figuresBlob() {
  const models = modelsShown();
  const figures = {
    program: "hierseg",
    version: scene.version,
    width: scene.original[0],
    height: scene.original[1],
    level: choice.level,
    tree: scene.tree,
    checkpoints: models.map((model) => ({
      name: model.name,
      title: model.title,
      threshold: thresholdOf(model) / STEPS,
      certainty: settings.certainty / STEPS,
      areas: Object.fromEntries(
        areas(scene, model, foundBy(model)).map((area, index) => [scene.nodes[index].name, area]),
      ),
      raw_violations: shareOfBreaks(model),
    })),
  };
  return new Blob([`${JSON.stringify(figures, null, 1)}\n`], { type: "application/json" });
}

function toggleLive() {
  if (stopLive) {
    stopLive();
    return;
  }
  const viewer = find(".viewer");
  endSequence();
  const stop = startLive({
    mirrored: () => find("[name=mirror]").checked,
    receive: async (value, rate) => {
      await open(value);
      find(".rate").textContent = rate ? `${rate.toFixed(1)} pictures a second` : "";
    },
    fail: (sentence) => load({ message: sentence }),
  });
  stopLive = () => {
    stop();
    stopLive = null;
    newest++; // what is still on its way is not shown any more
    delete viewer.dataset.live;
    find(".live").textContent = "Live camera";
  };
  probe = null;
  scene = null;
  viewer.dataset.live = "";
  find(".live").textContent = "Stop";
  find(".rate").textContent = "";
  show("working", "Starting the camera …");
}

function endSequence() {
  if (sequence) sequence.ended = true;
  sequence = null;
  find(".sequence").hidden = true;
}

// Segments pictures one after the other; what is there can be looked at meanwhile. One that fails does not end it.
async function runSequence(kind, source, serve) {
  stopLive?.();
  endSequence();
  const own = { kind, items: [], place: 0, ended: false };
  const failures = [];
  sequence = own;
  scene = null;
  newest++;
  find(".sequence").dataset.kind = kind;
  find(".failures").replaceChildren();
  find(".stop").hidden = false;
  find(".save-all").hidden = true;
  show("working", "Opening …");
  try {
    for await (const { title, picture, doing, done } of source) {
      if (own.ended) break;
      if (!own.items.length) show("working", `${doing} …`);
      const value = await answered(serve, picture, () => own.ended);
      if (own.ended) break;
      if (value.message) failures.push(`${title}: ${value.message}`);
      else {
        own.items.push({ title, value });
        await showPlace(own.items.length - 1).catch((error) => {
          own.items.pop();
          failures.push(`${title}: This picture cannot be shown.`);
          console.warn(error);
        });
      }
      find(".progress").textContent = done(own.items.length);
    }
  } catch (error) {
    failures.push(error.message); // the file itself cannot be read any further
  }
  if (sequence !== own) return;
  own.ended = true;
  find(".stop").hidden = true;
  find(".save-all").hidden = own.items.length === 0;
  find(".failures").replaceChildren(...failures.map((words) => make("li", words)));
  if (own.items.length) showSequence();
  else load({ message: failures[0] ?? "Nothing was segmented." });
}

// Shows one picture of the sequence.
async function showPlace(place) {
  const own = sequence;
  const item = own.items[place];
  own.place = place;
  await open(item.value);
  if (sequence !== own || own.place !== place) return;
  if (own.kind === "clip")
    item.shares ??= scene.models.map((model) => {
      const found = decodePaths(scene, model, Math.round(model.threshold * STEPS), 0);
      return areas(scene, model, found).map((area) => area.share_of_photo);
    });
  showSequence();
}

function showSequence() {
  const { kind, items, place } = sequence;
  find(".sequence").hidden = false;
  find("[name=place]").max = items.length - 1;
  find("[name=place]").value = place;
  find(".place").textContent = `${place + 1} of ${items.length}: ${items[place].title}`;
  if (kind !== "clip" || !scene) return;
  const model = scene.models.indexOf(modelsShown()[0]);
  const nodes = nodesOf(scene, depthNow());
  const rows = items.map((item) => nodes.map((node) => item.shares?.[model][node] ?? 0));
  drawShares(
    find(".shares"),
    rows,
    nodes.map((node) => scene.nodes[node].color),
    place,
  );
}

// Saves every picture as it is shown now: a zip of pictures, masks and figures, or a film of the clip.
async function saveSequence() {
  const own = sequence;
  const { kind, items, place } = own;
  const files = [];
  const pictures = [];
  find(".save-all").disabled = true;
  const say = (words) => (find(".progress").textContent = words);
  try {
    for (const [number, item] of items.entries()) {
      if (sequence === own) await showPlace(number);
      if (sequence !== own) return; // a photo came in between: there is nothing to save any more
      say(`${number + 1} of ${items.length} prepared for saving`);
      const picture = await pictureBlob();
      if (kind === "clip") pictures.push(await createImageBitmap(picture));
      else {
        const stem = `${String(number + 1).padStart(2, "0")}-${safeName(item.title.replace(/\.[^.]*$/, ""))}`;
        files.push([`${stem}/picture-${choice.view}.png`, picture], [`${stem}/figures.json`, figuresBlob()]);
        for (const model of modelsShown())
          files.push([`${stem}/mask-${model.name}-${choice.level}.png`, await maskOf(model)]);
      }
    }
    if (sequence !== own) return;
    if (kind === "clip") {
      say("Filming …");
      const clip = await film(pictures, CLIP_RATE).catch(() => null); // without an encoder some browsers throw
      if (!clip?.size) {
        say("This browser cannot film. Save pictures one by one, or try another browser.");
        return;
      }
      save(clip, `hierseg-clip.${clip.type.split("/")[1]}`);
    } else save(await zip(files), "hierseg-photos.zip");
    say("Saved");
    if (sequence === own) await showPlace(place);
  } catch (error) {
    say("Saving failed: there may be too little memory. Try again with fewer pictures.");
    console.warn(error);
  } finally {
    find(".save-all").disabled = false;
  }
}

const starts = {
  photos: (files) => runSequence("photos", photosOf(files), server.segment_file),
  clip: (files) => runSequence("clip", picturesOf(files[0]), server.segment_frame),
};
for (const [kind, start] of Object.entries(starts)) {
  const input = find(`[type=file][name=${kind}]`);
  find(`[data-open=${kind}]`).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files.length) start([...input.files]);
    input.value = "";
  });
}
// Gradio's chooser offers only what the system knows as pictures; the server tells a photo by its content.
document.addEventListener(
  "click",
  ({ target }) => target.matches?.("#photo [type=file]") && target.removeAttribute("accept"),
  true,
);
find(".stop").addEventListener("click", () => {
  sequence.ended = true;
});
find(".save-all").addEventListener("click", saveSequence);
find("[name=place]").addEventListener("input", (event) => showPlace(Number(event.target.value)));
for (const kind of ["first", "second"])
  find(`[name=hierseg-${kind}]`).addEventListener("change", (event) => choose(kind, event.target.value));
find(".live").addEventListener("click", toggleLive);
for (const name of ["split", "opacity", "threshold", "certainty"])
  find(`[name=${name}]`).addEventListener("input", (event) => {
    settings[name] = Number(event.target.value);
    redraw();
  });
find("[name=outlines]").addEventListener("change", (event) => {
  settings.outlines = event.target.checked;
  redraw();
});
find(".reset").addEventListener("click", () => {
  Object.assign(settings, { split: 50, opacity: 55, threshold: null, certainty: 0, outlines: true });
  hidden.clear();
  redraw();
});
for (const button of element.querySelectorAll("[data-save]"))
  button.addEventListener("click", () => saveAs(button.dataset.save));
find(".stage canvas").addEventListener("pointermove", point);
find(".stage canvas").addEventListener("pointerdown", (event) => {
  if (choice.view === "slider") find(".stage canvas").setPointerCapture(event.pointerId);
  point(event);
});
find(".stage canvas").addEventListener("pointerleave", (event) => {
  if (event.pointerType === "mouse") stopReading(); // what a finger tapped stays until the next tap
});
find(".stage canvas").addEventListener("keydown", onKey);
find(".stage canvas").addEventListener("blur", stopReading);
// Gradio writes its own line over the viewer while a photo waits; it is hidden, and said here in words.
const block = element.closest(".block");
let atWork = "";
new MutationObserver(() => {
  if (find(".viewer").dataset.state !== "working" || !props.value?.working) return;
  const place = /queue: (\d+)\/(\d+)/.exec(block.querySelector(".progress-text")?.textContent ?? "");
  const words = place ? `Others came first: yours is number ${place[1]} of ${place[2]} in the queue …` : props.value.working;
  if (words !== atWork) find(".message").textContent = words;
  atWork = words;
}).observe(block, { subtree: true, childList: true, characterData: true });
let measured = 0;
new ResizeObserver(() => {
  if (find(".stage").clientWidth === measured) return; // a redraw changes the height only
  measured = find(".stage").clientWidth;
  redraw();
}).observe(find(".stage"));
watch("value", () => load(props.value));
load(props.value);
