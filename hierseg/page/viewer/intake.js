// How photos come in: what is dropped or pasted anywhere on the page goes the way of a photo chosen in the photo box.

const photoInput = () => document.querySelector("#photo input[type=file]"); // none while the box is at its camera

function take(files) {
  const input = photoInput();
  if (files.length > 1 || !input) starts.photos(files);
  else if (files[0].type.startsWith("video/")) starts.clip(files);
  else {
    const moved = new DataTransfer();
    moved.items.add(files[0]);
    input.files = moved.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }
}

// Listens to the whole page for as long as the viewer is in it.
function listenToPage(kind, listen, options) {
  document.addEventListener(kind, (event) => element.isConnected && listen(event), options);
}

const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
const isForTruth = (event) => event.target.closest?.("#ground-truth");

listenToPage("dragover", (event) => {
  if (hasFiles(event)) event.preventDefault(); // or the browser leaves the page for the file that is dropped
});
listenToPage(
  "drop",
  (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    if (isForTruth(event)) return;
    event.stopPropagation();
    event.target.dispatchEvent(new DragEvent("dragleave", { bubbles: true })); // the photo box stops waiting for it
    if (event.dataTransfer.files.length) take([...event.dataTransfer.files]);
  },
  true,
);
listenToPage("paste", (event) => {
  if (event.clipboardData?.files.length) take([...event.clipboardData.files]);
});
// Before Gradio sends it.
listenToPage(
  "change",
  (event) => {
    const [file] = event.target === photoInput() ? event.target.files : [];
    if (!(file?.size > LARGEST_PHOTO)) return;
    event.stopPropagation();
    event.target.value = "";
    load({ message: TOO_LARGE });
  },
  true,
);
