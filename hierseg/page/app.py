"""Builds the Gradio page: a photo goes in, the viewer shows the parts of every checkpoint at once."""

from __future__ import annotations

import base64
import contextlib
import html
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import NoReturn

import anyio.to_thread
import gradio as gr
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from gradio.data_classes import ImageData
from gradio.routes import App
from starlette.middleware import Middleware
from starlette.responses import JSONResponse

from hierseg.network import checkpoint
from hierseg.network.checkpoint import CheckpointError
from hierseg.page import memory, modules, payload, preview
from hierseg.page.actions import Actions
from hierseg.page.blocks import GuardedBlocks
from hierseg.page.cleaning import cleaning
from hierseg.page.environment import StartError
from hierseg.page.examples import Example
from hierseg.page.guard import LARGEST_PHOTO, Guard
from hierseg.page.mcp import take_uploads
from hierseg.page.queue import PhotoQueue
from hierseg.page.report import Report
from hierseg.page.routes import routes
from hierseg.photo import PhotoError, open_photo
from hierseg.predictor import Predictor

TITLE = "hierseg"
PREVIEW = {
    "title": f"{TITLE}: people in photos, segmented into a hierarchy of body parts",
    "description": "Drop a photo and see its people as a tree of body parts: the body, its halves and their parts. "
    "See where networks trained with different losses break that tree, and how decoding mends it.",
}
PRIVACY = """
**What happens to a photo.** It is sent to the machine that serves this page and to nobody else, segmented there, and
forgotten: it is never written to a disk. Masks and figures you save are made in your browser. What programs send is
deleted within eleven minutes.
"""
PROGRAMS = """
Programs can use this page too: `segment` returns the overlay, the mask and the figures of one checkpoint; `compare`
returns where two of them differ and, given a ground truth, the IoU of each. In Python, with this page's address:

```python
from gradio_client import Client, handle_file

client = Client("http://127.0.0.1:7860")
overlay, mask, figures = client.predict(
    handle_file("photo.jpg"), checkpoint="{name}", level="parts", opacity=0.55, api_name="/segment"
)
{comparison}```

“Use via API” below has the same for other languages. Where the page was started with `GRADIO_MCP_SERVER=true`,
assistants find both as MCP tools under `/gradio_api/mcp/`.
"""
COMPARISON = """\
differences, figures = client.predict(
    handle_file("photo.jpg"), level="parts", truth=None, first="{}", second="{}", api_name="/compare"
)
"""
# Gradio's sign that the page is loading asks for 60 frames a second for ever, by the function that it finds while it
# loads. viewer.js ends that one.
_FIRST_SCRIPT = """
<script>
{
  const request = window.requestAnimationFrame;
  let loading = true;
  window.requestAnimationFrame = (draw) => (loading ? request.call(window, draw) : 0);
  window.endLoading = () => {
    loading = false;
    window.requestAnimationFrame = request;
  };
}
</script>
"""
MOST_WAITING = 64  # calls of programs
MOST_THREADS = 8  # each keeps its memory once it has worked
MOST_SESSIONS = 64  # visitors whose state Gradio keeps; the page works without it too


def load_predictors(folder: Path | None = None) -> dict[str, Predictor]:
    """Load every checkpoint of a folder; one that cannot be used is left out and named on stderr.

    Args:
        folder: Where; None for the repository's `checkpoints/`.

    Returns:
        Predictors by name.

    Raises:
        CheckpointError: There is none that can be used, or they are not all of one tree.
    """
    folder = folder or checkpoint.default_folder()
    predictors = {}
    for name, path in checkpoint.available(folder).items():
        try:
            predictors[name] = Predictor(path)
        except CheckpointError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not predictors:
        raise CheckpointError(
            f"There is no checkpoint in {folder}. Train one: python -m train fit train/configs/bce.yaml"
        )
    trees = {str(predictor.card.hierarchy.to_dict()) for predictor in predictors.values()}
    if len(trees) > 1:
        raise CheckpointError(f"The checkpoints in {folder} are of different trees; the page can show one tree.")
    return predictors


