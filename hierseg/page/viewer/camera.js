// The camera, live: its newest frame goes to the server as soon as the one before has come back. So each result is shown
// on the very frame that it is of, with every view, level and threshold. The picture taken is a photo like any other.

import { jpegOf } from "./draw.js";
import { find } from "./page.js";
import { showPhoto } from "./photo.js";
import { begin, close, open, refuse } from "./scene.js";
import { segmentFrame } from "./server.js";

const LIVE_SIZE = 480; // longest side of a frame that is sent
const FAULTS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser and try again.",
  NotFoundError: "No camera was found.",
  OverconstrainedError: "No camera was found.", // Safari's answer; nothing that is asked for is a must
  NotReadableError: "The camera is in use by another program.",
};
const INSECURE = "Browsers give the camera to secure pages only. Open this page by https or on this machine itself.";

export function connect() {
  find(".live").addEventListener("click", () => ("live" in find(".viewer").dataset ? begin() : start()));
}

async function start() {
  const ending = new AbortController();
  begin(() => {
    ending.abort();
    mark(false);
  });
  close("working", "Starting the camera …");
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
  const stop = () => stream.getTracks().forEach((track) => track.stop());
  if (ended.aborted) return stop();
  ended.addEventListener("abort", stop);
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, srcObject: stream });
  await video.play();
  const shoot = async () => showPhoto(await pictureOf(video, Infinity, false));
  find(".shoot").addEventListener("click", shoot, { signal: ended });
  const times = [];
  for (;;) {
    const value = await segmentFrame(() => pictureOf(video, LIVE_SIZE, find("[name=mirror]").checked), ended);
    if (!value || value.message) return value?.message;
    const rate = rateOf(times);
    await open(value);
    find(".rate").textContent = rate ? `${rate.toFixed(1)} pictures a second` : "";
  }
}

// What the camera sees now, as a JPEG whose longest side is at most `size` pixels.
function pictureOf(video, size, mirrored) {
  const scale = Math.min(1, size / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
  canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
  const context = canvas.getContext("2d");
  if (mirrored) context.setTransform(-1, 0, 0, 1, canvas.width, 0);
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
