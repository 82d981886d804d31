// Answers what test_local.py asks: a list of [function, arguments] on the standard input, results on the output.
// Bytes are written in base 64.

import { Buffer } from "node:buffer";
import process from "node:process";
import { json } from "node:stream/consumers";

import { fit, lay } from "../../../hierseg/page/static/local/letterbox.js";
import { predict } from "../../../hierseg/page/static/local/predictor.js";
import { resize, shrink } from "../../../hierseg/page/static/local/resize.js";
import { windows } from "../../../hierseg/page/static/local/zoom.js";

const inText = (numbers) => Buffer.from(numbers).toString("base64");
const photoOf = ({ width, height, data }) => ({ width, height, data: Uint8Array.from(Buffer.from(data, "base64")) });

// A network without weights: node k sees the channel k modulo 3, weaker the later it comes.
const network = (nodes) => async (canvas) => {
  const size = canvas.width * canvas.height;
  const data = new Float32Array(nodes * size);
  for (let node = 0; node < nodes; node++)
    for (let pixel = 0; pixel < size; pixel++)
      data[node * size + pixel] = Math.fround(canvas.data[3 * pixel + (node % 3)] / 255) * Math.fround(1 - node / 32);
  return { nodes, height: canvas.height, width: canvas.width, data };
};

const FUNCTIONS = {
  fit,
  resize: (photo, width, height) => inText(resize(photoOf(photo), width, height).data),
  shrink: (photo, width, height) => inText(shrink(photoOf(photo), width, height).data),
  lay: (photo, window, size, fill) => {
    const box = fit(window.bottom - window.top, window.right - window.left, size);
    return inText(lay(photoOf(photo), window, box, fill).data);
  },
  windows: ({ width, height, data }, photo, zoom) => windows({ width, height, data: Float32Array.from(data) }, photo, zoom),
  predict: async (photo, card, tree) => inText(await predict(photoOf(photo), network(tree.nodes.length), card, tree)),
};

const answers = [];
for (const [name, asked] of await json(process.stdin)) answers.push(await FUNCTIONS[name](...asked));
process.stdout.write(JSON.stringify(answers));
