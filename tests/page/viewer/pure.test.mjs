// The viewer's pure modules against tests/golden/viewer.json, which golden.py makes with the library.

import assert from "node:assert/strict";
import { Buffer } from "node:buffer";
import { readFileSync } from "node:fs";
import test from "node:test";

import { annotationsOf, categoriesOf } from "../../../hierseg/page/viewer/pure/coco.js";
import { softMask } from "../../../hierseg/page/viewer/pure/cutout.js";
import { NOBODY, STEPS, decode, mapsOf, unpack } from "../../../hierseg/page/viewer/pure/decoding.js";
import { enlarge } from "../../../hierseg/page/viewer/pure/enlarge.js";
import { csvOf, safeName } from "../../../hierseg/page/viewer/pure/files.js";
import { outline } from "../../../hierseg/page/viewer/pure/geometry.js";
import { agreement, areas, difference, mean } from "../../../hierseg/page/viewer/pure/measures.js";
import { NO_RISK, certaintyFor, inWords, promiseInWords, risksOf } from "../../../hierseg/page/viewer/pure/risk.js";
import { brokenEdges, brokenMap, largestRegion, seenSets, setsOf, shareOfPerson } from "../../../hierseg/page/viewer/pure/raw.js";
import { icicle } from "../../../hierseg/page/viewer/pure/icicle.js";
import { polygonsOf, svgOf } from "../../../hierseg/page/viewer/pure/svg.js";
import {
  inOrder,
  labelsOfNodes,
  maskOfNode,
  membersOfLevel,
  nodesBelow,
  nodesOfLabels,
  nodesOnLevel,
  through,
} from "../../../hierseg/page/viewer/pure/tables.js";
import { inPixels } from "../../../hierseg/page/viewer/pure/words.js";
import { arrangeNames, middles } from "../../../hierseg/page/viewer/pure/names.js";
import { ANOTHER_PART, ONLY_ONE, ONLY_OTHER } from "../../../hierseg/page/viewer/views.js";
import { randomFrom } from "./random.mjs";

const golden = JSON.parse(readFileSync(new URL("../../golden/viewer.json", import.meta.url)));
const bytes = (digits) => Uint8Array.from(Buffer.from(digits, "hex"));
const digits = (numbers) => Buffer.from(numbers).toString("hex");

function close(found, expected, within = 1e-6) {
  assert.equal(found === null, expected === null);
  assert.ok(Math.abs(found - expected) <= within, `${found} is not ${expected}`);
}

// Calls `check` with each tree, its maps, and each decoding with the nodes that the viewer finds.
function onEveryDecoding(check) {
  for (const scene of golden.trees) {
    const numbers = bytes(scene.maps);
    const maps = mapsOf(numbers, bytes(scene.other).length, scene.levels.length);
    for (const decoded of scene.decoded)
      check(scene, maps, decoded, decode(maps, scene.nodes, decoded.threshold, decoded.certainty));
  }
}

test("packed maps are unpacked", async () => {
  for (const { packed, width, maps } of golden.trees) assert.equal(digits(await unpack(bytes(packed), width)), maps);
});

test("pixels are decoded by every threshold and certainty", () => {
  onEveryDecoding((scene, _, decoded, found) => {
    assert.equal(digits(through(labelsOfNodes(scene), found)), decoded.labels);
    assert.deepEqual(through(nodesOfLabels(scene), bytes(decoded.labels)), found);
  });
});

test("a level shows the node of its depth, or the one above that is the last", () => {
  onEveryDecoding((scene, _, decoded, found) => {
    decoded.levels.forEach((labels, depth) => {
      const onLevel = through(nodesOnLevel(scene, depth), found);
      assert.equal(digits(through(labelsOfNodes(scene), onLevel)), labels);
    });
  });
});

test("areas are the library's, but for the rounding of scores", () => {
  onEveryDecoding((scene, { scores }, decoded, found) => {
    areas(found, scores, scene.nodes).forEach((area, node) => {
      const [ofPhoto, ofPerson, confidence] = decoded.areas[node];
      close(area.share_of_photo, ofPhoto);
      close(area.share_of_person, ofPerson);
      close(area.confidence, confidence, 0.501 / STEPS);
    });
  });
});

