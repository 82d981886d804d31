// Segments photos away from the page, which so stays responsive. It is asked {id, bytes, card, tree, most, quick}; it
// says {id, loading}, 0 to 1, while the network comes, and at last {id, photo, original, packed} or {id, message}.

import { networkOf } from "./networks.js";
import { jpegOf, openPhoto } from "./photo.js";
import { predict } from "./predictor.js";

let last = Promise.resolve();

self.addEventListener("message", ({ data }) => {
  last = last.then(() => answer(data)); // one after the other
});

async function answer({ id, bytes, card, tree, most, quick }) {
  try {
    const { photo, original } = await openPhoto(bytes, most);
    const network = await networkOf(card.network, (loading) => self.postMessage({ id, loading }));
    const how = quick ? { ...card, inference: { ...card.inference, mirror: false, zoom: null } } : card;
    const packed = await pack(await predict(photo, network, how, tree), photo.width);
    self.postMessage({ id, photo: await jpegOf(photo), original, packed });
  } catch (error) {
    self.postMessage({ id, message: error.message });
  }
}

// The maps as payload.pack sends them: the differences to the row above, modulo 256, in zlib's format.
async function pack(maps, width) {
  for (let pixel = maps.length - 1; pixel >= width; pixel--) maps[pixel] -= maps[pixel - width];
  const stream = new Blob([maps]).stream().pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
