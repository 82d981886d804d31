"""The Space's entry point: builds the page and serves it."""

import sys
from pathlib import Path

from hierseg.errors import UserError
from hierseg.files import is_hidden
from hierseg.page import environment

try:
    settings = environment.prepare()  # before the page is imported, and with it Gradio

    from hierseg.page import memory, report
    from hierseg.page.app import build_page, load_predictors, serve

    # The one of whom every part is seen comes first; the page opens with the first one in colour.
    EXAMPLES = sorted(
        (path for path in (Path(__file__).parent / "examples").glob("*.jpg") if not is_hidden(Path(path.name))),
        key=lambda path: (path.stem != "camera", path),
    )

    memory.share_one_heap()  # before there are threads
    predictors = load_predictors()
    demo = build_page(predictors, EXAMPLES, report.read())

    if __name__ == "__main__":
        serve(demo, settings)
except UserError as error:
    sys.exit(f"error: {error}")
