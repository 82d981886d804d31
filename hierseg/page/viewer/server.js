// The server's answers to pictures: see segment_file and segment_frame in actions.py.

export const LOST = "The server cannot be reached. Try again in a moment.";
// Waits in milliseconds before a picture is sent again, where the server cannot be reached.
const PATIENCE = [500, 1000, 2000];

let server = null;

export function connect(functions) {
  server = functions;
}

// Both send the data URL that `picture` makes and return a scene's value, or {message}. `ended` tells whether nobody
// waits any more.
export const segmentPhoto = (picture, ended) => answered(server.segment_file, picture, ended); // with all passes
export const segmentFrame = (picture, ended) => answered(server.segment_frame, picture, ended); // with one, for speed

// A server that is busy is asked until `ended`, and one that cannot be reached a few times: Gradio then answers with
// undefined or throws what is not for a visitor. `picture` is asked anew each time, since a camera has a newer one.
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

const rest = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
