// The camera, live. Its newest frame is sent as soon as the one before is answered, and is shown together with its own
// result, in every view. A photo that is taken is like any other.

import { jpegOf } from "./draw.js";
import { namesShown } from "./models.js";
import { find, reveal } from "./page.js";
import { invite, showPhoto } from "./photo.js";
import { begin, close, open, refuse } from "./scene.js";
import { segmentFrame } from "./server.js";
import { state } from "./state.js";

const LIVE_SIZE = 448; // longest side of a frame that is sent
const FAULTS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser and try again.",
  NotFoundError: "No camera was found.",
  OverconstrainedError: "No camera was found.", // Safari's answer; nothing that is asked for is a must
  NotReadableError: "The camera is in use by another program.",
};
const INSECURE = "Browsers allow the camera on secure pages only. Open this page over https, or on the machine that serves it.";

let shown = null; // the frame on the stage, a JPEG

export function connect() {
  find(".live").addEventListener("click", () => ("live" in find(".viewer").dataset ? stop() : start()));
}

// The last frame stays, and the other checkpoints segment it too.
function stop() {
  const ending = new AbortController();
  begin(() => ending.abort());
  if (state.scene) complete(ending.signal);
  else invite(); // no frame had come yet
}

async function complete(signal) {
  const frame = shown;
  const value = await segmentFrame(() => frame, signal);
  if (value?.message) refuse(value.message);
  else if (value) await open({ ...value, moving: true });
}

async function start() {
  const ending = new AbortController();
  begin(() => {
    ending.abort();
    mark(false);
  });
  close("working", "Starting the camera …");
  reveal();
  mark(true);
  const fault = await run(ending.signal).catch((error) => FAULTS[error.name] ?? "The camera stopped. Start it again.");
  if (!ending.signal.aborted) refuse(fault);
}

function mark(live) {
  find(".viewer").toggleAttribute("data-live", live);
  find(".live").textContent = live ? "Stop" : "Live camera";
  find(".rate").textContent = "";
}

// Runs until it is ended; returns a sentence where it cannot go on.
async function run(ended) {
  if (!navigator.mediaDevices) return INSECURE;
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 }, facingMode: "user" } });
  const release = () => stream.getTracks().forEach((track) => track.stop());
  if (ended.aborted) return release();
  ended.addEventListener("abort", release);
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, srcObject: stream });
  await video.play();
  const shoot = async () => showPhoto(await pictureOf(video, Infinity));
  find(".shoot").addEventListener("click", shoot, { signal: ended });
  const times = [];
  // Asks about what the camera sees now. `sent` is kept once it is on its way.
  const ask = () => {
    let frame = null;
    let send = null;
    const sent = new Promise((resolve) => (send = resolve));
    const take = async () => {
      frame = await pictureOf(video, LIVE_SIZE);
      setTimeout(send); // after the request has begun
      return frame;
    };
    const answer = segmentFrame(take, ended, namesShown().filter(Boolean)).then((value) => ({ value, frame }));
    return { sent, answer };
  };
  for (let asked = ask(); ; ) {
    const { value, frame } = await asked.answer;
    if (!value || value.message) return value?.message;
    asked = ask();
    // The server works on the next one while this one is drawn; a browser that draws would delay encoding it.
    await Promise.race([asked.sent, asked.answer]);
    const rate = rateOf(times);
    shown = frame;
    await open({ ...value, moving: true });
    find(".rate").textContent = rate ? `${rate.toFixed(1)} pictures a second` : "";
  }
}

// What the camera sees now, as a JPEG whose longest side is at most `size` pixels, mirrored as its visitor sees it.
function pictureOf(video, size) {
  const scale = Math.min(1, size / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
  canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
  const context = canvas.getContext("2d");
  if (find("[name=mirror]").checked) context.setTransform(-1, 0, 0, 1, canvas.width, 0);
  context.drawImage(video, 0, 0, canvas.width, canvas.height);
  return jpegOf(canvas);
}

// Adds now to the times at which results came; returns how many come a second, 0 where that is not known yet.
function rateOf(times) {
  const now = performance.now();
  times.push(now);
  while (times[0] < now - 3000) times.shift();
  return times.length > 1 ? (1000 * (times.length - 1)) / (now - times[0]) : 0;
}
