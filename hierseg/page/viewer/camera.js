// Live: the camera's newest frame goes to the server as soon as the one before has come back. So frames are dropped and
// never queued, and each result is shown on the very frame that it is of, with every view, level and threshold.

import { find } from "./page.js";
import { begin, close, open, refuse } from "./scene.js";
import { LOST, segmentFrame } from "./server.js";

const LIVE_SIZE = 480; // longest side of a frame that is sent
const MOST_FAILURES = 3; // frames, one after the other
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
    delete find(".viewer").dataset.live;
    find(".live").textContent = "Live camera";
  });
  close("working", "Starting the camera …");
  find(".viewer").dataset.live = "";
  find(".live").textContent = "Stop";
  find(".rate").textContent = "";
  const fault = await run(ending.signal).catch((error) => FAULTS[error.name] ?? "The camera stopped. Start it again.");
  if (!ending.signal.aborted) refuse(fault);
}

// Runs until it is ended; returns a sentence where it cannot go on.
async function run(ended) {
  if (!navigator.mediaDevices) return INSECURE;
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, facingMode: "user" } });
  const stop = () => stream.getTracks().forEach((track) => track.stop());
  if (ended.aborted) return stop();
  ended.addEventListener("abort", stop);
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, srcObject: stream });
  await video.play();
  const times = [];
  let failures = 0;
  for (;;) {
    const value = await segmentFrame(() => frameOf(video), () => ended.aborted);
    if (ended.aborted) return undefined;
    failures = value.message ? failures + 1 : 0;
    if (value.message === LOST || failures > MOST_FAILURES) return value.message;
    if (failures) continue;
    const rate = rateOf(times);
    await open(value);
    find(".rate").textContent = rate ? `${rate.toFixed(1)} pictures a second` : "";
  }
}

// What the camera sees now: a JPEG as a data URL.
function frameOf(video) {
  const scale = Math.min(1, LIVE_SIZE / Math.max(video.videoWidth, video.videoHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
  canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
  const context = canvas.getContext("2d");
  if (find("[name=mirror]").checked) {
    context.translate(canvas.width, 0);
    context.scale(-1, 1);
  }
  context.drawImage(video, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.85);
}

// Adds now to the times at which results came; returns how many come a second, 0 where that is not known yet.
function rateOf(times) {
  const now = performance.now();
  times.push(now);
  while (times[0] < now - 3000) times.shift();
  return times.length > 1 ? (1000 * (times.length - 1)) / (now - times[0]) : 0;
}
