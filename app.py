"""The Space's entry point: builds the page and serves it."""

import sys
from pathlib import Path

from hierseg.errors import UserError
from hierseg.page import environment

try:
    host, folder = environment.prepare()  # before the page is imported, and with it Gradio

    from hierseg.page import examples, memory, report
    from hierseg.page.app import build_page, load_predictors, serve

    EXAMPLES = examples.read(Path(__file__).parent / "examples")

    memory.share_one_heap()  # before there are threads
    predictors = load_predictors()
    demo = build_page(predictors, EXAMPLES, report.read())

    if __name__ == "__main__":
        serve(demo, host, folder)
except UserError as error:
    sys.exit(f"error: {error}")
