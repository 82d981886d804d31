"""The Space's entry point: builds the page and launches it."""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

from pathlib import Path

from hierseg.web.page import build_page, launch_options, load_predictors

EXAMPLES = sorted((Path(__file__).parent / "examples").glob("*.jpg"))

demo = build_page(load_predictors(), EXAMPLES)

if __name__ == "__main__":
    demo.launch(**launch_options())
