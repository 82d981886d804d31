// A file to pixels, as photo/reading.py has them: upright, in sRGB, on white, the first picture of an animation.

import { picture, shrink } from "./resize.js";

const UNREADABLE = "This file is not a photo that this browser can open. Save it as JPEG and try again.";

// Returns {photo, original: [width, height]}: the photo as it is shown, its longest side at most `most`, and the size it had.
export async function openPhoto(bytes, most) {
  const bitmap = await createImageBitmap(new Blob([bytes])).catch(() => null);
  if (!bitmap) throw new Error(UNREADABLE);
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const read = picture(width, height);
  for (let pixel = 0, from = 0, to = 0; pixel < width * height; pixel++, from += 4)
    for (let channel = 0; channel < 3; channel++) read.data[to++] = data[from + channel];
  const scale = Math.min(1, most / Math.max(width, height));
  const shown = [width, height].map((side) => Math.max(1, Math.round(side * scale)));
  return { photo: scale < 1 ? shrink(read, ...shown) : read, original: [width, height] };
}

// The photo as a JPEG, which the viewer shows.
export async function jpegOf({ width, height, data }) {
  const image = new ImageData(width, height);
  image.data.fill(255);
  for (let pixel = 0, from = 0, to = 0; pixel < width * height; pixel++, to += 4)
    for (let channel = 0; channel < 3; channel++) image.data[to + channel] = data[from++];
  const canvas = new OffscreenCanvas(width, height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return (await canvas.convertToBlob({ type: "image/jpeg", quality: 0.9 })).arrayBuffer();
}