test("the tree is broken where the library says, in the library's share of the person", () => {
  onEveryDecoding((scene, { on }, decoded, found) => {
    const broken = brokenMap(setsOf(on), scene.nodes);
    assert.equal(digits(broken), scene.broken);
    close(shareOfPerson(broken, found), decoded["broken share"]);
  });
  assert.equal(shareOfPerson(Uint8Array.of(0, 0), Uint8Array.of(NOBODY, NOBODY)), null);
});

test("a set holds the nodes whose bits are set, of however many nodes", () => {
  const random = randomFrom(5);
  const bits = Array.from({ length: 3 }, () => Uint8Array.from({ length: 400 }, () => (256 * random()) & (256 * random())));
  const { map, sets } = setsOf(bits);
  map.forEach((number, pixel) => {
    const expected = [...Array(24).keys()].filter((node) => bits[node >> 3][pixel] & (1 << (node & 7)));
    assert.deepEqual(sets[number], expected);
  });
  assert.equal(new Set(sets.map(String)).size, sets.length);
});

test("a broken edge is a node without its parent", () => {
  const [, { nodes }] = golden.trees; // two roots: cap, and body with tail and rump, which has hip and knee
  const at = (name) => nodes.findIndex((node) => node.name === name);
  const named = (names) => brokenEdges(names.map(at), nodes).map((edge) => edge.map((node) => nodes[node].name));
  assert.deepEqual(named(["cap"]), []);
  assert.deepEqual(named(["body", "rump", "hip"]), []);
  assert.deepEqual(named(["body", "hip", "tail"]), [["hip", "rump"]]);
  assert.deepEqual(named(["rump", "knee"]), [["rump", "body"]]);
});

test("nodes that are on together are shown in the mean of their colours, and what looks the same is one", () => {
  const nodes = [[10, 0, 0], [20, 40, 60], [40, 40, 0]].map((color) => ({ color }));
  const sets = { map: Uint32Array.of(0, 1, 2, 3), sets: [[], [0, 1], [1, 2], [0, 1, 2]] };
  const { map, colors } = seenSets(sets, nodes, new Set([1, 2]));
  assert.equal(colors[map[0]], undefined);
  assert.deepEqual(colors[map[1]], [20, 40, 60]);
  assert.deepEqual(colors[map[2]], [30, 40, 30]);
  assert.equal(map[3], map[2]);
});

test("the largest region is found, and the pixel that lies deepest in it", () => {
  const random = randomFrom(6);
  for (const [width, height, most] of [[13, 9, 2], [9, 13, 3], [1, 8, 2], [8, 1, 2], [6, 6, 1]]) {
    const map = Uint8Array.from({ length: width * height }, () => Number(random() < most / 4));
    const regions = regionsOf(map, width, height);
    const found = largestRegion(map, width, height);
    const { column, row, reach } = found;
    const own = regions.find((region) => region.has(row * width + column));
    assert.equal(found.pixels, Math.max(...regions.map((region) => region.size)));
    assert.equal(own.size, found.pixels);
    const depths = [...own].map((pixel) => depthAt(map, width, height, pixel % width, Math.floor(pixel / width)));
    assert.equal(reach, Math.max(...depths));
    assert.equal(reach, depthAt(map, width, height, column, row));
  }
  assert.equal(largestRegion(new Uint8Array(6), 3, 2), null);
});

// Regions, corners joined, by joining sets of pixels until nothing joins any more.
function regionsOf(map, width) {
  const touch = (one, other) =>
    Math.abs((one % width) - (other % width)) <= 1 && Math.abs(Math.floor(one / width) - Math.floor(other / width)) <= 1;
  let regions = [];
  for (const pixel of map.keys()) {
    if (!map[pixel]) continue;
    const joined = regions.filter((region) => [...region].some((other) => touch(pixel, other)));
    regions = regions.filter((region) => !joined.includes(region));
    regions.push(new Set([pixel, ...joined.flatMap((region) => [...region])]));
  }
  return regions;
}

