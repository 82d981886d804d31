// COCO's format of annotations: masks as runs down the columns, packed as pycocotools packs them.

// Each node's category; its number is the node's, from one.
export function categoriesOf(nodes) {
  return nodes.map(({ title, path }, node) => ({
    id: node + 1,
    name: title,
    supercategory: path.length > 1 ? nodes[path.at(-2)].title : "",
  }));
}

// An annotation for each node that is in a map of nodes, in the order of the nodes: {category_id, segmentation, area, bbox,
// iscrowd}.
export function annotationsOf(map, nodes, [width, height]) {
  return runsOf(map, nodes, width).flatMap((counts, node) => {
    if (counts.length < 2) return []; // nothing but what is outside
    const { area, bbox } = extent(counts, height);
    const segmentation = { size: [height, width], counts: packed(counts) };
    return { category_id: node + 1, segmentation, area, bbox, iscrowd: 0 };
  });
}

// For each node: how many pixels are outside, inside, outside and so on, column by column.
function runsOf(map, nodes, width) {
  const counts = nodes.map(() => []);
  const begun = new Float64Array(nodes.length);
  let last = []; // the path of the pixel before
  const turn = (node, place) => {
    counts[node].push(place - begun[node]);
    begun[node] = place;
  };
  let place = 0;
  let found = -1;
  for (let column = 0; column < width; column++) {
    for (let pixel = column; pixel < map.length; pixel += width, place++) {
      if (map[pixel] === found) continue;
      found = map[pixel];
      const path = nodes[found]?.path ?? [];
      for (const node of last) if (!path.includes(node)) turn(node, place);
      for (const node of path) if (!last.includes(node)) turn(node, place);
      last = path;
    }
  }
  nodes.forEach((_, node) => turn(node, place));
  return counts;
}

function extent(counts, height) {
  let [area, place] = [0, 0];
  let [left, top, right, bottom] = [Infinity, Infinity, -1, -1];
  counts.forEach((count, number) => {
    const last = place + count - 1;
    if (number % 2) {
      area += count;
      const [from, to] = [Math.floor(place / height), Math.floor(last / height)];
      left = Math.min(left, from);
      right = Math.max(right, to);
      top = Math.min(top, from === to ? place % height : 0);
      bottom = Math.max(bottom, from === to ? last % height : height - 1);
    }
    place += count;
  });
  return { area, bbox: [left, top, right + 1 - left, bottom + 1 - top] };
}

// Runs as text, as `rleToString` in pycocotools' maskApi.c: the difference to the run two before, in groups of 5 bits.
function packed(counts) {
  let text = "";
  counts.forEach((count, number) => {
    let rest = number > 2 ? count - counts[number - 2] : count;
    for (let more = true; more; ) {
      let group = rest & 31;
      rest >>= 5;
      more = group & 16 ? rest !== -1 : rest !== 0;
      if (more) group |= 32;
      text += String.fromCharCode(group + 48);
    }
  });
  return text;
}
