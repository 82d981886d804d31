"""Read a photo from any file into an upright RGB array."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from hierseg.errors import UserError

Photo = npt.NDArray[np.uint8]

MAX_PIXELS = 64_000_000  # of the largest photo that is opened; phones usually take at most 50 million
MAX_SIDE = 65_535  # most pixels along one side: the limit of JPEG and GIF
MAX_BYTES = 200_000_000  # largest file
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")  # Pillow opens MPO as JPEG, not by its name
_KINDS = "JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP or TIFF"
# Brands of HEVC files, from ISO/IEC 23008-12 and Apple. "mif1" may also be AVIF, which Pillow tries first.
_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
# Some decoders hold several copies of a photo; these limits keep the copies within 700 MB.
_FEWER_PIXELS = {"WEBP": 30_000_000, "AVIF": 30_000_000, "HEIF": 50_000_000, "TIFF": 50_000_000}
_FEWER_IN_JPEG = 50_000_000  # in a progressive or CMYK JPEG, as libjpeg keeps its coefficients
_SCANNED = 2_500_000_000  # most pixels times scans in a progressive JPEG: about three seconds of work
_SMALL_PROFILE = 4096  # bytes of a colour profile whose transform is kept
_READINGS = 8  # how many times a decoder may read the whole file
_READS_OPENING = 20_000  # reads until a decoder knows the size; a camera's photo takes a few hundred
_READS_LOADING = 1_000_000  # reads after that; a PNG of `MAX_BYTES` takes a tenth of them
_JOINED = (b"Exif\0\0", b"iCCP")  # Pillow copies the EXIF anew for each part of it, and unpacks every profile
_PARTS = 100  # most of these parts; a few hundred kilobytes of EXIF take several
_STRIP = 1_000_000  # pixels converted at once


class PhotoError(UserError):
    """A photo cannot be used. The message is a plain sentence for the person who sent it."""


def open_photo(source: str | Path | bytes | Image.Image | npt.NDArray[Any]) -> Photo:
    """Open a photo as upright RGB.

    The format is read from the file's content, not from its name. The EXIF orientation is applied (for HEIC, the
    container's), an embedded colour profile is converted to sRGB, transparent pixels are blended with white, the first
    frame of an animation is used, and CMYK, grey, palette, 16-bit and floating-point images become 8-bit RGB.

    Args:
        source: A path, the bytes of a file, a PIL image (its current frame is read; it is not changed), or an array
            (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) of bool, uint8, uint16 or floats in [0, 1].

    Returns:
        RGB, uint8, shape (H, W, 3).

    Raises:
        PhotoError: The source is not a photo, or is damaged, empty or too large.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    if not isinstance(source, Image.Image | bytes):
        source = read_file(Path(source))
    try:
        return _from_image(source) if isinstance(source, Image.Image) else _from_bytes(source)
    except PhotoError:
        raise
    except _TooMuchReading as error:
        raise _too_laborious() from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError) as error:
        raise _too_large(MAX_PIXELS) from error
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged data
        raise PhotoError("The photo is damaged or incomplete. Save it again and retry.") from error


def is_animated(data: bytes) -> bool:
    """Tell whether a file is an animation; `open_photo` reads only its first frame."""
    try:
        with open_frugally(data, _formats(data), reads=_READS_OPENING) as image:
            # A phone's JPEG may also hold previews or a depth map; that is not an animation.
            return image.format != "MPO" and getattr(image, "is_animated", False)
    except Exception:  # open_photo reports a file that does not open
        return False


