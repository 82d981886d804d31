// The example photos: a click on one tells the server which.

export function start({ element, trigger }) {
  element.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) trigger("click", { index: Number(button.dataset.index) });
  });
}