// How large a square of ones around a pixel grows before it holds a 0 or leaves the map.
function depthAt(map, width, height, column, row) {
  for (let reach = 0; ; reach++)
    for (let down = row - reach; down <= row + reach; down++)
      for (let across = column - reach; across <= column + reach; across++)
        if (across < 0 || down < 0 || across >= width || down >= height || !map[down * width + across]) return reach;
}

test("a share in words is what it says, and larger shares never sound smaller", () => {
  let before = 0;
  for (let value = 1e-6; value < 0.95; value *= 1.003) {
    const [, part, whole] = /^(\d) pixels? in ([\d,]+)$/.exec(inPixels(value));
    const said = part / Number(whole.replaceAll(",", ""));
    assert.ok(Math.abs(said / value - 1) < 0.15, `${inPixels(value)} is not ${value}`);
    assert.ok(said >= before && said < 1);
    before = said;
  }
  assert.equal(inPixels(1 / 12), "1 pixel in 12");
  assert.equal(inPixels(0.0012), "1 pixel in 830");
  assert.equal(inPixels(1 / 12_345), "1 pixel in 12,000");
  assert.equal(inPixels(0.31), "3 pixels in 10");
  assert.equal(inPixels(0), "no pixel");
  assert.equal(inPixels(0.99), "nearly every pixel");
  assert.equal(inPixels(1), "every pixel");
});

test("differences are the library's, in the same colours", () => {
  onEveryDecoding((scene, _, decoded, found) => {
    const { map, shares, ofPhoto, ofPerson } = difference(found, through(nodesOfLabels(scene), bytes(scene.other)));
    assert.equal(digits(map), decoded.differing);
    close(ofPhoto, decoded.shares[0]);
    close(ofPerson, decoded.shares[1]);
    close(shares[1] + shares[2] + shares[3], ofPhoto);
  });
  assert.deepEqual([ONLY_ONE, ONLY_OTHER, ANOTHER_PART], golden.colors.slice(1));
});

test("a node is compared with a ground truth only where that knows of it", () => {
  onEveryDecoding((scene, _, decoded, found) => {
    const scores = agreement(found, through(nodesOfLabels(scene), bytes(scene.truth)), scene.nodes);
    scores.forEach((score, node) => close(score, decoded.iou[node]));
    decoded["level iou"].forEach((expected, depth) => {
      close(mean(membersOfLevel(scene, depth).map((node) => scores[node])), expected);
    });
  });
});

const promising = (title, certainties) => ({
  title,
  risk: {
    held_out: 307,
    promises: Object.entries(certainties).map(([oneIn, certainty]) => {
      return { one_in: Number(oneIn), certainty, wrong: (1 - certainty) / 4 };
    }),
  },
});

test("a risk is offered where every checkpoint can promise it and one of them stops anything for it", () => {
  const one = promising("One", { 1: 0, 3: 0, 4: 0, 5: 0.29, 10: 0.57 });
  const other = promising("Other", { 1: 0, 3: 0, 4: 0.58, 5: 0.9 });
  assert.deepEqual(risksOf([one]), [5, 10]);
  assert.deepEqual(risksOf([one, other]), [4, 5]);
  assert.deepEqual(risksOf([other, one]), [4, 5]);
  for (const unmeasured of [{ title: "None", risk: null }, { title: "Frame" }])
    for (const pair of [[unmeasured], [one, unmeasured], [unmeasured, one]]) assert.deepEqual(risksOf(pair), []);
  // .29, .57 and .58 times a hundred are no whole numbers to a computer.
  assert.deepEqual([5, 10].map((oneIn) => certaintyFor(one, oneIn)), [29, 57]);
  assert.deepEqual([NO_RISK, 4, 5].map((oneIn) => certaintyFor(other, oneIn)), [0, 58, 90]);
  for (const oneIn of [NO_RISK, 5]) assert.equal(certaintyFor({ risk: null }, oneIn), 0);
  assert.equal(certaintyFor(other, 10), 0);
});

