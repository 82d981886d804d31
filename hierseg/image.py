"""Any upload to a clean, upright RGB array, and the letterbox between a photo and the network's input."""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

Photo = npt.NDArray[np.uint8]

MAX_PIXELS = 64_000_000  # largest photo that is opened; a phone's largest are 48 to 50 million
STRIDE = 32  # smp's encoders halve the input five times
_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
_KINDS = "JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"


class PhotoError(ValueError):
    """A photo cannot be used. The message is a plain sentence for the person who sent it."""


def open_photo(source: str | Path | bytes | Image.Image | npt.NDArray[Any]) -> Photo:
    """Open a photo as upright RGB.

    EXIF turns are applied, transparency is laid on white, the first frame of an animation is taken, and CMYK, grey,
    palette, 16-bit and floating-point images become 8-bit RGB.

    Args:
        source: A path, the bytes of a file, a PIL image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of uint8,
            uint16 or floats in [0, 1].

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        PhotoError: It is not a photo, or it is damaged, empty or too large.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if isinstance(source, Image.Image):
        _check_size(*source.size)
        return _to_rgb(source)
    return _from_file(source)


@dataclass(frozen=True)
class Letterbox:
    """Where a photo lies inside the network's input.

    Attributes:
        photo: Height and width of the photo in pixels.
        canvas: Height and width of the input, multiples of `STRIDE`.
        content: Height and width of the resized photo inside the input.
        offset: Rows above and columns left of it.
    """

    photo: tuple[int, int]
    canvas: tuple[int, int]
    content: tuple[int, int]
    offset: tuple[int, int]

    @staticmethod
    def fit(height: int, width: int, size: int) -> Letterbox:
        """Plan the letterbox of a photo whose longest side is to become `size` pixels."""
        scale = size / max(height, width)
        content = (max(1, round(height * scale)), max(1, round(width * scale)))
        canvas = tuple(-(-side // STRIDE) * STRIDE for side in content)
        offset = tuple((outer - inner) // 2 for outer, inner in zip(canvas, content, strict=True))
        return Letterbox((height, width), (canvas[0], canvas[1]), content, (offset[0], offset[1]))

    def apply(self, photo: Photo, fill: tuple[int, int, int]) -> Photo:
        """Resize a photo and lay it on a canvas.

        Args:
            photo: RGB, uint8, shape (*self.photo, 3).
            fill: Colour around it.

        Returns:
            RGB, uint8, shape (*self.canvas, 3).
        """
        height, width = self.content
        resized = Image.fromarray(photo).resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        canvas = np.empty((*self.canvas, 3), dtype=np.uint8)
        canvas[:] = fill
        canvas[self._inner()] = np.asarray(resized)
        return canvas

    def crop(self, scores: Tensor) -> Tensor:
        """Cut the photo's part out of network output (..., *canvas): (..., *content)."""
        return scores[(..., *self._inner())]

    def restore(self, content: Tensor, rows: slice = slice(None)) -> Tensor:
        """Resize cropped scores to the photo, bilinearly, the exact inverse of `apply`'s geometry.

        Args:
            content: Scores, float, shape (N, *self.content), from `crop`.
            rows: Which rows of the photo are wanted, without a step; a part costs only its share of memory.

        Returns:
            Scores, shape (N, rows, photo width).
        """
        height, width = self.photo
        first, last, _ = rows.indices(height)
        wide = functional.interpolate(content[None], size=(content.shape[1], width), mode="bilinear")[0]
        # Pixel centres: row y of the photo lies at (y + 0.5) * scale - 0.5 of the content.
        at = (torch.arange(first, last, dtype=torch.float64) + 0.5) * (content.shape[1] / height) - 0.5
        at = at.clamp(0, content.shape[1] - 1)
        above = at.floor().long()
        below = (above + 1).clamp(max=content.shape[1] - 1)
        weight = (at - above).to(content.dtype).view(1, -1, 1)
        return torch.lerp(wide[:, above], wide[:, below], weight)

    def _inner(self) -> tuple[slice, slice]:
        (top, left), (height, width) = self.offset, self.content
        return slice(top, top + height), slice(left, left + width)


def _from_file(source: str | Path | bytes) -> Photo:
    if isinstance(source, bytes):
        data = source
    else:
        path = Path(source)
        if path.is_dir():
            raise PhotoError(f"{path} is a folder, not a photo.")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PhotoError(f"{path.name} cannot be read: {error.strerror or error}.") from error
    if not data:
        raise PhotoError("The file is empty.")
    if data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        raise PhotoError("HEIC photos cannot be opened here. Save it as JPEG and try again.")
    with warnings.catch_warnings():
        # Pillow warns of large images (the size is checked here) and of odd metadata (the pixels are what counts).
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
                _check_size(*image.size)
                return _to_rgb(image)
        except PhotoError:
            raise
        except UnidentifiedImageError as error:
            raise PhotoError(f"This is not a photo that can be opened. Use {_KINDS}.") from error
        except Image.DecompressionBombError as error:
            raise _too_large() from error
        except MemoryError as error:
            raise _too_large() from error
        except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
            raise PhotoError("The photo is damaged or incomplete. Save it again and retry.") from error


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise PhotoError("The photo has no pixels.")
    if width * height > MAX_PIXELS:
        raise _too_large()


def _too_large() -> PhotoError:
    return PhotoError(f"The photo is too large: more than {MAX_PIXELS // 1_000_000} megapixels. Make it smaller first.")


def _to_rgb(image: Image.Image) -> Photo:
    if getattr(image, "n_frames", 1) > 1:
        image.seek(0)
    image.load()
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_array(_scaled(np.asarray(image)))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))  # a copy: asarray would be read-only


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # broken EXIF is common and no reason to refuse the pixels
        return image


def _scaled(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring deep grey values to what `_from_array` reads: 16-bit whole numbers or floats in [0, 1]."""
    if values.dtype == np.uint16:
        return values
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    top = values.max(initial=0.0)
    # No file says what white is in these modes; take the next usual full scale.
    full = next((scale for scale in (1.0, 255.0, 65535.0) if top <= scale), top)
    return np.clip(values / full, 0.0, 1.0)


def _from_array(array: npt.NDArray[Any]) -> Photo:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise PhotoError(f"An array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {array.shape}.")
    _check_size(array.shape[1], array.shape[0])
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = (array.astype(np.uint32) * 255 + 32767) // 65535
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise PhotoError("An array of floats must lie in [0, 1].")
        array = np.rint(array * 255)
    elif array.dtype != np.uint8:
        raise PhotoError(f"An array must be uint8, uint16 or float, not {array.dtype}.")
    array = array.astype(np.uint8)
    if array.shape[2] == 4:
        return _to_rgb(Image.fromarray(np.ascontiguousarray(array), "RGBA"))
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))
