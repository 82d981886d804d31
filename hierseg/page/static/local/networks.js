// The networks of the checkpoints, run by ONNX Runtime in the browser: on the graphics card where there is WebGPU, else
// as WebAssembly, with threads where the page's headers allow them.

const MOST_THREADS = 8;

let runtime = null;
const sessions = new Map();

// Returns what turns a canvas into maps of scores, from `address`, an ONNX file. `tell` hears how much has come, 0 to 1.
export async function networkOf(address, tell) {
  runtime ??= loadRuntime().catch((error) => {
    runtime = null; // so that the next photo asks again
    throw error;
  });
  if (!sessions.has(address)) {
    sessions.set(address, load(address, tell));
    sessions.get(address).catch(() => sessions.delete(address));
  }
  const [{ ort }, session] = await Promise.all([runtime, sessions.get(address)]);
  return async ({ width, height, data }) => {
    const pictures = new ort.Tensor("uint8", data, [1, height, width, 3]);
    const { scores } = await session.run({ pictures });
    return { nodes: scores.dims[1], height, width, data: await scores.getData(true) };
  };
}

async function loadRuntime() {
  const card = await navigator.gpu?.requestAdapter().catch(() => null);
  const kind = card ? "webgpu" : "wasm";
  const ort = await import(`../ort/${kind}.mjs`);
  const packed = await fetched(`../ort/${kind}.z`);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  ort.env.wasm.wasmBinary = await new Response(stream).arrayBuffer();
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(MOST_THREADS, navigator.hardwareConcurrency) : 1;
  return { ort, kind };
}

async function load(address, tell) {
  const network = await fetched(address, tell);
  const { ort, kind } = await runtime;
  return ort.InferenceSession.create(network, { executionProviders: kind === "webgpu" ? ["webgpu", "wasm"] : ["wasm"] });
}

async function fetched(address, tell = () => {}) {
  const response = await fetch(new URL(address, import.meta.url));
  if (!response.ok) throw new Error(`${address} is not there (${response.status}).`);
  const size = Number(response.headers.get("content-length"));
  const pieces = [];
  let come = 0;
  for (const reader = response.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    pieces.push(value);
    come += value.length;
    if (size) tell(Math.min(1, come / size));
  }
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}