test("what a risk promises is said with what came of it", () => {
  const one = promising("One", { 1: 0, 5: 0.4 });
  const other = promising("Other", { 1: 0, 5: 0.2 });
  assert.deepEqual([NO_RISK, 5].map(inWords), ["off", "wrong at most 1 in 5"]);
  assert.equal(
    promiseInWords([one], NO_RISK),
    "Of the pixels called a person, 25 % had a wrong name on 307 photos.",
  );
  assert.equal(
    promiseInWords([one, other], 5),
    "Of the pixels called a person, at most 1 in 5 has a wrong name, on average over photos like those it was chosen on. " +
      "On 307 other photos, 15 % with One and 20 % with Other had.",
  );
});

test("a soft mask is above one half exactly where the mask is", () => {
  onEveryDecoding(({ nodes, width }, maps, { threshold, certainty }, found) => {
    for (const chosen of [null, ...nodes.keys()]) {
      const alpha = softMask(maps, nodes, chosen, threshold, certainty, width);
      const within = (node) => node !== NOBODY && (chosen === null || nodes[node].path.includes(chosen));
      assert.deepEqual([...alpha].map((part) => part >= 128), [...found].map(within));
    }
  });
});

// A score that falls from left to right by `slope` a pixel and is `middle` at the middle of one row, all of one node.
function slope(width, middle, by) {
  const confidence = Uint8Array.from({ length: width }, (_, x) => Math.max(0, Math.min(100, middle + (width / 2 - x) * by)));
  return { confidence, leaf: new Uint8Array(width), scores: [confidence] };
}

test("a soft mask falls with the score, over no more than a narrow edge", () => {
  const nodes = [{ path: [0] }];
  for (const by of [1, 4, 30]) {
    const alpha = softMask(slope(256, 50, by), nodes, null, 50, 0, 256);
    assert.ok(alpha.every((part, x) => x === 0 || part <= alpha[x - 1]));
    const between = alpha.filter((part) => part > 0 && part < 255).length;
    assert.ok(between >= 1 && between <= 5, `${between} pixels of an edge of 2 pixels to either side`);
  }
  const unsure = softMask({ ...slope(256, 55, 0) }, nodes, null, 50, 0, 256);
  assert.ok(unsure.every((part) => part === 255)); // no edge is near
});

test("annotations are what pycocotools makes of the same masks", () => {
  onEveryDecoding(({ nodes, width }, _, { coco }, found) => {
    const annotations = annotationsOf(found, nodes, [width, found.length / width]);
    const made = new Map(annotations.map((each) => [each.category_id - 1, each]));
    coco.forEach((expected, node) => {
      const each = made.get(node);
      assert.deepEqual(each ? [each.segmentation.counts, each.area, each.bbox] : null, expected);
    });
  });
  const [, { nodes }] = golden.trees;
  const parents = Object.fromEntries(categoriesOf(nodes).map((each) => [each.name, each.supercategory]));
  assert.deepEqual(parents, { cap: "", body: "", tail: "body", rump: "body", hip: "rump", knee: "rump" });
});

// Whether a point is within closed lines, by the even-odd rule.
function isWithin(lines, x, y) {
  let within = false;
  for (const line of lines)
    line.forEach(([toX, toY], index) => {
      const [fromX, fromY] = line.at(index - 1);
      if (fromY > y !== toY > y && x < fromX + ((y - fromY) / (toY - fromY)) * (toX - fromX)) within = !within;
    });
  return within;
}

test("polygons hold the centres of a region's pixels and no others", () => {
  onEveryDecoding(({ nodes, width }, _, decoded, found) => {
    const height = found.length / width;
    const polygons = polygonsOf(found, width, height);
    for (const node of nodes.keys())
      found.forEach((number, pixel) => {
        const [x, y] = [(pixel % width) + 0.5, Math.floor(pixel / width) + 0.5];
        assert.equal(isWithin(polygons.get(node) ?? [], x, y), number === node);
      });
    const drawn = svgOf(found, nodes, [width, height]);
    assert.ok(drawn.includes(`viewBox="0 0 ${width} ${height}"`));
    nodes.forEach(({ name }, node) => assert.equal(drawn.includes(`id="${name}"`), found.includes(node)));
  });
});

test("a polygon has no more corners than it needs", () => {
  const square = Uint8Array.from({ length: 100 }, (_, at) => (at % 10 > 1 && at % 10 < 8 && at > 19 && at < 80 ? 0 : NOBODY));
  const [[line]] = polygonsOf(square, 10, 10).values();
  assert.equal(line.length, 8); // with its corners cut
});

