"""What the viewer in the browser is given: one JPEG and one label map a checkpoint, as plain JSON values."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

from PIL import Image

from hierseg.image import Photo
from hierseg.predictor import Prediction, Predictor
from hierseg.visualize import readable

VIEW_SIZE = 1280  # longest side shown; larger photos are shrunk before anything else is done with them


def shrink(photo: Photo, size: int = VIEW_SIZE) -> Image.Image:
    """Return a photo as an image whose longest side is at most `size` pixels."""
    image = Image.fromarray(photo)
    image.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


def refusal(sentence: str) -> dict[str, Any]:
    """Return what makes the viewer show a sentence instead of a picture."""
    return {"message": sentence}


def scene(shown: Image.Image, predictors: Mapping[str, Predictor], predictions: Mapping[str, Prediction]) -> Any:
    """Return what makes the viewer show a photo and the masks of every checkpoint.

    Args:
        shown: The photo as it is to be shown.
        predictors: Checkpoints by name; all of one tree.
        predictions: What each says of `shown`.

    Returns:
        Values for JSON; `viewer.js` names the keys.
    """
    tree = next(iter(predictors.values())).card.hierarchy
    return {
        "photo": _data_url(shown.convert("RGB"), "JPEG", quality=90),
        "background": tree.background,
        "levels": list(tree.level_names),
        "nodes": [
            {
                "name": name,
                "title": readable(name),
                "label": tree.labels[node],
                "color": tree.colors[node],
                "path": [tree.labels[member] for member in tree.lineages[node]],
                "leaf": not tree.children[node],
            }
            for node, name in enumerate(tree.nodes)
        ],
        "checkpoints": [
            {
                "name": name,
                "title": predictors[name].card.title,
                # Grey, not palette: a canvas gives back colours, and grey gives back the very numbers.
                "labels": _data_url(Image.fromarray(prediction.labels), "PNG"),
                "areas": prediction.summary()["areas"],
            }
            for name, prediction in predictions.items()
        ],
    }


def _data_url(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
