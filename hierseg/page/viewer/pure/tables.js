// Tables of 256 numbers: from labels to nodes, from nodes to the nodes of a level, from nodes to labels.

import { NOBODY, UNKNOWN } from "./decoding.js";

// A map with each number replaced by the table's.
export function through(table, map) {
  const result = new Uint8Array(map.length);
  for (let pixel = 0; pixel < map.length; pixel++) result[pixel] = table[map[pixel]];
  return result;
}

export function nodesOfLabels({ nodes, void: unknown }) {
  const table = new Uint8Array(256).fill(NOBODY);
  nodes.forEach((node, index) => (table[node.label] = index));
  table[unknown] = UNKNOWN;
  return table;
}

export function labelsOfNodes({ nodes, background }) {
  const table = new Uint8Array(256).fill(background);
  nodes.forEach((node, index) => (table[index] = node.label));
  return table;
}

// Node -> the node that stands for it on a level; nodes below a hidden one become background.
export function nodesOnLevel({ nodes }, depth, hidden = new Set()) {
  const table = new Uint8Array(256).fill(NOBODY);
  table[UNKNOWN] = UNKNOWN;
  nodes.forEach(({ path }, index) => {
    if (!path.some((member) => hidden.has(member))) table[index] = path[Math.min(depth, path.length - 1)];
  });
  return table;
}

// The same of one node and all below it, everything else becomes background; on the node's own level or a deeper one.
export function nodesBelow({ nodes }, chosen, depth) {
  const table = nodesOnLevel({ nodes }, Math.max(depth, nodes[chosen].path.length - 1));
  nodes.forEach(({ path }, index) => {
    if (!path.includes(chosen)) table[index] = NOBODY;
  });
  return table;
}

// A node and all below it are 255, everything else is 0.
export function maskOfNode({ nodes }, chosen) {
  const table = new Uint8Array(256);
  nodes.forEach(({ path }, index) => (table[index] = path.includes(chosen) ? 255 : 0));
  return table;
}

// The nodes that a level consists of: those of its depth, and leaves that end above it.
export function membersOfLevel({ nodes }, depth) {
  const parents = new Set(nodes.map((node) => node.path.at(-2)));
  return [...nodes.keys()].filter((index) => {
    const { length } = nodes[index].path;
    return length === depth + 1 || (length <= depth && !parents.has(index));
  });
}

// The nodes as a tree is drawn: depth first, siblings in the tree's order.
export const inOrder = (nodes) =>
  [...nodes.keys()].toSorted((one, other) => comparePaths(nodes[one].path, nodes[other].path));

function comparePaths(one, other) {
  for (let depth = 0; depth < Math.min(one.length, other.length); depth++)
    if (one[depth] !== other[depth]) return one[depth] - other[depth];
  return one.length - other.length;
}