test("tables quote what would break their rows", () => {
  assert.equal(csvOf([["a", 'b "c"', 0.5], ["d,e", "f\ng", ""]]), 'a,"b ""c""",0.5\r\n"d,e","f\ng",\r\n');
});

test("each pixel of an enlarged map has the number with the largest part", () => {
  for (const { size, to, map, expected } of golden.enlarged) {
    const found = enlarge(bytes(map), size, to);
    const wanted = bytes(expected).map((number, pixel) => (number === 255 ? found[pixel] : number));
    assert.equal(digits(found), digits(wanted));
  }
});

test("names are such that every system can hold them", () => {
  for (const [name, portable] of Object.entries(golden.names)) assert.equal(safeName(name), portable);
});

test("what is hidden, pointed at or saved by itself takes all below it along", () => {
  for (const { nodes } of golden.trees)
    for (const chosen of nodes.keys())
      nodes.forEach(({ path }, node) => {
        const below = path.includes(chosen);
        assert.equal(maskOfNode({ nodes }, chosen)[node], below ? 255 : 0);
        assert.equal(nodesOnLevel({ nodes }, 9, new Set([chosen]))[node], below ? NOBODY : node);
        assert.equal(nodesBelow({ nodes }, chosen, 9)[node], below ? node : NOBODY);
        assert.equal(nodesBelow({ nodes }, chosen, 0)[node], below ? chosen : NOBODY);
      });
});

test("the tree is listed depth first", () => {
  const [, { nodes }] = golden.trees;
  const order = inOrder(nodes).map((node) => nodes[node].name);
  assert.deepEqual(order, ["cap", "body", "tail", "rump", "hip", "knee"]);
});

test("outlines run between the regions and nowhere else", () => {
  const lines = [];
  outline(Uint8Array.of(1, 1, 2, 1, 1, 2, 3, 3, 3), 3, 3, {
    moveTo: (x, y) => lines.push([x, y]),
    lineTo: (x, y) => lines.at(-1).push(x, y),
  });
  // Around the square of ones; three regions meet at (2, 2).
  assert.deepEqual(lines, [[2, 0.5, 2, 1.5], [1.5, 2, 0.5, 2], [2, 2, 2, 1.5], [2, 2, 2.5, 2], [2, 2, 1.5, 2]]);
});

test("an icicle's colour is as large as the shares, and no leaf is too low to be hit", () => {
  onEveryDecoding(({ nodes }, { scores }, _, found) => {
    const one = areas(found, scores, nodes).map((area) => area.share_of_person);
    const few = areas(found.map((node, pixel) => (pixel % 3 ? NOBODY : node)), scores, nodes).map((area) => area.share_of_person);
    for (const shares of [[one], [one, few], [one, one.map(() => 0)]]) {
      for (const height of [40, 300, 2000]) {
        const { heights, fills } = icicle(nodes, shares, height, 30);
        const childrenOf = (node) => nodes.flatMap(({ path }, child) => (path.at(-2) === node ? [child] : []));
        const sum = (members) => members.reduce((total, node) => total + heights[node], 0);
        const leaves = [...nodes.keys()].filter((node) => !childrenOf(node).length);
        assert.ok(leaves.every((node) => heights[node] >= 30));
        assert.ok([...nodes.keys()].every((node) => heights[node] >= sum(childrenOf(node)) - 1e-6));
        const roots = sum(childrenOf(undefined));
        assert.ok(roots >= height - 1e-6);
        if (height >= 30 * leaves.length) close(roots, height);
        assert.ok(fills.flat().every((fill) => fill >= 0 && fill <= 1 + 1e-9));
        for (const depth of [1, 2, 3]) {
          const scales = shares.flatMap((own, place) =>
            [...nodes.keys()]
              .filter((node) => nodes[node].path.length === depth && own[node] > 0)
              .map((node) => (fills[place][node] * heights[node]) / own[node]),
          );
          scales.forEach((scale) => close(scale, scales[0], 1e-6 * scale));
        }
        fills.forEach((own, place) => own.forEach((fill, node) => assert.equal(fill > 0, shares[place][node] > 0)));
      }
    }
  });
});

