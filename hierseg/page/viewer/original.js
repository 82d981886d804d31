// The photo in its own size. The server's copy is shrunk where it is large, and compressed again. What is saved is made of
// the visitor's own file, which is still in the page's memory.

const sizes = new WeakMap(); // of scenes: a promise of [width, height]

// The photo of a scene: in its own size, or as it is shown where there is no file or the browser cannot open it.
export async function originalOf({ file, original: [width, height], photo }) {
  if (!file) return photo;
  const picture = await createImageBitmap(file).catch(() => null);
  if (picture?.width === width && picture.height === height) return picture;
  picture?.close();
  return photo;
}

// The size of that.
export function sizeOf(scene) {
  if (!sizes.has(scene))
    sizes.set(
      scene,
      originalOf(scene).then((picture) => {
        const size = [picture.width, picture.height];
        release(scene, picture);
        return size;
      }),
    );
  return sizes.get(scene);
}

// Gives back the memory of what `originalOf` returned.
export function release(scene, picture) {
  if (picture !== scene.photo) picture.close();
}
