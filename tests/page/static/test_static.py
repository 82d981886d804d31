"""The static page in a real browser, from a server that knows nothing but files."""

from __future__ import annotations

import base64
import functools
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from playwright.sync_api import expect

from hierseg.network import checkpoint
from hierseg.page import examples, payload
from hierseg.photo import open_photo
from hierseg.predictor import Predictor, best_first
from tests import HANGS, REPOSITORY
from tests.page.conftest import watched

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
RUNTIME = REPOSITORY / ".venv" / "onnxruntime-web-1.30.0.tgz"
EXAMPLES = [REPOSITORY / "examples" / f"{name}.jpg" for name in ("camera", "astronaut", "grace_hopper")]
FIRST_VISIT = 20_000_000  # bytes
NODES_FOUND = """async () => {
  const { state } = await import(new URL("viewer/state.js", location));
  const { foundBy, modelsShown } = await import(new URL("viewer/models.js", location));
  const { nodes, background, width } = state.scene;
  const labels = Uint8Array.from(foundBy(modelsShown()[0]), (node) => nodes[node]?.label ?? background);
  return { width, labels: btoa(Array.from(labels, (label) => String.fromCharCode(label)).join("")) };
}"""


class Files(SimpleHTTPRequestHandler):
    """A static host: no header of ours, and no word to the log.

    Attributes:
        sent: How many bytes each file has that was asked for.
    """

    sent: ClassVar[dict[str, int]] = {}

    def send_head(self) -> Any:
        """Answer with a file."""
        path = Path(self.translate_path(self.path))
        self.sent[self.path] = path.stat().st_size if path.is_file() else 0
        return super().send_head()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not RUNTIME.is_file():
        pytest.skip(f"the npm package onnxruntime-web is not in .venv (make {RUNTIME.relative_to(REPOSITORY)})")
    from hierseg.page.static.build import build

    folder = tmp_path_factory.mktemp("static")
    predictors = {name: Predictor(path) for name, path in checkpoint.available(checkpoint.default_folder()).items()}
    build(predictors, examples.read(REPOSITORY / "examples"), RUNTIME, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Files, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    """The static page, open and `watched`."""
    with watched(browser.new_page(), address) as page:
        yield page


def segment(page: Page, photo: Path) -> None:
    page.locator("#photo input[type=file]").first.set_input_files(photo)
    page.locator("#viewer .viewer[data-state=working]").wait_for()
    page.locator("#viewer .viewer[data-state=ready]").wait_for()


def test_masks_are_those_of_the_server(page: Page) -> None:
    predictors = {name: Predictor(path) for name, path in checkpoint.available(checkpoint.default_folder()).items()}
    best = predictors[best_first({name: each.card for name, each in predictors.items()})[0]]
    for photo in EXAMPLES:
        segment(page, photo)
        found = page.evaluate(NODES_FOUND)
        labels = np.frombuffer(base64.b64decode(found["labels"]), np.uint8).reshape(-1, found["width"])
        expected = best.predict(payload.shrink(open_photo(photo))).labels
        assert labels.shape == expected.shape
        assert (labels == expected).mean() > 0.999
        assert np.count_nonzero(expected) > 1000


def test_a_first_visit_takes_less_than_twenty_megabytes(address: str, browser: Browser) -> None:
    Files.sent.clear()
    page = browser.new_page()
    page.set_default_timeout(1000 * HANGS)
    page.goto(address)
    segment(page, EXAMPLES[1])
    page.close()
    assert any(name.endswith(".onnx") for name in Files.sent)
    assert sum(Files.sent.values()) < FIRST_VISIT


def test_it_opens_with_the_first_example_and_names_each_as_the_page_on_a_server_does(page: Page) -> None:
    shown = examples.read(REPOSITORY / "examples")
    buttons = page.locator("#examples button")
    assert buttons.all_inner_texts() == [example.caption for example in shown]
    expect(buttons.first).to_have_attribute("aria-current", "true")
    height, width = page.evaluate(
        """async () => {
          const { state } = await import(new URL("viewer/state.js", location));
          return [state.scene.height, state.scene.width];
        }"""
    )
    assert (height, width) == payload.shown_size(*open_photo(shown[0].path).shape[:2])
