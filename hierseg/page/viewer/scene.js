// The scene: what the server said of one photo, as arrays, and everything that follows from it without asking again.
//
// hierseg/page/payload.py makes the value: {version, note, original: [width, height] of the photo as it was sent, photo
// (shrunk where that is large), tree, background, void, levels, nodes: [{name, title, label, color, path}],
// checkpoints: [{name, title, threshold, maps}], the best on validation first, truth, example: whether no visitor sent
// it}. Pixels are answered with indices of nodes; NOBODY stands for background.

const NOBODY = 255;
const STEPS = 100; // as in payload.py: maps hold scores in steps of a hundredth, rounded up

async function decodeImage(url) {
  const blob = await (await fetch(url)).blob();
  return createImageBitmap(blob, { colorSpaceConversion: "none" });
}

// The numbers of a map. They must not pass through a canvas: browsers that guard against fingerprinting change a few of
// what is read back from one, or all.
async function decodeMap(url, width) {
  const stream = (await fetch(url)).body.pipeThrough(new DecompressionStream("deflate"));
  const numbers = new Uint8Array(await new Response(stream).arrayBuffer());
  for (let pixel = width; pixel < numbers.length; pixel++) numbers[pixel] += numbers[pixel - width];
  return numbers;
}

async function openScene(value) {
  const photo = await decodeImage(value.photo);
  const [truth, ...maps] = await Promise.all([
    value.truth && decodeMap(value.truth, photo.width),
    ...value.checkpoints.map((checkpoint) => decodeMap(checkpoint.maps, photo.width)),
  ]);
  const size = photo.width * photo.height;
  const models = value.checkpoints.map((checkpoint, index) => {
    const layer = (number) => maps[index].subarray(number * size, (number + 1) * size);
    const depths = value.levels.map((_, depth) => layer(2 + depth));
    return { ...checkpoint, leaf: layer(0), confidence: layer(1), scores: depths, breaks: layer(2 + depths.length) };
  });
  const { width, height } = photo;
  return { ...value, photo, truth: truth && truthNodes(value, truth), models, width, height, size };
}

// Label map to nodes. What is not annotated becomes a number that no node has.
const UNKNOWN = 254;
function truthNodes({ nodes, void: unknown }, labels) {
  const table = new Uint8Array(256).fill(NOBODY);
  nodes.forEach((node, index) => (table[node.label] = index));
  table[unknown] = UNKNOWN;
  return labels.map((label) => table[label]);
}

// The deepest node of every pixel: decoding.py's rule. Threshold and certainty are in steps.
function decodePaths(scene, model, threshold, certainty) {
  const { confidence, leaf, scores } = model;
  const found = new Uint8Array(scene.size);
  const paths = scene.nodes.map((node) => node.path);
  const unsure = certainty === 0 ? -1 : certainty; // without a certainty every path is followed to its leaf
  for (let pixel = 0; pixel < found.length; pixel++) {
    if (confidence[pixel] <= threshold) {
      found[pixel] = NOBODY;
      continue;
    }
    const path = paths[leaf[pixel]];
    let depth = 0;
    while (depth + 1 < path.length && scores[depth + 1][pixel] > unsure) depth++;
    found[pixel] = path[depth];
  }
  return found;
}

// Node -> the node that stands for it on a level; with `hidden`, nodes below a hidden one are shown as nobody.
function levelTable(scene, depth, hidden = new Set()) {
  const table = new Uint8Array(256).fill(NOBODY);
  table[UNKNOWN] = UNKNOWN;
  scene.nodes.forEach((node, index) => {
    const there = node.path[Math.min(depth, node.path.length - 1)];
    if (!node.path.some((member) => hidden.has(member))) table[index] = there;
  });
  return table;
}

function through(table, map) {
  const result = new Uint8Array(map.length);
  for (let pixel = 0; pixel < map.length; pixel++) result[pixel] = table[map[pixel]];
  return result;
}

