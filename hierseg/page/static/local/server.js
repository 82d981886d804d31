// The functions of the viewer's server.js, answered in the browser. In the built folder this file stands where the
// viewer has that one.

import { namesShown } from "./models.js";
import { state } from "./state.js";

const card = await (await fetch(new URL("../card.json", import.meta.url))).json();
const worker = new Worker(new URL("../local/worker.js", import.meta.url), { type: "module" });
const listeners = new Map(); // by the number of a question to the worker: what hears its answers
let questions = 0;

worker.addEventListener("message", ({ data: { id, ...answer } }) => listeners.get(id)?.(answer));
worker.addEventListener("error", () => {
  for (const hear of listeners.values()) hear({ message: "This browser cannot run the networks." });
});

export const segmentPhoto = (content, signal, tell) => segmented(content, wanted(), signal, tell);
export const segmentFrame = (content, signal, names = []) =>
  segmented(content, names.length ? names : wanted(), signal, () => {}, true);

export async function segmentExample(number, signal, tell) {
  const name = Number(number) ? card.examples[number] : "first.scene";
  const content = async () => (await fetch(new URL(`../examples/${name}`, import.meta.url))).arrayBuffer();
  return Number(number) ? segmentPhoto(content, signal, tell) : messageOf(new Uint8Array(await content()));
}

export const fitTruth = () => ({ message: "Only a server compares a photo with a ground truth." });

export const contentOf = (file) =>
  file.arrayBuffer().catch(() => {
    throw new Error("This file cannot be read.");
  });

// The checkpoints that are looked at, or the best: each is several megabytes, and comes when it is wanted first.
const wanted = () => (state.checkpoint ? namesShown() : [Object.keys(card.networks)[0]]);

// A scene's value with what some checkpoints say of a photo; its `more` says the same of others.
async function segmented(content, names, signal, tell = () => {}, quick = false) {
  tell({}); // nothing is sent
  const bytes = await Promise.resolve().then(content).catch((error) => error);
  if (bytes instanceof Error) return { message: bytes.message };
  const parts = [];
  const { nodes, levels } = card.scene;
  let value = card.scene;
  for (const name of names) {
    const answer = await ask({ bytes, card: card.networks[name], tree: { nodes, levels }, most: card.most, quick }, tell);
    if (signal?.aborted) return null;
    if (answer.message) return answer;
    if (!parts.length) parts.push(answer.photo);
    parts.push(answer.packed);
    value = { ...value, original: answer.original };
  }
  const checkpoints = card.scene.checkpoints.filter((checkpoint) => names.includes(checkpoint.name));
  const inOrder = checkpoints.map(({ name }) => parts[1 + names.indexOf(name)]);
  const more = (others) => segmented(() => bytes, [...new Set([...names, ...others])], null, () => {}, quick);
  return { ...value, note: "", checkpoints, parts: [parts[0], ...inOrder], more };
}

function ask(question, tell) {
  const id = ++questions;
  return new Promise((resolve) => {
    listeners.set(id, (answer) => {
      if ("loading" in answer) return tell(answer);
      listeners.delete(id);
      resolve(answer);
    });
    worker.postMessage({ id, ...question });
  });
}

// A message as payload.py makes it: the length of the JSON in 4 bytes, the JSON, and as many bytes as its `parts` say.
function messageOf(bytes) {
  const length = new DataView(bytes.buffer).getUint32(0);
  const value = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  let at = 4 + length;
  return { ...value, parts: value.parts.map((size) => bytes.subarray(at, (at += size))) };
}
