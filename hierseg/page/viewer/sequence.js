// A sequence: several photos, or the pictures of a clip, each segmented in turn and kept, to be looked at one by one.

const MOST_PHOTOS = 50;
const LARGEST_PHOTO = 15e6; // bytes, as in actions.py
const CLIP_SECONDS = 15;
const CLIP_RATE = 8; // pictures of a clip that are looked at, a second
const CLIP_SIZE = 640; // longest side of a clip's picture

const LOST = "The server cannot be reached. Try again in a moment.";
const TOO_LARGE = `This photo is larger than ${LARGEST_PHOTO / 1e6} MB.`;
// Waits in milliseconds before a picture is sent again, where the server cannot be reached.
const PATIENCE = [500, 1000, 2000];

// Yields {title, picture, doing, done} of each file: `picture` makes a data URL of it as it is, `doing` says what is
// being segmented and what is left out, `done` the same of the first so many that are.
async function* photosOf(files) {
  const cut = files.length > MOST_PHOTOS;
  const doing = cut ? `Segmenting the first ${MOST_PHOTOS} of ${files.length} photos` : "Segmenting the photos";
  const most = cut ? `; ${MOST_PHOTOS} is the most at once` : "";
  const done = (count) => `${count} of ${files.length} photos segmented${most}`;
  for (const file of files.slice(0, MOST_PHOTOS)) yield { title: file.name, picture: () => urlOf(file), doing, done };
}

// Yields the same of a clip's pictures.
async function* picturesOf(file) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, preload: "auto" });
  video.src = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) => {
      video.addEventListener("loadeddata", resolve, { once: true });
      video.addEventListener("error", () => reject(new Error(`${file.name} is not a clip that this browser plays.`)), {
        once: true,
      });
    });
    if (video.duration === Infinity) await seek(video, 1e9); // a recording that does not say how long it is: now it does
    const scale = Math.min(1, CLIP_SIZE / Math.max(video.videoWidth, video.videoHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
    canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
    const end = Math.min(video.duration, CLIP_SECONDS);
    const seconds = Math.max(CLIP_SECONDS + 1, Math.round(video.duration)); // never "15 of 15"
    const part = video.duration > CLIP_SECONDS ? `the first ${CLIP_SECONDS} of ${seconds} seconds` : "";
    const doing = part ? `Segmenting ${part} of the clip` : "Segmenting the clip";
    const done = (count) => `${count} pictures segmented${part && `: ${part}`}`;
    for (let number = 0; number / CLIP_RATE < end; number++) {
      const time = number / CLIP_RATE;
      await seek(video, time);
      canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
      yield { title: `${time.toFixed(1)} s`, picture: () => canvas.toDataURL("image/jpeg", 0.9), doing, done };
    }
  } finally {
    URL.revokeObjectURL(video.src);
  }
}

function seek(video, time) {
  return new Promise((resolve, reject) => {
    video.addEventListener("seeked", resolve, { once: true });
    video.addEventListener("error", () => reject(new Error(`The clip cannot be read beyond ${time.toFixed(1)} s.`)), {
      once: true,
    });
    video.currentTime = time;
  });
}

async function urlOf(file) {
  if (file.size > LARGEST_PHOTO) throw new Error(TOO_LARGE);
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => resolve(reader.result));
    reader.addEventListener("error", () => reject(new Error("This file cannot be read.")));
    reader.readAsDataURL(file);
  });
}

const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

// What the server makes of a picture, or {message}. A server that is busy is asked until `ended`, and one that cannot be
// reached a few times: Gradio then answers with undefined or throws what is not for a visitor. `picture` is asked anew
// each time, since a camera has a newer one.
async function answered(serve, picture, ended) {
  const waits = [...PATIENCE];
  for (;;) {
    const url = await Promise.resolve().then(picture).catch((error) => error);
    if (url instanceof Error) return { message: url.message };
    const value = await Promise.resolve(url).then(serve).catch(() => undefined);
    if (value && !value.busy) return value;
    if (ended()) return {};
    if (!value && !waits.length) return { message: LOST };
    await rest(value ? 150 : waits.shift());
  }
}

// Draws how the parts' shares of the photo change from picture to picture: areas one above the other, and where one is.
function drawShares(canvas, rows, colors, current) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  const top = Math.max(0.01, ...rows.map((row) => row.reduce((sum, share) => sum + share, 0)));
  const across = (index) => (rows.length > 1 ? (index / (rows.length - 1)) * width : width / 2);
  const floor = rows.map(() => 0);
  colors.forEach((color, part) => {
    const ceiling = rows.map((row, index) => floor[index] + row[part]);
    context.fillStyle = `rgb(${color.join(" ")})`;
    context.beginPath();
    floor.forEach((share, index) => context.lineTo(across(index), height * (1 - share / top)));
    for (let index = rows.length - 1; index >= 0; index--)
      context.lineTo(across(index), height * (1 - ceiling[index] / top));
    context.fill();
    ceiling.forEach((share, index) => (floor[index] = share));
  });
  context.fillStyle = "#000";
  context.fillRect(across(current) - ratio, 0, 2 * ratio, height);
  context.fillStyle = "#fff";
  context.fillRect(across(current) - ratio / 2, 0, ratio, height);
}

// Films pictures at their own pace, since a browser records only as time goes by: a WebM, or an MP4 where it has no WebM.
async function film(pictures, rate) {
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
    context.drawImage(picture, 0, 0);
    await new Promise((resolve) => setTimeout(resolve, 1000 / rate));
  }
  recorder.stop();
  await ended;
  return new Blob(parts, { type });
}
