"""Any upload to a clean, upright RGB array, and the letterbox between a photo and the network's input."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

Photo = npt.NDArray[np.uint8]
_Value = TypeVar("_Value", bound=np.generic)

MAX_PIXELS = 64_000_000  # largest photo that is opened; a phone's largest are 48 to 50 million
STRIDE = 32  # smp's encoders halve the input five times
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # Pillow opens MPO as JPEG, not by its name
_KINDS = "JPEG, PNG, WebP, AVIF, GIF, BMP or TIFF"
_TURNS = {  # what brings a photo upright, by its EXIF orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class PhotoError(ValueError):
    """A photo cannot be used. The message is a plain sentence for the person who sent it."""


def open_photo(source: str | Path | bytes | Image.Image | npt.NDArray[Any]) -> Photo:
    """Open a photo as upright RGB.

    EXIF turns are applied, an embedded colour profile is converted to sRGB, transparency is laid on white, the first
    frame of an animation is taken, and CMYK, grey, palette, 16-bit and floating-point images become 8-bit RGB.

    Args:
        source: A path, the bytes of a file, a PIL image (the frame it stands at; it stays as it is), or an array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, uint8, uint16 or floats in [0, 1].

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        PhotoError: It is not a photo, or it is damaged, empty or too large.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if not isinstance(source, Image.Image | bytes):
        source = _read(Path(source))
    try:
        return _from_image(source) if isinstance(source, Image.Image) else _from_bytes(source)
    except PhotoError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise _too_large() from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise PhotoError("The photo is damaged or incomplete. Save it again and retry.") from error


def is_animated(path: str | Path) -> bool:
    """Tell whether a file that `open_photo` takes holds several pictures, of which it takes the first."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            # A phone's JPEG may hold more pictures, as previews or for depth: that is no animation.
            return image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception:  # whether it opens at all is for open_photo to say
        return False


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

    def crop(self, scores: npt.NDArray[_Value]) -> npt.NDArray[_Value]:
        """Cut the photo's part out of network output (..., *canvas): (..., *content)."""
        return scores[(..., *self._inner())]

    def restore(self, content: npt.NDArray[np.float32], rows: slice = slice(None)) -> npt.NDArray[np.float32]:
        """Resize cropped scores to the photo, bilinearly, the exact inverse of `apply`'s geometry.

        Args:
            content: Scores, float32, shape (N, *self.content), from `crop`.
            rows: Which rows of the photo are wanted, without a step; a part costs only its share of time and memory.

        Returns:
            Scores, float32, shape (N, rows, photo width).
        """
        height, width = self.photo
        first, last, _ = rows.indices(height)
        count = max(0, last - first)
        # Pixel centres: row y of the photo lies at (y + 0.5) * scale - 0.5 of the content.
        at = (np.arange(first, first + count) + 0.5) * (content.shape[1] / height) - 0.5
        at = at.clip(0, content.shape[1] - 1)
        above = at.astype(np.intp)
        below = np.minimum(above + 1, content.shape[1] - 1)
        weight = (at - above).astype(np.float32)[:, None]
        tall = content[:, above]
        tall += (content[:, below] - tall) * weight
        if not count:
            return np.empty((len(content), 0, width), np.float32)
        # All channels as one picture: along its columns nothing changes.
        wide = cv2.resize(tall.reshape(-1, content.shape[2]), (width, len(content) * count))
        return np.asarray(wide, np.float32).reshape(len(content), count, width)

    def _inner(self) -> tuple[slice, slice]:
        (top, left), (height, width) = self.offset, self.content
        return slice(top, top + height), slice(left, left + width)


def _read(path: Path) -> bytes:
    try:
        if not path.is_dir():
            return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: no file name can hold a null character
        reason = error.strerror if isinstance(error, OSError) else None
        raise PhotoError(f"{path.name} cannot be read: {reason or error}.") from error
    raise PhotoError(f"{path} is a folder, not a photo.")


def _from_bytes(data: bytes) -> Photo:
    if not data:
        raise PhotoError("The file is empty.")
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"hev", b"mif", b"msf"):
            raise PhotoError("HEIC photos cannot be opened here. Save it as JPEG and try again.") from error
        raise PhotoError(f"This is not a photo that can be opened. Use {_KINDS}.") from error
    with image:
        return _from_image(image)


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise PhotoError("The photo has no pixels.")
    if width * height > MAX_PIXELS:
        raise _too_large()


def _too_large() -> PhotoError:
    return PhotoError(f"The photo is too large: more than {MAX_PIXELS // 1_000_000} megapixels. Make it smaller first.")


def _from_image(image: Image.Image) -> Photo:
    _check_size(*image.size)
    image.load()
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_array(_scaled(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
    elif image.mode not in ("RGB", "L", "CMYK"):
        image = image.convert("RGB")
    image = _in_srgb(image)
    if image.mode == "RGBA":
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))  # a copy: asarray would be read-only


def _upright(image: Image.Image) -> Image.Image:
    # Not ImageOps.exif_transpose: it writes the EXIF anew and so fails on odd entries that do not concern the turn.
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # broken EXIF is common and no reason to refuse the pixels
        return image
    return image if turn is None else image.transpose(turn)


def _in_srgb(image: Image.Image) -> Image.Image:
    """Convert from the embedded colour profile (phones write Display P3); RGBA stays RGBA, the rest becomes RGB."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            image.mode,
            "RGBA" if image.mode == "RGBA" else "RGB",
        ).apply(image)
    except Exception:  # broken or foreign profiles are common and no reason to refuse the pixels
        return image


def _scaled(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Bring deep grey values to what `_from_array` reads: 16-bit whole numbers or floats in [0, 1]."""
    if values.dtype.kind == "u":
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
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # TIFF hands over big-endian values
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
    array = array.astype(np.uint8, copy=False)
    if array.shape[2] == 4:
        return _from_image(Image.fromarray(np.ascontiguousarray(array)))
    return array.copy() if array.shape[2] == 3 else np.repeat(array, 3, axis=2)  # always a writable copy
