"""What happens to a photo before the network sees it: reading, letterbox and zoom windows."""

from hierseg.photo.letterbox import STRIDE, Letterbox
from hierseg.photo.reading import (
    MAX_BYTES,
    MAX_PIXELS,
    MAX_SIDE,
    Photo,
    PhotoError,
    is_animated,
    open_frugally,
    open_photo,
    read_file,
)

__all__ = [
    "MAX_BYTES",
    "MAX_PIXELS",
    "MAX_SIDE",
    "STRIDE",
    "Letterbox",
    "Photo",
    "PhotoError",
    "is_animated",
    "open_frugally",
    "open_photo",
    "read_file",
]