// A map at the size of the photo that was sent. Each pixel goes to the number with the largest part in its bilinear
// mean, so that edges stay smooth where taking the nearest would make stairs.
function enlarge(map, scene) {
  const { width, height } = scene;
  const [toWidth, toHeight] = scene.original;
  if (toWidth === width && toHeight === height) return map;
  const columns = neighbours(toWidth, width);
  const rows = neighbours(toHeight, height);
  const result = new Uint8Array(toWidth * toHeight);
  let pixel = 0;
  for (let row = 0; row < toHeight; row++) {
    const above = rows.first[row] * width;
    const below = rows.second[row] * width;
    const down = rows.weight[row];
    for (let column = 0; column < toWidth; column++, pixel++) {
      const left = columns.first[column];
      const right = columns.second[column];
      const first = map[above + left];
      result[pixel] = first;
      if (first === map[above + right] && first === map[below + left] && first === map[below + right]) continue;
      const four = [first, map[above + right], map[below + left], map[below + right]];
      const across = columns.weight[column];
      const weights = [(1 - across) * (1 - down), across * (1 - down), (1 - across) * down, across * down];
      const parts = four.map((one) => weights.reduce((sum, weight, index) => sum + (four[index] === one) * weight, 0));
      result[pixel] = four[parts.indexOf(Math.max(...parts))];
    }
  }
  return result;
}

// For each pixel along an enlarged axis: the two of the original between whose middles it lies, and the second's weight.
function neighbours(to, from) {
  const first = new Int32Array(to);
  const second = new Int32Array(to);
  const weight = new Float64Array(to);
  for (let place = 0; place < to; place++) {
    const at = Math.min(Math.max(((place + 0.5) * from) / to - 0.5, 0), from - 1);
    first[place] = Math.floor(at);
    second[place] = Math.min(first[place] + 1, from - 1);
    weight[place] = at - first[place];
  }
  return { first, second, weight };
}

// For each node: its share of the photo and of the person, and the mean score over its pixels, as Prediction.areas.
function areas(scene, model, found) {
  const pixels = new Float64Array(scene.nodes.length);
  const sums = new Float64Array(scene.nodes.length);
  const paths = scene.nodes.map((node) => node.path);
  let person = 0;
  for (let pixel = 0; pixel < found.length; pixel++) {
    if (found[pixel] === NOBODY) continue;
    person++;
    const path = paths[found[pixel]];
    for (let depth = 0; depth < path.length; depth++) {
      const score = model.scores[depth][pixel];
      pixels[path[depth]]++;
      // Half a step back: a score rounded up is half a step too high in the mean.
      sums[path[depth]] += score === 0 ? 0 : score - 0.5;
    }
  }
  return scene.nodes.map((_, node) => ({
    share_of_photo: pixels[node] / scene.size,
    share_of_person: person ? pixels[node] / person : 0,
    confidence: pixels[node] ? sums[node] / pixels[node] / STEPS : 0,
  }));
}

// Where two maps differ: {map, shares of the photo by number in the map, their sum, the same of who is in either}.
// The map's numbers: 0 nowhere, 1 somebody in the first map only, 2 in the other only, 3 another node.
function difference(one, other) {
  const map = new Uint8Array(one.length);
  const pixels = [0, 0, 0, 0];
  let somebody = 0;
  for (let pixel = 0; pixel < map.length; pixel++) {
    const here = one[pixel];
    const there = other[pixel];
    if (here !== NOBODY || there !== NOBODY) somebody++;
    if (here === there) continue;
    map[pixel] = there === NOBODY ? 1 : here === NOBODY ? 2 : 3;
    pixels[map[pixel]]++;
  }
  const differing = pixels[1] + pixels[2] + pixels[3];
  const shares = pixels.map((count) => count / map.length);
  return { map, shares, ofPhoto: differing / map.length, ofPerson: somebody ? differing / somebody : 0 };
}

// Intersection over union with the ground truth for every node; null for nodes that are in neither.
function agreement(scene, found) {
  const both = new Float64Array(scene.nodes.length);
  const either = new Float64Array(scene.nodes.length);
  const paths = scene.nodes.map((node) => node.path);
  for (let pixel = 0; pixel < found.length; pixel++) {
    const right = scene.truth[pixel];
    if (right === UNKNOWN) continue;
    const here = found[pixel] === NOBODY ? [] : paths[found[pixel]];
    const there = right === NOBODY ? [] : paths[right];
    for (const node of here) {
      either[node]++;
      if (there.includes(node)) both[node]++;
    }
    for (const node of there) if (!here.includes(node)) either[node]++;
  }
  return scene.nodes.map((_, node) => (either[node] ? both[node] / either[node] : null));
}

// Nodes that a level shows: those of its depth and leaves above.
function nodesOf(scene, depth) {
  const parents = new Set(scene.nodes.map((node) => node.path.at(-2)));
  return scene.nodes
    .map((_, index) => index)
    .filter((index) => {
      const length = scene.nodes[index].path.length;
      return length === depth + 1 || (length <= depth && !parents.has(index));
    });
}
