"""Builds the Gradio page: a photo goes in, the viewer shows the parts of every checkpoint at once."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData
from PIL import Image

from hierseg import checkpoint
from hierseg.checkpoint import CheckpointError
from hierseg.hierarchy import HierarchyError
from hierseg.image import Photo, PhotoError, open_photo
from hierseg.predictor import Predictor
from hierseg.visualize import indexed_image, overlay
from hierseg.web import payload

TITLE = "hierseg"
HEADING = """
# People, taken apart along a tree
Drop a photo of people: the whole body, then its halves, then its parts, by networks trained with two losses.
"""
MAX_FILE_SIZE = "15mb"


def load_predictors(folder: Path | None = None) -> dict[str, Predictor]:
    """Load every checkpoint of a folder.

    Args:
        folder: Where; None for the repository's `checkpoints/`.

    Returns:
        Predictors by name.

    Raises:
        CheckpointError: There is none, one is damaged, or they are not all of one tree.
    """
    folder = folder or checkpoint.default_folder()
    predictors = {name: Predictor(path) for name, path in checkpoint.available(folder).items()}
    if not predictors:
        raise CheckpointError(
            f"There is no checkpoint in {folder}. Train one: python -m train fit train/configs/bce.yaml"
        )
    trees = {str(predictor.card.hierarchy.to_dict()) for predictor in predictors.values()}
    if len(trees) > 1:
        raise CheckpointError(f"The checkpoints in {folder} are of different trees; the page can show one tree.")
    return predictors


def build_page(predictors: Mapping[str, Predictor], examples: list[Path]) -> gr.Blocks:
    """Build the page.

    Args:
        predictors: Checkpoints by name; all of one tree.
        examples: Photos that a visitor can click.

    Returns:
        The page, ready to launch with `launch_options`.
    """
    tree = next(iter(predictors.values())).card.hierarchy

    def show(path: str | None) -> Any:
        if path is None:
            return None
        try:
            shown = payload.shrink(open_photo(path))
        except PhotoError as error:
            return payload.refusal(str(error))
        predictions = {name: predictor.predict(shown) for name, predictor in predictors.items()}
        return payload.scene(shown, predictors, predictions)

    def segment(
        photo: str | None, checkpoint: str, level: str, opacity: float
    ) -> tuple[Photo, Image.Image, dict[str, Any]]:
        """Segment the people in a photo along the tree body, upper/lower body, parts.

        Args:
            photo: The photo file.
            checkpoint: Which loss the network was trained with: bce or ftm.
            level: body, upper-lower or parts.
            opacity: Opacity of the colours in the overlay, 0 to 1.

        Returns:
            The overlay picture, the indexed mask PNG, and areas and confidences as JSON.
        """
        if photo is None:
            raise gr.Error("Send a photo.")
        if checkpoint not in predictors:
            raise gr.Error(f"There is no checkpoint {checkpoint!r}. There are: {', '.join(predictors)}.")
        try:
            pixels = open_photo(photo)
            prediction = predictors[checkpoint].predict(pixels)
            labels = prediction.at_level(level)
            picture = overlay(pixels, labels, tree, opacity)
        except (PhotoError, HierarchyError, ValueError) as error:
            raise gr.Error(str(error)) from error
        return picture, indexed_image(labels, tree), prediction.summary()

    # Uploads and results are deleted within eleven minutes: every minute, what is ten minutes old.
    page: gr.Blocks = gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600))
    with page:
        gr.Markdown(HEADING, elem_id="heading")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300, elem_id="photo-column"):
                photo = _photo_input(
                    label="Photo",
                    sources=["upload", "clipboard", "webcam"],
                    height=340,
                    elem_id="photo",
                    buttons=["fullscreen"],
                )
                gr.Examples([str(example) for example in examples], inputs=photo, label="Examples", elem_id="examples")
            with gr.Column(scale=3, min_width=320):
                viewer = gr.HTML(
                    value=None,
                    html_template=_own_file("viewer.html"),
                    css_template=_own_file("viewer.css"),
                    js_on_load=_own_file("viewer.js"),
                    elem_id="viewer",
                )
        photo.change(show, photo, viewer, api_visibility="private", show_progress="minimal")

        with gr.Row(visible=False):  # the API's own inputs and outputs; the page answers these choices in the browser
            gr.Button().click(
                segment,
                [
                    _photo_input(label="photo"),
                    gr.Textbox("ftm", label="checkpoint"),
                    gr.Textbox(tree.level_names[-1], label="level"),
                    gr.Number(0.55, label="opacity"),
                ],
                [
                    gr.Image(format="jpeg", label="overlay"),
                    gr.Image(format="png", label="mask"),
                    gr.JSON(label="areas"),
                ],
                api_name="segment",
            )
    return page


def _photo_input(**options: Any) -> gr.Image:
    """Return a gr.Image that hands the uploaded file over untouched.

    gr.Image itself would open the file and show raw errors. A subclass would be neater, but Gradio writes a stub file
    beside the module of every subclass.
    """

    def path(payload: ImageData | None) -> str | None:
        return payload.path if payload else None

    component = gr.Image(type="filepath", image_mode=None, **options)
    component.preprocess = path  # type: ignore[method-assign]
    return component


def launch_options() -> dict[str, Any]:
    """Return the arguments of `launch` that the page needs wherever it runs."""
    return {
        "theme": gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        "css": _own_file("page.css"),
        "ssr_mode": False,
        "max_file_size": MAX_FILE_SIZE,
        "footer_links": ["api"],
        "run_history": False,  # it would keep visitors' photos in their browsers
        "show_error": True,
    }


def _own_file(name: str) -> str:
    return (resources.files("hierseg.web") / name).read_text(encoding="utf-8")
