// How a photo is zoomed, by its properties.

import assert from "node:assert/strict";
import test from "node:test";

import { WHOLE, arrange, inside, pixelAt, placeOf, rezoomed, zoomed } from "../../../hierseg/page/viewer/pure/geometry.js";
import { randomFrom } from "./random.mjs";

const close = (found, expected) => assert.ok(Math.abs(found - expected) < 1e-6, `${found} is not ${expected}`);

// Calls `check` with arrangements of panels, a photo that they show, a room, and thirty zooms that follow on each other.
function onEveryZoom(check) {
  const random = randomFrom(4);
  for (const [count, width, height] of [[1, 40, 30], [1, 9, 90], [2, 40, 30], [2, 300, 20], [2, 20, 300]]) {
    const arranged = arrange(count, { width, height }, 500, 400, 6);
    for (const room of [{ width: 500, height: arranged.height }, { width: 500, height: 400 }]) {
      let zoom = WHOLE;
      for (let step = 0; step < 30; step++) {
        const layout = zoomed(arranged, zoom, room);
        const point = () => ({ x: (random() - 0.5) * layout.width, y: (random() - 0.5) * layout.height });
        const [factor, from, to] = [2 ** (6 * random() - 2.5), point(), point()];
        check({ arranged, photo: { width, height }, room, zoom, layout, factor, from, to });
        zoom = rezoomed(arranged, zoom, room, factor, from, to);
      }
    }
  }
}

test("whatever the zoom, a pixel is found where it is drawn", () => {
  onEveryZoom(({ photo, layout }) => {
    assert.equal(pixelAt(layout, photo, -1, 0), null);
    layout.panels.forEach((panel, number) => {
      for (let column = 0; column < photo.width; column++)
        for (const row of [0, photo.height >> 2, photo.height >> 1, photo.height - 1]) {
          const place = placeOf({ column, row }, photo, panel);
          if (inside(panel, place))
            assert.deepEqual(pixelAt(layout, photo, place.x, place.y), { column, row, panel: number });
        }
    });
  });
});

test("whatever the zoom, panels lie within the room, are alike, and have no bare side", () => {
  onEveryZoom(({ room, layout, zoom }) => {
    const [first] = layout.panels;
    assert.ok(layout.width <= room.width + 1 && layout.height <= room.height + 1);
    assert.deepEqual(layout.zoom, zoom); // what is reached stays as it is
    for (const { x, y, width, height, whole } of layout.panels) {
      assert.ok(x + width <= layout.width && y + height <= layout.height);
      assert.deepEqual([width, height], [first.width, first.height]);
      close(whole.x - x, first.whole.x - first.x);
      close(whole.y - y, first.whole.y - first.y);
      assert.ok(whole.x <= x + 1e-6 && whole.x + whole.width >= x + width - 1e-6);
      assert.ok(whole.y <= y + 1e-6 && whole.y + whole.height >= y + height - 1e-6);
    }
  });
});

test("what is under a finger stays under it, but where a side of the photo stops it", () => {
  let followed = 0;
  onEveryZoom(({ arranged, room, zoom, layout, factor, from, to }) => {
    const start = { x: from.x + layout.width / 2, y: from.y + layout.height / 2 };
    const under = layout.panels.findIndex((panel) => inside(panel, start));
    if (under < 0) return;
    const next = zoomed(arranged, rezoomed(arranged, zoom, room, factor, from, to), room);
    close(next.zoom.by, Math.min(16, Math.max(1, zoom.by * factor)));
    for (const [axis, side] of [["x", "width"], ["y", "height"]]) {
      const [old, now] = [layout.panels[under].whole, next.panels[under]];
      const share = (from[axis] + layout[side] / 2 - old[axis]) / old[side];
      const found = now.whole[axis] + share * now.whole[side] - next[side] / 2;
      const atLow = Math.abs(now.whole[axis] - now[axis]) < 1e-6;
      const atHigh = Math.abs(now.whole[axis] + now.whole[side] - now[axis] - now[side]) < 1e-6;
      if (!atLow && !atHigh) {
        close(found, to[axis]);
        followed++;
      } else if (!atHigh) assert.ok(found <= to[axis] + 1e-6); // it would have had to come further
      else if (!atLow) assert.ok(found >= to[axis] - 1e-6);
    }
  });
  assert.ok(followed > 100);
});