def build_page(
    predictors: Mapping[str, Predictor], examples: Sequence[Example], report: Report | None = None
) -> GuardedBlocks:
    """Build the page.

    Args:
        predictors: Checkpoints by name; all of one tree.
        examples: Photos that a visitor can click; the first is segmented when the page opens.
        report: How the losses compare: a page of its own at /losses, quoted where two checkpoints are compared.

    Returns:
        The page, for `serve`.
    """
    thumbnails = {example: shown for example in examples if (shown := _thumbnail(example)) is not None}
    actions = Actions(predictors)
    queue = PhotoQueue()
    names = list(actions.predictors)
    page = GuardedBlocks(title=TITLE, analytics_enabled=False)
    previews = {"": PREVIEW}
    if report:
        previews["losses"] = {"title": f"How the losses compare · {TITLE}", "description": report.quote}
    page.routes = [
        modules.ROUTE,
        *preview.put_on(previews, _FIRST_SCRIPT),
        *routes(actions, queue, [example.path for example in thumbnails]),
    ]
    page.queue(max_size=MOST_WAITING, api_open=False)
    with page:
        gr.HTML(
            list(thumbnails.values()),
            html_template=_own_file("viewer.html").replace("<!-- quote -->", _quoted(report)),
            css_template=_own_file("viewer.css"),
            js_on_load=modules.START,
            elem_id="viewer",
            apply_default_css=False,
        )
        with gr.Accordion("Use it from a program", open=False, elem_id="programs"):
            comparison = COMPARISON.format(*names) if len(names) > 1 else ""
            gr.Markdown(PROGRAMS.format(name=names[0], comparison=comparison))
        engines = " and ".join(sorted({predictor.network.engine for predictor in predictors.values()}))
        gr.Markdown(f"{PRIVACY}\nNetworks run in {engines}.", elem_id="privacy")

        with gr.Row(visible=False):  # the API's own inputs and outputs; the page answers these choices in the browser
            levels = actions.tree.level_names
            level = gr.Dropdown(list(levels), value=levels[-1], label="level")
            gr.Button().click(
                queue.queued(actions.segment),
                [
                    _photo_input(),
                    gr.Dropdown(names, value=names[0], label="checkpoint"),
                    level,
                    gr.Slider(0, 1, 0.55, label="opacity"),
                ],
                [
                    gr.Image(format="jpeg", label="overlay"),
                    gr.Image(format="png", label="mask"),
                    gr.JSON(label="areas"),
                ],
                api_name="segment",
            )
            gr.Button().click(
                queue.queued(actions.compare),
                [
                    _photo_input(),
                    level,
                    gr.File(label="truth"),
                    gr.Dropdown(names, value=None, label="first"),
                    gr.Dropdown(names, value=None, label="second"),
                ],
                [gr.Image(format="jpeg", label="differences"), gr.JSON(label="figures")],
                api_name="compare",
            )
    if report:
        with page.route("How the losses compare", "/losses", show_in_navbar=False):
            gr.HTML(f'<a href="./">← {TITLE}</a>', padding=False)
            gr.Markdown(report.text, elem_id="report")
    return page


def _quoted(report: Report | None) -> str:
    """Return what the viewer says below two checkpoints that are compared; caption.js hides the sentence of others."""
    if not report:
        return ""
    link = '<a href="losses" target="_blank" rel="noopener">How the losses compare</a>'
    return f'<p class="quote"><span>{html.escape(report.quote)}</span> {link}</p>'


def _thumbnail(example: Example) -> dict[str, str] | None:
    """Return what the page shows of an example to click; None of a damaged one, which is named on stderr."""
    try:
        picture = payload.jpeg(payload.shrink(open_photo(example.path), 160), 85)
    except PhotoError as error:
        print(f"left out: {example.path.name}: {error}", file=sys.stderr)
        return None
    return {"caption": example.caption, "picture": f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"}


def _photo_input() -> gr.Image:
    """Return a gr.Image that hands the uploaded file over untouched.

    gr.Image itself would open the file and show raw errors. A subclass would be neater, but Gradio writes a stub file
    beside the module of every subclass.
    """

    def path(payload: ImageData | None) -> str | None:
        return payload.path if payload else None

    component = gr.Image(type="filepath", image_mode=None, label="photo")
    component.preprocess = path  # type: ignore[method-assign]
    return component


def serve(page: GuardedBlocks, host: str, folder: Path) -> NoReturn:
    """Serve the page until the process is told to end, by Ctrl-C or SIGTERM, and end it; nothing of a visitor is left.

    Args:
        page: From `build_page`.
        host: From `environment.prepare`.
        folder: Likewise.

    Raises:
        StartError: No port is free any more.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    memory.settle()
    with contextlib.suppress(KeyboardInterrupt):
        try:
            page.launch(
                server_name=host,
                prevent_thread_lock=True,
                theme=theme(),
                css=_own_file("page.css"),
                ssr_mode=False,
                max_file_size=LARGEST_PHOTO,
                state_session_capacity=MOST_SESSIONS,
                enable_monitoring=False,
                footer_links=["api"],
                run_history=False,  # it would keep visitors' photos in their browsers
                show_error=True,
                num_workers=0,  # they would serve files beside the guard
                _frontend=False,  # or a server that visitors are waiting for ends if it is not heard within 3 seconds
                app_kwargs={
                    "openapi_url": None,
                    "routes": page.routes,
                    "middleware": [Middleware(Guard)],
                    "lifespan": _lifespan(folder),
                    "exception_handlers": {RequestValidationError: _refuse_body},
                },
            )
        except OSError as error:
            raise StartError(f"The page cannot be served on {host}: {error}") from error
        while page.is_running:
            time.sleep(0.1)
    page.close()
    shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
    os._exit(0)  # Gradio's threads would wait for every browser that is still connected


def _lifespan(folder: Path) -> Callable[[App], contextlib.AbstractAsyncContextManager[None]]:
    """Return what FastAPI takes as `lifespan`: few threads, MCP for uploads, and what visitors send is forgotten."""

    @contextlib.asynccontextmanager
    async def lifespan(app: App) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = MOST_THREADS
        if server := app.get_blocks().mcp_server_obj:
            take_uploads(server)
        async with cleaning(app, folder):
            yield

    return lifespan


async def _refuse_body(_: Request, __: Exception) -> JSONResponse:
    """Say in a sentence what FastAPI would say in a list with everything that was sent."""
    return JSONResponse({"detail": "This is not JSON of the kind that this address takes."}, 422)


def theme() -> gr.themes.Base:
    """Return the default theme in indigo, with quiet text that is dark enough to be read."""
    base = gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return base.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600",
    )


def _own_file(name: str) -> str:
    return (resources.files("hierseg.page") / "viewer" / name).read_text(encoding="utf-8")
