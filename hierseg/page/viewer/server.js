// The server's answers: a photo or a label map goes there as it is, in one request; what comes back is a stream of
// messages, as payload.py makes them.

const LARGEST_FILE = 15e6; // bytes; guard.py takes no less
const LOST = "The server cannot be reached. Try again in a moment.";
const PATIENCE = [500, 1000, 2000]; // milliseconds before a server that cannot be reached is asked again
const BUSY = 2000; // and before one whose queue is full

// Each returns the value of the last message, with the bytes that belong to it as `parts`: a scene's or a ground truth's,
// or {message}; null where the signal was given. `content` makes what is sent, anew each time, since a camera has a newer
// frame. `tell` hears {ahead, waiting} while it is in the queue, and {busy} when it was not let in.
export const segmentPhoto = (content, signal, tell) => answered("photo", content, signal, tell); // with all passes
export const segmentFrame = (content, signal, names = []) => // with one, for speed, by these checkpoints or by all
  answered(`frame?${new URLSearchParams(names.map((name) => ["checkpoint", name]))}`, content, signal);
export const segmentExample = (number, signal, tell) => answered(`example/${number}`, () => null, signal, tell);
export const fitTruth = (content, [width, height]) => answered(`truth/${height}/${width}`, content);

// The bytes of a file that is sent.
export function contentOf(file) {
  if (file.size > LARGEST_FILE) throw new Error(`This file is larger than ${LARGEST_FILE / 1e6} MB.`);
  return file.arrayBuffer().catch(() => {
    throw new Error("This file cannot be read.");
  });
}

async function answered(path, content, signal = new AbortController().signal, tell = () => {}) {
  for (const waits = [...PATIENCE]; ; ) {
    const body = await Promise.resolve().then(content).catch((error) => error);
    if (body instanceof Error) return { message: body.message };
    const value = await ask(path, body, signal, tell).catch(() => null);
    if (signal.aborted) return null;
    if (value && !value.busy) return value;
    if (!value && !waits.length) return { message: LOST };
    if (value) tell(value);
    await rest(value ? BUSY : waits.shift());
    if (signal.aborted) return null;
  }
}

async function ask(path, body, signal, tell) {
  const method = body ? "POST" : "GET";
  const headers = { "x-gradio-user": "app", ...(await headersOfHub()) }; // the first for the package spaces too
  const response = await fetch(path, { method, body, signal, headers });
  if (response.status === 503) return { busy: true };
  if (!response.ok) return { message: (await response.json()).detail };
  let answer = null;
  for await (const value of messagesOf(response.body.getReader())) {
    if ("ahead" in value) tell(value);
    else answer ??= value; // what follows is read too, to the stream's end, so that the connection is free again
  }
  return answer;
}

// Yields a stream's messages: the length of the JSON in 4 bytes, the JSON, and as many bytes as its `parts` say.
async function* messagesOf(reader) {
  let held = new Uint8Array();
  async function take(count) {
    const taken = new Uint8Array(count);
    for (let filled = 0; filled < count; ) {
      if (!held.length) held = (await reader.read()).value; // undefined at the end, which is an error amid a message
      const part = held.subarray(0, count - filled);
      taken.set(part, filled);
      filled += part.length;
      held = held.subarray(part.length);
    }
    return taken;
  }
  for (;;) {
    if (!held.length) {
      const { done, value } = await reader.read();
      if (done) return;
      held = value;
    }
    const length = new DataView((await take(4)).buffer).getUint32(0);
    const value = JSON.parse(new TextDecoder().decode(await take(length)));
    const parts = [];
    for (const size of value.parts) parts.push(await take(size));
    yield { ...value, parts };
  }
}

// On a ZeroGPU Space, the Hub's page around this one says by which headers a visitor's share of the card is counted.
// Gradio sets the mark where that page has said that it does.
function headersOfHub() {
  if (!window.supports_zerogpu_headers) return {};
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.addEventListener("message", ({ data }) => resolve(data ?? {}), { once: true });
    port1.start();
    window.parent.postMessage("zerogpu-headers", "https://huggingface.co", [port2]);
  });
}

const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
