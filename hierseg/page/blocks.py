"""A gr.Blocks that trusts no visitor: it opens only what was uploaded, and answers every error with a sentence."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder
from starlette.routing import BaseRoute

from hierseg.errors import UserError

FAILED = "This failed on the server. Try again, or try another photo."
NOT_UPLOADED = "Only files uploaded to this page are opened: no web addresses, and no files of the server."
_WRONG = "These values do not fit this call. “Use via API” at the foot of the page names them."
_log = logging.getLogger(__name__)


class GuardedBlocks(gr.Blocks):
    """Blocks whose inputs are checked before Gradio looks at them, and whose values are not kept.

    Attributes:
        routes: What is served beside Gradio's own.
    """

    routes: Sequence[BaseRoute] = ()

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any) -> Any:
        """Check what came in, and hand it on; inputs that are left out at the end have the values of their components.

        Gradio fetches an address where it finds one, and does not check the path of an image that says nothing of its
        `meta`.

        Raises:
            gr.Error: Inputs that are not what the function takes, or a file that was not uploaded.
        """
        try:
            if not all(map(was_uploaded, paths_in(inputs))):
                raise gr.Error(NOT_UPLOADED)
            left_out = [component.value for component in block_fn.inputs[len(inputs) :]]
            return await super().preprocess_data(block_fn, [*inputs, *left_out], *arguments, **options)
        except (gr.Error, OSError):  # a disk that fails is no fault of the values
            raise
        except Exception as error:
            raise gr.Error(_WRONG) from error

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        """Run a function for a visitor.

        Raises:
            gr.Error: Whatever goes wrong, with a sentence.
        """
        try:
            answer: dict[str, Any] = await super().process_api(*arguments, **options)
            return answer
        except gr.Error as error:
            error.print_exception = False  # the visitor's fault, which is not for the log
            raise
        except UserError as error:
            raise gr.Error(str(error), print_exception=False) from error
        except Exception as error:
            _log.exception("a function of the page failed")
            raise gr.Error(FAILED, print_exception=False) from error
        finally:
            # The last values of every session, the photo among them, kept for links to them, which are not served.
            if state := options.get("state"):
                state.config_values.clear()


def paths_in(value: Any) -> Iterator[Any]:
    """Find whatever Gradio may take for the path of a file in a value of JSON."""
    if isinstance(value, dict):
        if value.get("path") is not None:
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from paths_in(part)


def was_uploaded(path: Any) -> bool:
    """Tell whether a value is the path of something in the folder of uploads, after all links are followed."""
    return isinstance(path, str) and Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve())
