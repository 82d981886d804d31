"""Time of the page in a real browser: until it is ready, and until a control takes effect."""

from __future__ import annotations

import shutil
import statistics
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from benchmarks.photo import photo_of
from benchmarks.server import serving
from benchmarks.timing import Row

_RADIO = "#viewer input[name=hierseg-{}][value={}]"
# What a visitor changes: selector and values in turn; None clicks.
_CONTROLS: dict[str, list[tuple[str, int | None]]] = {
    "another level": [(_RADIO.format("level", level), None) for level in ("body", "parts")],
    "another checkpoint": [(_RADIO.format("checkpoint", name), None) for name in ("bce", "ftm")],
    "opacity": [("#viewer [name=opacity]", value) for value in (30, 70)],
    "person threshold": [("#viewer [name=threshold]", value) for value in (40, 60)],
    "differences and back": [(_RADIO.format("view", view), None) for view in ("differences", "single")],
}
# From a control's event until its frame is drawn: a task queued in a frame's callback runs after that frame.
_CHANGE = """
async ([selector, value]) => {
  const control = document.querySelector(selector);
  const start = performance.now();
  if (value === null) control.click();
  else {
    control.value = value;
    control.dispatchEvent(new Event("input", { bubbles: true }));
  }
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  return performance.now() - start;
}
"""


def rows(rounds: int, folder: Path) -> list[Row]:
    """Measure, or return a row that says why not."""
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        return [Row("the page in a browser", "not measured: Chromium was not found")]
    file = folder / "browser.jpg"
    file.write_bytes(photo_of(1))
    found = []
    with serving() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--headless", "--no-sandbox"])
        for width, height, ratio in ((1280, 900, 1), (390, 844, 3)):
            page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=ratio)
            start = time.perf_counter()
            page.goto(server.address)
            page.locator("#photo input[type=file]").first.wait_for(state="attached")
            found.append(Row.at_most(f"page ready, {width} px wide", time.perf_counter() - start, 3, "{:.1f} s"))
            page.locator("#photo input[type=file]").first.set_input_files(file)
            page.locator(".viewer[data-state=ready]").wait_for()
            worst, what = max((taken, what) for what, taken in _redraws(page, rounds).items())
            found.append(Row.at_most(f"slowest control ({what}), {width} px wide, 1 MP", worst, 50, "{:.0f} ms"))
            page.close()
        browser.close()
    return found


def _redraws(page: Page, rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each kind of change."""
    taken: dict[str, list[float]] = {what: [] for what in _CONTROLS}
    for _ in range(rounds):
        for what, changes in _CONTROLS.items():
            taken[what] += [page.evaluate(_CHANGE, change) for change in changes]
    return {what: statistics.median(values) for what, values in taken.items()}
