"""A graphics card where there is one: on a ZeroGPU Space, a function must say that it wants it, and for whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from gradio.context import LocalContext
from starlette.requests import Request

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def on_gpu(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that runs on a ZeroGPU Space's card, and the function itself everywhere else.

    Its arguments and results are pickled there, the function is not.
    """
    try:
        # A Gradio Space installs gradio, of README.md's sdk_version, and spaces by itself; all else is pinned in
        # requirements.txt, and PyTorch's processor build in pre-requirements.txt.
        import spaces  # type: ignore[import-not-found]
    except ImportError:
        return function
    wanting: Callable[Arguments, Result] = spaces.GPU(function)
    return wanting


def work_for(request: Request) -> None:
    """Have what this task calls from now on run for a visitor's request.

    The package spaces finds in Gradio's context whose share of the card is used. Gradio sets it for its own events.
    """
    LocalContext.blocks.set(request.app.get_blocks())
    LocalContext.event_id.set(None)
    LocalContext.request.set(request)  # type: ignore[arg-type]  # of which spaces reads the headers
