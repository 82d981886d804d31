// Live: the camera's newest frame goes to the server as soon as the one before has come back. So frames are dropped and
// never queued, and each result is shown on the very frame that it is of, with every view, level and threshold.

const LIVE_SIZE = 480; // longest side of a frame that is sent
const LOST = "The server cannot be reached. Try again in a moment.";
const CAMERA_FAULTS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser and try again.",
  NotFoundError: "No camera was found.",
  OverconstrainedError: "No camera was found.", // Safari's answer; nothing that is asked for is a must
  NotReadableError: "The camera is in use by another program.",
};

// Runs until the function that is returned is called. `receive` gets each scene value and how many came in the last second, `fail` a sentence.
function startLive({ mirrored, receive, fail }) {
  const video = Object.assign(document.createElement("video"), { muted: true, playsInline: true });
  const times = [];
  let stream = null;
  const ended = new AbortController();

  const stop = () => {
    ended.abort();
    stream?.getTracks().forEach((track) => track.stop());
  };

  const frame = () => {
    const scale = Math.min(1, LIVE_SIZE / Math.max(video.videoWidth, video.videoHeight));
    const canvas = document.createElement("canvas");
    canvas.width = Math.round(video.videoWidth * scale);
    canvas.height = Math.round(video.videoHeight * scale);
    const context = canvas.getContext("2d");
    if (mirrored()) {
      context.translate(canvas.width, 0);
      context.scale(-1, 1);
    }
    context.drawImage(video, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.85);
  };

  const rate = () => {
    const now = performance.now();
    times.push(now);
    while (times[0] < now - 3000) times.shift();
    return times.length > 1 ? (1000 * (times.length - 1)) / (now - times[0]) : 0;
  };

  const run = async () => {
    if (!navigator.mediaDevices) throw new Error("insecure");
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, facingMode: "user" } });
    if (ended.signal.aborted) return stop();
    video.srcObject = stream;
    await video.play();
    while (!ended.signal.aborted) {
      const value = await server.segment_frame(frame());
      if (ended.signal.aborted) return undefined;
      if (!value) throw new Error(LOST);
      if (value.message) throw new Error(value.message);
      if (value.busy) await new Promise((resolve) => setTimeout(resolve, 150));
      else await receive(value, rate());
    }
    return undefined;
  };

  run().catch((error) => {
    stop();
    const insecure = "Browsers give the camera to secure pages only. Open this page by https or on this machine itself.";
    fail(error.message === "insecure" ? insecure : (CAMERA_FAULTS[error.name] ?? `The camera stopped: ${error.message}`));
  });
  return stop;
}