def read_file(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        PhotoError: The file cannot be read, or is larger than `MAX_BYTES`.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except IsADirectoryError as error:
        raise PhotoError(f"{path.name} is a folder, not a photo.") from error
    except OSError as error:
        raise PhotoError(f"{path.name} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # a null character
        raise PhotoError(f"{path.name} cannot be read: no file can have this name.") from error
    if len(data) > MAX_BYTES:
        raise PhotoError(f"{path.name} is too large: more than {MAX_BYTES // 1_000_000} MB. Make it smaller first.")
    return data


class _TooMuchReading(OSError):
    """A decoder reads more than an ordinary file needs."""


class FrugalReader(io.BytesIO):
    """A file's bytes as a stream that limits how much, and how often, a decoder reads.

    Without limits, a small file could make Pillow copy the same megabytes a thousand times, or walk through millions of
    empty entries. Reads are counted, not seconds, so that every machine refuses the same files.

    Attributes:
        reads: Number of reads left.
    """

    def __init__(self, data: bytes, reads: int = _READS_OPENING) -> None:
        """Start at the first byte."""
        super().__init__(data)
        self.reads = reads
        self._left = _READINGS * len(data) + 65_536

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as from any stream.

        Raises:
            OSError: A limit is exceeded.
        """
        data = super().read(size)
        self._left -= len(data)
        self.reads -= 1
        if self._left < 0 or self.reads < 0:
            raise _TooMuchReading
        return data


def open_frugally(data: bytes, formats: tuple[str, ...], reads: int = _READS_LOADING) -> Image.Image:
    """Open an image through a `FrugalReader`, without reading its pixels yet.

    Args:
        data: The bytes of a file.
        formats: Formats that it may have, by Pillow's names.
        reads: Number of reads allowed once it is open.

    Returns:
        The image; the caller closes it.

    Raises:
        OSError: The file has none of these formats, or a decoder reads too much.
    """
    if any(data.count(part) > _PARTS for part in _JOINED):
        raise _TooMuchReading
    reader = FrugalReader(data)
    image = Image.open(reader, formats=formats)
    reader.reads = reads
    return image


class _TagTable(TiffImagePlugin.ImageFileDirectory_v2):
    """Pillow's table of TIFF and EXIF tags, read through a `FrugalReader`.

    Pillow copies the bytes that each entry points to, and thousands of entries may point to the same bytes. It reads
    EXIF from a separate stream, for some formats while it opens the file, so this is the only place to limit it.
    """

    def load(self, fp: IO[bytes]) -> None:
        if type(fp) is io.BytesIO:
            position, fp = fp.tell(), FrugalReader(fp.getvalue())
            fp.seek(position)
        super().load(fp)


TiffImagePlugin.ImageFileDirectory_v2 = _TagTable  # type: ignore[misc]


def _from_bytes(data: bytes) -> Photo:
    if not data:
        raise PhotoError("The file is empty.")
    try:
        if data[:2] in (b"P1", b"P2", b"P3"):  # text PPM: Pillow reads it slowly, no camera writes it
            raise UnidentifiedImageError
        image = open_frugally(data, _formats(data))
    except UnidentifiedImageError as error:
        if _is_heif(data):
            raise PhotoError("This HEIC photo cannot be opened. Save it as JPEG and try again.") from error
        raise PhotoError(f"This is not a photo that can be opened. Use {_KINDS}.") from error
    with image:
        # Each scan of a progressive JPEG, however short, visits every pixel.
        if image.info.get("progressive") and data.count(b"\xff\xda") * image.width * image.height > _SCANNED:
            raise _too_laborious()
        if isinstance(image, TiffImagePlugin.TiffImageFile):  # libtiff decodes whole tiles, however small the photo
            width, height = (
                image.tag_v2.get(tag, 1) for tag in (TiffImagePlugin.TILEWIDTH, TiffImagePlugin.TILELENGTH)
            )
            _check_size(width, height, _FEWER_PIXELS["TIFF"])
        return _from_image(image)


def _is_heif(data: bytes) -> bool:
    return data[4:8] == b"ftyp" and data[8:12] in _HEIF_BRANDS


def _formats(data: bytes) -> tuple[str, ...]:
    """Return the formats that a file may have, by Pillow's names."""
    return (*_FORMATS, _heif()) if _is_heif(data) else _FORMATS


@functools.cache
def _heif() -> str:
    """Register the HEIC decoder with Pillow, and return its format name."""
    from pi_heif import options
    from pi_heif.as_plugin import HeifImageFile

    class HeifPhoto(HeifImageFile):  # type: ignore[misc]  # pi_heif comes without types
        """Only the main picture of a file: with several, pi_heif keeps the decoded file in memory."""

        n_frames = 1

    options.DECODE_THREADS = 1  # each thread takes its own memory
    Image.register_open("HIERSEG-HEIF", HeifPhoto)  # leaves the name "HEIF" to other packages
    return "HIERSEG-HEIF"


def _check_size(width: int, height: int, most: int) -> None:
    if width < 1 or height < 1:
        raise PhotoError("The photo has no pixels.")
    if width * height > most:
        raise _too_large(most)
    if max(width, height) > MAX_SIDE:
        raise PhotoError(f"The photo is too large: more than {MAX_SIDE:,} pixels along a side. Make it smaller first.")


def _too_large(most: int) -> PhotoError:
    return PhotoError(f"The photo is too large: more than {most // 1_000_000} megapixels. Make it smaller first.")


def _too_laborious() -> PhotoError:
    return PhotoError("The photo would take too long to open. Save it as JPEG and try again.")


def _from_image(image: Image.Image) -> Photo:
    costly = image.mode == "CMYK" or image.info.get("progressive")
    most = _FEWER_IN_JPEG if costly else _FEWER_PIXELS.get(image.format or "", MAX_PIXELS)
    _check_size(*image.size, min(most, MAX_PIXELS))
    image.load()
    _check_size(*image.size, MAX_PIXELS)  # HEIC may decode to a size other than its header's
    turn = exif_turn(image)
    upright = np.empty((*(image.size if turn > 4 else image.size[::-1]), 3), np.uint8)
    stored = as_stored(upright, turn)
    # Strip by strip: a copy of the whole photo in another mode could take more memory than everything else.
    top = 0
    for strip in _in_rgb(image):
        stored[top : top + len(strip)] = strip
        top += len(strip)
    return upright


def as_stored(upright: npt.NDArray[np.uint8], turn: int) -> npt.NDArray[np.uint8]:
    """View an upright picture (H, W, ...) as a file with the EXIF orientation `turn`, 1 to 8, stores it."""
    stored = upright.swapaxes(0, 1) if turn > 4 else upright  # 5 to 8 swap rows and columns
    return stored[:: -1 if turn in (3, 4, 6, 7) else 1, :: -1 if turn in (2, 3, 7, 8) else 1]


def exif_turn(image: Image.Image) -> int:
    """Return the EXIF orientation of an image, 1 to 8; 1 if it has none."""
    # Not ImageOps.exif_transpose: it rewrites the EXIF, and so fails on odd entries unrelated to orientation.
    try:
        turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken EXIF is common and no reason to refuse the pixels
        return 1
    return turn if turn in range(1, 9) else 1


def strips(image: Image.Image) -> Iterator[Image.Image]:
    """Yield an image as strips of at most `_STRIP` pixels or one row, from top to bottom."""
    rows = max(1, _STRIP // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _in_rgb(image: Image.Image) -> Iterator[Photo]:
    """Convert an image strip by strip."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        white = _white(image)
        for strip in strips(image):
            yield _from_array(_scaled(np.asarray(strip), white))
        return
    mode = "RGBA" if image.has_transparency_data else image.mode if image.mode in ("L", "CMYK") else "RGB"
    profile = image.info.get("icc_profile")
    in_srgb = None
    if isinstance(profile, bytes):
        in_srgb = (_kept_to_srgb if len(profile) < _SMALL_PROFILE else _to_srgb)(profile, mode)
    for strip in strips(image):
        strip = strip.convert(mode)
        if in_srgb is not None:
            strip = in_srgb.apply(strip)
        if mode == "RGBA":
            strip = Image.alpha_composite(Image.new("RGBA", strip.size, (255, 255, 255, 255)), strip)
        yield np.asarray(strip.convert("RGB"))


def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """Return the transform from an embedded profile (phones write Display P3) to sRGB, or None.

    It turns RGBA into RGBA and other modes into RGB.
    """
    # "mpet" marks a chain of any number of steps: a few kilobytes can take minutes to apply, and no camera writes it.
    if b"mpet" in profile:
        return None
    try:
        return ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(io.BytesIO(profile)),
            ImageCms.createProfile("sRGB"),
            mode,
            "RGBA" if mode == "RGBA" else "RGB",
        )
    except Exception:  # broken or foreign profiles are common and no reason to refuse the pixels
        return None


# The frames of a live camera all have one profile, and its transform takes longer to make than to use.
_kept_to_srgb = functools.lru_cache(maxsize=4)(_to_srgb)


def _white(image: Image.Image) -> float:
    """Return the value of white in a deep grey image: no file states it, so take the next usual full scale."""
    if image.mode.startswith("I;16"):
        return 65535.0
    top = max(float(np.max(_finite(np.asarray(strip)), initial=0.0)) for strip in strips(image))
    return next((scale for scale in (1.0, 255.0, 65535.0) if top <= scale), top)


def _finite(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _scaled(values: npt.NDArray[Any], white: float) -> npt.NDArray[Any]:
    """Bring deep grey values to what `_from_array` reads: 16-bit whole numbers or floats in [0, 1]."""
    return values if values.dtype.kind == "u" else np.clip(_finite(values) / white, 0.0, 1.0)


def _from_array(array: npt.NDArray[Any]) -> Photo:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise PhotoError(f"An array must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), not {array.shape}.")
    _check_size(array.shape[1], array.shape[0], MAX_PIXELS)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)  # TIFF may hold big-endian values
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
