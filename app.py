"""The Space's entry point: builds the page and serves it."""

import os
import sys
from pathlib import Path

from hierseg.files import is_hidden
from hierseg.network.checkpoint import CheckpointError
from hierseg.page.cleaning import private_folder

# Before the page is imported, and with it Gradio, which asks once.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
# It would keep the last 10,000 requests, and count them anew at each that is refused.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))
os.environ["GRADIO_TEMP_DIR"] = private_folder()

from hierseg.page import memory, report
from hierseg.page.app import build_page, load_predictors, serve

# The one of whom every part is seen comes first: the page opens with it.
EXAMPLES = sorted(
    (path for path in (Path(__file__).parent / "examples").glob("*.jpg") if not is_hidden(Path(path.name))),
    key=lambda path: (path.stem != "camera", path),
)

memory.share_one_heap()  # before there are threads
try:
    predictors = load_predictors()
except CheckpointError as error:
    sys.exit(f"error: {error}")
demo = build_page(predictors, EXAMPLES, report.read())

if __name__ == "__main__":
    serve(demo, Path(os.environ["GRADIO_TEMP_DIR"]))
