// Live: the camera's newest frame goes to the server as soon as the one before has come back. So frames are dropped and
// never queued, and each result is shown on the very frame that it is of, with every view, level and threshold.

const LIVE_SIZE = 480; // longest side of a frame that is sent
const MOST_FAILURES = 3; // frames, one after the other
const CAMERA_FAULTS = {
  NotAllowedError: "The camera was not allowed. Allow it for this page in the browser and try again.",
  NotFoundError: "No camera was found.",
  OverconstrainedError: "No camera was found.", // Safari's answer; nothing that is asked for is a must
  NotReadableError: "The camera is in use by another program.",
};

const INSECURE = "Browsers give the camera to secure pages only. Open this page by https or on this machine itself.";

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
    canvas.width = Math.max(1, Math.round(video.videoWidth * scale));
    canvas.height = Math.max(1, Math.round(video.videoHeight * scale));
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
    if (!navigator.mediaDevices) return end(INSECURE);
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 640 }, facingMode: "user" } });
    if (ended.signal.aborted) return stop();
    video.srcObject = stream;
    await video.play();
    let failures = 0;
    for (;;) {
      const value = await answered(server.segment_frame, frame, () => ended.signal.aborted);
      if (ended.signal.aborted) return undefined;
      failures = value.message ? failures + 1 : 0;
      if (value.message === LOST || failures > MOST_FAILURES) return end(value.message);
      if (!failures) await receive(value, rate());
    }
  };

  const end = (sentence) => {
    if (ended.signal.aborted) return; // the visitor stopped it before
    stop();
    fail(sentence);
  };
  run().catch((error) => end(CAMERA_FAULTS[error.name] ?? "The camera stopped. Start it again."));
  return stop;
}
