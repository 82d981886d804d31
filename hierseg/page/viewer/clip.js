// Clips: the pictures of one that is opened, and one that is made of pictures.

import { jpegOf } from "./draw.js";

export const CLIP_RATE = 8; // pictures of a clip that are looked at, a second
const CLIP_SECONDS = 15;
const CLIP_SIZE = 640; // longest side of a clip's picture

// Yields the pictures of a clip, as sequence.js takes them.
export async function* picturesOf(file) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
  video.src = URL.createObjectURL(file);
  try {
    await happened(video, "loadeddata", `This browser cannot play ${file.name}.`);
    if (video.duration === Infinity) await seek(video, 1e9); // a recording without a length gets one when it is sought beyond its end
    const scale = Math.min(1, CLIP_SIZE / Math.max(video.videoWidth, video.videoHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
    canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
    const end = Math.min(video.duration, CLIP_SECONDS);
    const seconds = Math.max(CLIP_SECONDS + 1, Math.round(video.duration)); // never "15 of 15"
    const part = video.duration > CLIP_SECONDS ? `the first ${CLIP_SECONDS} of ${seconds} seconds` : "";
    const doing = part ? `Segmenting ${part} of the clip` : "Segmenting the clip";
    const total = Math.ceil(end * CLIP_RATE);
    const done = (count) => `${count} of ${total} pictures segmented${part && `: ${part}`}`;
    for (let number = 0; number < total; number++) {
      const time = number / CLIP_RATE;
      await seek(video, time);
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      const path = `${file.name}#t=${time}`; // a moment of a file, by the W3C's Media Fragments
      yield { title: `${time.toFixed(1)} s`, path, time, picture: () => jpegOf(canvas), total, doing, done };
    }
  } finally {
    URL.revokeObjectURL(video.src);
  }
}

function seek(video, time) {
  const sought = happened(video, "seeked", `The clip cannot be read beyond ${time.toFixed(1)} s.`);
  video.currentTime = time;
  return sought;
}

// Waits for an event of a video, or fails with a sentence.
const happened = (video, kind, failure) =>
  new Promise((resolve, reject) => {
    video.addEventListener(kind, resolve, { once: true });
    video.addEventListener("error", () => reject(new Error(failure)), { once: true });
  });

// Records pictures at their own pace, since a browser records in real time only: a WebM, or an MP4 where it has no WebM.
export async function film(pictures) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: pictures[0].width, height: pictures[0].height });
  const context = canvas.getContext("2d");
  const type = ["video/webm", "video/mp4"].find((kind) => MediaRecorder.isTypeSupported(kind));
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: type, videoBitsPerSecond: 6e6 });
  const parts = [];
  recorder.addEventListener("dataavailable", (event) => parts.push(event.data));
  const ended = new Promise((resolve) => recorder.addEventListener("stop", resolve, { once: true }));
  recorder.start();
  for (const picture of pictures) {
    context.clearRect(0, 0, canvas.width, canvas.height); // of some, the background is transparent
    context.drawImage(picture, 0, 0);
    await new Promise((resolve) => setTimeout(resolve, 1000 / CLIP_RATE));
  }
  recorder.stop();
  await ended;
  return new Blob(parts, { type });
}