test("a name goes to the deepest pixel of its number's largest region", () => {
  const random = randomFrom(1);
  for (let trial = 0; trial < 100; trial++) {
    const [width, height] = [3 + Math.floor(9 * random()), 3 + Math.floor(9 * random())];
    const map = Uint8Array.from({ length: width * height }, () => Math.floor(2.3 * random()));
    const numberAt = (column, row) => (column < 0 || row < 0 || column >= width || row >= height ? -1 : map[row * width + column]);
    // By brute force: regions by spreading until nothing changes, depths by looking at every pixel and beyond the rim.
    const region = [...map.keys()];
    for (let changed = true; changed; ) {
      changed = false;
      for (let pixel = 0; pixel < map.length; pixel++)
        for (const [other, near] of [[pixel + 1, pixel % width < width - 1], [pixel + width, pixel + width < map.length]]) {
          if (!near || map[pixel] !== map[other] || region[pixel] === region[other]) continue;
          region[pixel] = region[other] = Math.min(region[pixel], region[other]);
          changed = true;
        }
    }
    const depth = region.map((_, pixel) => {
      const [column, row] = [pixel % width, Math.floor(pixel / width)];
      let least = Infinity;
      for (let y = -1; y <= height; y++)
        for (let x = -1; x <= width; x++) if (numberAt(x, y) !== map[pixel]) least = Math.min(least, Math.abs(x - column) + Math.abs(y - row));
      return least;
    });
    const sizeOf = (wanted) => region.filter((one) => one === wanted).length;
    const found = middles(map, width, height);
    assert.deepEqual(found.map(({ number }) => number).toSorted(), [...new Set(map)].toSorted());
    for (const { number, column, row, share } of found) {
      const pixel = row * width + column;
      const own = region.filter((_, other) => map[other] === number);
      assert.equal(map[pixel], number);
      assert.equal(sizeOf(region[pixel]), Math.max(...own.map(sizeOf)));
      assert.equal(depth[pixel], Math.max(...depth.filter((_, other) => region[other] === region[pixel])));
      close(share, sizeOf(region[pixel]) / map.length);
    }
    const shares = found.map(({ share }) => share);
    assert.deepEqual(shares, shares.toSorted((one, other) => other - one));
  }
  const wide = Uint8Array.from({ length: 1000 * 600 }, (_, pixel) => (pixel % 1000 < 700 ? 1 : 2));
  const [{ number, column, row }] = middles(wide, 1000, 600);
  assert.equal(number, 1);
  assert.ok(Math.abs(column - 350) <= 60 && Math.abs(row - 300) <= 10);
});

test("names lie within the panel and none over another, where they should be if there is room", () => {
  const random = randomFrom(2);
  const panel = { x: 40, y: 10, width: 300, height: 200 };
  for (let trial = 0; trial < 200; trial++) {
    const names = Array.from({ length: 1 + Math.floor(12 * random()) }, () => ({
      x: panel.x + panel.width * random(),
      y: panel.y + panel.height * random(),
      width: 30 + 60 * random(),
      height: 20,
    }));
    const boxes = arrangeNames(names, panel).map((place, index) => place && { ...names[index], ...place });
    const [first] = boxes;
    const { x, y, width, height } = names[0];
    close(first.x, Math.max(panel.x, Math.min(panel.x + panel.width - width, x - width / 2)));
    close(first.y, Math.max(panel.y, Math.min(panel.y + panel.height - height, y - height / 2)));
    boxes.forEach((box, index) => {
      if (!box) return;
      assert.ok(box.x >= panel.x && box.y >= panel.y);
      assert.ok(box.x + box.width <= panel.x + panel.width && box.y + box.height <= panel.y + panel.height);
      for (const other of boxes.slice(0, index).filter(Boolean))
        assert.ok(
          box.x >= other.x + other.width || other.x >= box.x + box.width || box.y >= other.y + other.height || other.y >= box.y + box.height,
        );
    });
    assert.ok(names.length > 6 || boxes.every(Boolean));
  }
  assert.deepEqual(arrangeNames([{ x: 90, y: 60, width: 301, height: 20 }], panel), [null]);
});
