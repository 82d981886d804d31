"""Any upload becomes a clean upright RGB array or a plain refusal, and the letterbox is undone exactly."""

from __future__ import annotations

import io
import itertools
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.nn import functional

from hierseg.photo import MAX_PIXELS, STRIDE, Letterbox, Photo, PhotoError, is_animated, open_photo
from hierseg.photo import reading as image_module
from tests.heic import QUADRANTS, heic
from tests.hostile import _exif
from tests.rounding import EPSILON

Array = npt.NDArray[Any]

RED, GREEN, BLUE, GREY = (200, 40, 30), (40, 170, 60), (30, 60, 190), (128, 128, 128)
WHITE = (255, 255, 255)


def quadrants(height: int = 32, width: int = 48) -> Photo:
    """Four colours, so that no turn looks like another; the edges lie on JPEG's blocks."""
    picture = np.empty((height, width, 3), dtype=np.uint8)
    picture[: height // 2, : width // 2] = RED
    picture[: height // 2, width // 2 :] = GREEN
    picture[height // 2 :, : width // 2] = BLUE
    picture[height // 2 :, width // 2 :] = GREY
    return picture


def noise(height: int, width: int, *channels: int, dtype: type[np.generic] = np.uint8) -> Array:
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(7).integers(0, top, (height, width, *channels), dtype=dtype)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def assert_clean(photo: Photo, height: int, width: int) -> None:
    assert photo.dtype == np.uint8
    assert photo.shape == (height, width, 3)
    assert photo.flags.c_contiguous
    assert photo.flags.writeable


def assert_close(photo: Photo, expected: Array, tolerance: int = 0) -> None:
    assert_clean(photo, *expected.shape[:2])
    assert np.abs(photo.astype(int) - expected.astype(int)).max() <= tolerance


def assert_plain(message: str) -> None:
    """A sentence for a person: nothing that only a programmer could read."""
    assert message[-1] == "."
    assert message[0].isupper() or message.split()[0].strip(".").islower()
    for word in ("Error", "Exception", "Traceback", "Errno", "object at", "0x", "None", "PIL", "_io", "\n"):
        assert word not in message


# Upright ------------------------------------------------------------------------------------------------------------

# How a camera stores a picture, from the EXIF standard: on which side of the picture row 0 and column 0 lie.
STORED: dict[int, Callable[[Photo], Photo]] = {
    1: lambda seen: seen,  # top, left
    2: lambda seen: seen[:, ::-1],  # top, right
    3: lambda seen: seen[::-1, ::-1],  # bottom, right
    4: lambda seen: seen[::-1],  # bottom, left
    5: lambda seen: seen.swapaxes(0, 1),  # left, top
    6: lambda seen: seen[:, ::-1].swapaxes(0, 1),  # right, top
    7: lambda seen: seen[::-1, ::-1].swapaxes(0, 1),  # right, bottom
    8: lambda seen: seen[::-1].swapaxes(0, 1),  # left, bottom
}
CARRIERS: dict[str, tuple[dict[str, Any], int]] = {
    "JPEG": ({"quality": 100, "subsampling": 0}, 2),
    "PNG": ({}, 0),
    "WEBP": ({"lossless": True}, 0),
    "TIFF": ({}, 0),
    "AVIF": ({"quality": 100, "subsampling": "4:4:4"}, 2),
}


def orientation_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", CARRIERS)
def test_every_exif_orientation_gives_the_upright_picture(kind: str, orientation: int) -> None:
    options, tolerance = CARRIERS[kind]
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](quadrants())))
    data = encode(stored, kind, exif=orientation_exif(orientation), **options)
    assert_close(open_photo(data), quadrants(), tolerance)
    with Image.open(io.BytesIO(data)) as image:
        assert_close(open_photo(image), quadrants(), tolerance)


@pytest.mark.parametrize("orientation", STORED)
def test_a_deep_grey_png_is_turned_too(orientation: int) -> None:
    grey = quadrants()[:, :, 0]
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](grey)).astype(np.uint16) * 257)
    photo = open_photo(encode(stored, "PNG", exif=orientation_exif(orientation)))
    assert_close(photo, np.repeat(grey[:, :, None], 3, axis=2))


def test_an_odd_exif_entry_does_not_leave_the_photo_lying_on_its_side() -> None:
    # A resolution stored as text: Pillow's own exif_transpose fails on it after reading the orientation.
    entries = struct.pack("<HHII", 0x0112, 3, 1, 6) + struct.pack("<HHI4s", 0x011A, 2, 3, b"72\0\0")
    exif = b"Exif\0\0" + struct.pack("<2sHIH", b"II", 42, 8, 2) + entries + struct.pack("<I", 0)
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](quadrants())))
    data = encode(stored, "JPEG", exif=exif, quality=100, subsampling=0)
    assert_close(open_photo(data), quadrants(), 2)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of broken EXIF, rightly
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0II*\0", b"nonsense", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40]
)
def test_broken_exif_does_not_cost_the_pixels(exif: bytes) -> None:
    data = encode(Image.fromarray(quadrants()), "JPEG", exif=exif, quality=100, subsampling=0)
    assert_close(open_photo(data), quadrants(), 2)


# Transparency -------------------------------------------------------------------------------------------------------


def on_white(color: Array, alpha: Array) -> Array:
    share = alpha.astype(float)[..., None] / 255
    return np.rint(color * share + 255 * (1 - share))


def test_alpha_is_laid_on_white() -> None:
    rgba = noise(16, 24, 4)
    expected = on_white(rgba[:, :, :3], rgba[:, :, 3])
    image = Image.fromarray(rgba)
    for source in (
        image,
        rgba,
        encode(image, "PNG"),
        encode(image, "TIFF"),
        encode(image, "WEBP", lossless=True, exact=True),
    ):
        assert_close(open_photo(source), expected, 1)


def test_grey_alpha_is_laid_on_white() -> None:
    values = noise(16, 24, 2)
    image = Image.merge("LA", [Image.fromarray(values[:, :, 0]), Image.fromarray(values[:, :, 1])])
    expected = on_white(np.repeat(values[:, :, :1], 3, axis=2), values[:, :, 1])
    for source in (image, encode(image, "PNG"), encode(image, "TIFF")):
        assert_close(open_photo(source), expected, 1)


def test_premultiplied_alpha_is_laid_on_white() -> None:
    image = Image.new("RGBA", (4, 3), (*RED, 128)).convert("RGBa")
    assert_close(open_photo(image), on_white(np.full((3, 4, 3), RED), np.full((3, 4), 128)), 2)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0]), bytes([255, 128])], ids=["one", "table", "half"])
def test_a_transparent_palette_colour_is_laid_on_white(transparency: int | bytes) -> None:
    image = Image.new("P", (6, 4), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (3, 0, 6, 4))
    alpha = 0 if transparency == 1 else transparency[1]
    expected = np.full((4, 6, 3), RED)
    expected[:, 3:] = on_white(np.array(BLUE), np.array(alpha))
    assert_close(open_photo(encode(image, "PNG", transparency=transparency)), expected, 1)


def test_a_palette_that_holds_alpha_itself_is_laid_on_white() -> None:
    image = Image.new("P", (4, 4), 1)
    image.putpalette([*RED, 255, *BLUE, 0], "RGBA")
    assert_close(open_photo(image), np.full((4, 4, 3), WHITE))


@pytest.mark.parametrize(
    ("mode", "transparent", "kept"), [("RGB", BLUE, RED), ("L", 90, 200), ("1", 0, 255)], ids=["rgb", "grey", "one-bit"]
)
def test_the_transparent_colour_of_a_png_is_laid_on_white(mode: str, transparent: Any, kept: Any) -> None:
    image = Image.new(mode, (6, 4), kept)
    image.paste(transparent, (3, 0, 6, 4))
    expected = np.full((4, 6, 3), kept)
    expected[:, 3:] = WHITE
    assert_close(open_photo(encode(image, "PNG", transparency=transparent)), expected)


def test_a_transparent_gif_is_laid_on_white() -> None:
    image = Image.new("P", (6, 4), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (3, 0, 6, 4))
    expected = np.full((4, 6, 3), RED)
    expected[:, 3:] = WHITE
    assert_close(open_photo(encode(image, "GIF", transparency=1)), expected)


# Colours and depths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBX", "YCbCr", "CMYK", "HSV", "LAB"])
def test_every_colour_space_becomes_rgb(mode: str) -> None:
    source = Image.new("RGB", (5, 4), (60, 90, 160))
    # Pillow does not convert to LAB; this is that colour by the standard's formula, a and b counted from 128.
    image = Image.new("LAB", (5, 4), (98, 128 + 8, 128 - 40)) if mode == "LAB" else source.convert(mode)
    assert_close(open_photo(image), np.full((4, 5, 3), (60, 90, 160)), 8 if mode == "LAB" else 2)


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_files_become_rgb(kind: str) -> None:
    # Photoshop stores CMYK JPEGs inverted, and so does Pillow; the decoder must undo it.
    image = Image.fromarray(quadrants()).convert("CMYK")
    assert image.mode == "CMYK"
    data = encode(image, kind, **({"quality": 100} if kind == "JPEG" else {}))
    assert_close(open_photo(data), quadrants(), 3)


def test_subsampled_jpegs_keep_their_colours() -> None:
    flat = np.full((32, 32, 3), RED, dtype=np.uint8)
    assert_close(open_photo(encode(Image.fromarray(flat), "JPEG", quality=95, subsampling=2)), flat, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_images_become_black_and_white(kind: str) -> None:
    bits = noise(9, 13) > 127
    expected = np.where(bits[:, :, None], 255, 0).repeat(3, axis=2)
    assert_close(open_photo(encode(Image.fromarray(bits), kind)), expected)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "PPM"])
def test_grey_images_become_grey_rgb(kind: str) -> None:
    grey = noise(9, 13)
    assert_close(open_photo(encode(Image.fromarray(grey), kind)), np.repeat(grey[:, :, None], 3, axis=2))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_palette_images_show_colours_not_indices(kind: str) -> None:
    image = Image.fromarray(quadrants()).quantize(4)
    assert_close(open_photo(encode(image, kind)), quadrants())


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    deep = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    expected = np.rint(deep / 257).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    assert_close(open_photo(encode(Image.fromarray(deep), kind)), expected)


def test_big_endian_sixteen_bit_is_read_like_little_endian() -> None:
    deep = np.linspace(0, 200, 600).astype(np.uint16).reshape(20, 30)  # all dark, so that no guess at the scale helps
    little, big = (
        Image.frombytes("I;16", (30, 20), deep.tobytes()),
        Image.frombytes("I;16B", (30, 20), deep.astype(">u2").tobytes()),
    )
    expected = open_photo(deep)
    assert expected.max() == 1
    assert np.array_equal(open_photo(little), expected)
    assert np.array_equal(open_photo(big), expected)
    assert np.array_equal(open_photo(encode(big, "TIFF")), expected)
    assert np.array_equal(open_photo(deep.astype(">u2")), expected)


def test_sixteen_bit_colour_png_is_scaled() -> None:
    deep = noise(6, 7, 3, dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    data = png(struct.pack(">IIBBBBB", 7, 6, 16, 2, 0, 0, 0), rows)
    assert_close(open_photo(data), np.rint(deep / 257), 1)


@pytest.mark.parametrize(
    ("dtype", "white"), [(np.int32, 255), (np.int32, 65535), (np.float32, 1.0), (np.float32, 255.0)]
)
def test_thirty_two_bit_tiffs_are_scaled_by_the_next_usual_white(dtype: type[np.generic], white: float) -> None:
    shares = np.linspace(0, 1, 600).reshape(20, 30)
    values = (shares * white).astype(dtype)
    expected = np.rint(values / white * 255).astype(np.uint8)[:, :, None].repeat(3, axis=2)
    data = encode(Image.fromarray(values), "TIFF")
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode in ("I", "F")
    assert_close(open_photo(data), expected)


def test_floating_point_tiffs_may_hold_anything() -> None:
    values = np.array([[np.nan, np.inf, -np.inf, -5.0, 0.5, 1.0]], dtype=np.float32)
    photo = open_photo(encode(Image.fromarray(values), "TIFF"))
    assert photo[0, :, 0].tolist() == [0, 0, 0, 0, 128, 255]


# Animations ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options"),
    [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {}), ("TIFF", {}), ("MPO", {"quality": 100, "subsampling": 0})],
)
def test_the_first_frame_of_an_animation_is_taken_with_its_colours(kind: str, options: dict[str, Any]) -> None:
    frames = [Image.fromarray(quadrants()), Image.new("RGB", (48, 32), BLUE), Image.new("RGB", (48, 32), GREEN)]
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 3
    assert_close(open_photo(data), quadrants(), 2)


def test_damage_behind_the_first_frame_does_not_matter() -> None:
    frames = [Image.fromarray(quadrants()).quantize(4), Image.fromarray(noise(32, 48, 3)).quantize(256)]
    data = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert_close(open_photo(data[: len(data) * 2 // 3]), quadrants())


def test_an_animation_handed_over_as_an_image_gives_the_frame_it_stands_at() -> None:
    data = encode(Image.new("RGB", (8, 8), RED), "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8), BLUE)])
    with Image.open(io.BytesIO(data)) as image:
        image.seek(1)
        assert_close(open_photo(image), np.full((8, 8, 3), BLUE))
        assert image.tell() == 1


# Colour profiles ----------------------------------------------------------------------------------------------------

# Linear RGB to XYZ under D50, from the profiles' published primaries.
SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
P3 = np.array(
    [[0.5151187, 0.2919778, 0.1571035], [0.2411892, 0.6922441, 0.0665741], [-0.0010505, 0.0418791, 0.7840713]]
)
ADOBE = np.array(
    [[0.6097559, 0.2052401, 0.1492240], [0.3111242, 0.6256560, 0.0632197], [0.0194811, 0.0608902, 0.7448387]]
)
ADOBE_GAMMA = 563 / 256


def srgb_to_linear(values: Array) -> Array:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: Array) -> Array:
    values = np.clip(values, 0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def adobe_to_linear(values: Array) -> Array:
    return values**ADOBE_GAMMA


def icc_profile(space: bytes, connection: bytes, kind: bytes, tags: dict[bytes, bytes]) -> bytes:
    """Lay out an ICC version 2 profile."""
    tags = {b"desc": b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78), **tags}
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    header = struct.pack(">I4sI4s4s4s12s4s", start + len(body), b"", 0x02100000, kind, space, connection, b"", b"acsp")
    header = header.ljust(68, b"\0") + xyz(0.9642, 1.0, 0.8249)[8:]
    return header.ljust(128, b"\0") + struct.pack(">I", len(tags)) + table + body


def xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def curve(to_linear: Callable[[Array], Array]) -> bytes:
    table = np.rint(to_linear(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    return b"curv" + bytes(4) + struct.pack(">I", len(table)) + table.tobytes()


def rgb_profile(primaries: Array, to_linear: Callable[[Array], Array]) -> bytes:
    columns = {name: xyz(*primaries[:, at]) for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(to_linear))
    return icc_profile(b"RGB ", b"XYZ ", b"mntr", {b"wtpt": xyz(0.9642, 1.0, 0.8249), **columns, **curves})


def as_seen(photo: Photo, primaries: Array, to_linear: Callable[[Array], Array]) -> Array:
    """The same colours in sRGB, by the textbook."""
    linear = to_linear(photo / 255) @ (np.linalg.inv(SRGB) @ primaries).T
    return np.rint(linear_to_srgb(linear) * 255)


WIDE = [("Display P3", P3, srgb_to_linear), ("Adobe RGB", ADOBE, adobe_to_linear)]


@pytest.mark.parametrize(("primaries", "to_linear"), [w[1:] for w in WIDE], ids=[w[0] for w in WIDE])
@pytest.mark.parametrize("kind", CARRIERS)
def test_an_embedded_profile_is_converted_to_srgb(
    kind: str, primaries: Array, to_linear: Callable[[Array], Array]
) -> None:
    options, tolerance = CARRIERS[kind]
    expected = as_seen(quadrants(), primaries, to_linear)
    assert np.abs(expected - quadrants()).max() > 15  # or the test could not tell
    data = encode(Image.fromarray(quadrants()), kind, icc_profile=rgb_profile(primaries, to_linear), **options)
    assert_close(open_photo(data), expected, 2 * tolerance + 2)


def test_an_srgb_profile_changes_nothing() -> None:
    photo = noise(32, 48, 3)
    data = encode(Image.fromarray(photo), "PNG", icc_profile=rgb_profile(SRGB, srgb_to_linear))
    assert_close(open_photo(data), photo, 1)


def test_profile_orientation_and_alpha_work_together() -> None:
    rgba = np.dstack([quadrants(), np.full((32, 48), 255, dtype=np.uint8)])
    rgba[:, 24:, 3] = 0
    expected = as_seen(quadrants(), P3, srgb_to_linear)
    expected[:, 24:] = WHITE
    stored = Image.fromarray(np.ascontiguousarray(STORED[8](rgba)))
    data = encode(stored, "PNG", exif=orientation_exif(8), icc_profile=rgb_profile(P3, srgb_to_linear))
    assert_close(open_photo(data), expected, 2)


def test_palette_colours_are_converted_too() -> None:
    data = encode(Image.fromarray(quadrants()).quantize(4), "PNG", icc_profile=rgb_profile(P3, srgb_to_linear))
    assert_close(open_photo(data), as_seen(quadrants(), P3, srgb_to_linear), 2)


def test_a_grey_profile_is_converted() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    profile = icc_profile(
        b"GRAY", b"XYZ ", b"mntr", {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"kTRC": curve(lambda v: v**1.6)}
    )
    expected = np.rint(linear_to_srgb((grey / 255) ** 1.6) * 255)[:, :, None].repeat(3, axis=2)
    assert_close(open_photo(encode(Image.fromarray(grey), "PNG", icc_profile=profile)), expected, 3)


def test_a_cmyk_profile_is_converted() -> None:
    # Paper is white and every ink prints black: nothing Pillow's own conversion would come to.
    identity = np.rint(np.linspace(0, 255, 256)).astype(np.uint8).tobytes()
    grid = b"".join(bytes([255 if not any(inks) else 0, 128, 128]) for inks in itertools.product((0, 1), repeat=4))
    matrix = struct.pack(">9i", *(65536 * (row == column) for row in range(3) for column in range(3)))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + matrix + identity * 4 + grid + identity * 3
    profile = icc_profile(b"CMYK", b"Lab ", b"prtr", {b"wtpt": xyz(0.9642, 1.0, 0.8249), b"A2B0": table})
    image = Image.new("CMYK", (16, 8), (0, 0, 0, 0))
    image.paste((255, 0, 0, 0), (8, 0, 16, 8))
    expected = np.full((8, 16, 3), WHITE)
    expected[:, 8:] = 0
    assert_close(open_photo(encode(image, "TIFF", icc_profile=profile)), expected, 3)


@pytest.mark.parametrize("mode", ["L", "CMYK", "LA"])
def test_a_profile_of_another_colour_space_is_left_out(mode: str) -> None:
    image = Image.fromarray(quadrants()).convert(mode)
    profile = rgb_profile(P3, srgb_to_linear) if mode != "LA" else b"not a profile"
    assert np.array_equal(open_photo(encode(image, "TIFF", icc_profile=profile)), open_photo(image))


@given(profile=st.binary(min_size=1, max_size=300))
def test_a_nonsense_profile_leaves_the_colours_as_they_are(profile: bytes) -> None:
    data = encode(Image.fromarray(quadrants()), "PNG", icc_profile=profile)
    assert_close(open_photo(data), quadrants())


@given(seed=st.integers(0, 2**32 - 1))
def test_a_damaged_profile_never_costs_the_photo(seed: int) -> None:
    profile = bytearray(rgb_profile(P3, adobe_to_linear))
    for _ in range(seed % 3 + 1):
        profile[random.Random(seed).randrange(260)] ^= 1 << seed % 8
    data = encode(Image.fromarray(quadrants()), "PNG", icc_profile=bytes(profile))
    assert_clean(open_photo(data), 32, 48)


# All doors lead to the same picture ---------------------------------------------------------------------------------


def test_path_bytes_image_and_array_agree(tmp_path: Path) -> None:
    picture = noise(11, 17, 3)
    file = tmp_path / "Photo of me.png"
    Image.fromarray(picture).save(file)
    with Image.open(file) as lazy:
        for source in (
            str(file),
            file,
            file.read_bytes(),
            Image.fromarray(picture),
            lazy,
            picture,
            picture.astype(np.uint16) * 257,
        ):
            assert_close(open_photo(source), picture)


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_arrays_of_every_shape_and_depth_agree(height: int, width: int, seed: int) -> None:
    random_values = np.random.default_rng(seed)
    grey = random_values.integers(0, 256, (height, width), dtype=np.uint8)
    expected = np.repeat(grey[:, :, None], 3, axis=2)
    opaque = np.dstack([expected, np.full((height, width), 255, np.uint8)])
    for shaped in (grey, grey[:, :, None], expected, opaque):
        for source in (shaped, shaped.astype(np.uint16) * 257, shaped / 255, (shaped / 255).astype(np.float32)):
            assert_close(open_photo(source), expected)
    assert_close(open_photo(grey > 127), np.where(expected > 127, 255, 0))


def test_float_and_sixteen_bit_arrays_are_rounded_to_the_nearest() -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(open_photo(deep)[:, :, 0], np.rint(deep / 65535 * 255))
    assert np.array_equal(open_photo(deep / 65535)[:, :, 0], np.rint(deep / 65535 * 255))


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[:, ::-1],
        lambda a: a[::2, ::3],
        lambda a: a.swapaxes(0, 1),
        np.asfortranarray,
        lambda a: a[:, :, ::-1],
    ],
    ids=["mirrored", "strided", "transposed", "fortran", "bgr"],
)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_views_of_arrays_are_read_right(view: Callable[[Array], Array], channels: int) -> None:
    array = view(noise(12, 18, channels))
    array_as_is = np.ascontiguousarray(array)
    assert_clean(open_photo(array), *array.shape[:2])
    assert np.array_equal(open_photo(array), open_photo(array_as_is))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, np.bool_])
@pytest.mark.parametrize("shape", [(1, 1), (5, 6), (5, 6, 1), (1, 1, 3), (5, 6, 3), (5, 6, 4)])
def test_the_result_never_aliases_an_array(dtype: type[np.generic], shape: tuple[int, ...]) -> None:
    source = np.ones(shape, dtype=dtype)
    source.flags.writeable = False
    photo = open_photo(source)
    assert_clean(photo, *shape[:2])
    assert not np.shares_memory(photo, source)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK", "1", "I;16", "F"])
def test_an_image_stays_as_it_was_and_open(mode: str) -> None:
    image = Image.new(mode, (7, 5))
    image.info["icc_profile"] = rgb_profile(P3, srgb_to_linear)
    image.getexif()[0x0112] = 6
    before = (image.mode, image.size, dict(image.info), dict(image.getexif()), image.tobytes())
    photo = open_photo(image)
    assert_clean(photo, 7, 5)
    photo[:] = 99
    assert (image.mode, image.size, dict(image.info), dict(image.getexif()), image.tobytes()) == before


def test_an_image_read_from_a_file_can_be_used_again(tmp_path: Path) -> None:
    file = tmp_path / "photo.png"
    Image.fromarray(quadrants()).save(file)
    with Image.open(file) as image:
        first, second = open_photo(image), open_photo(image)
        assert np.array_equal(first, second)
        assert image.getpixel((0, 0)) == RED


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (2, 3)])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_odd_sizes_open(kind: str, height: int, width: int) -> None:
    picture = noise(height, width, 3)
    assert_close(open_photo(encode(Image.fromarray(picture), kind)), picture)


def test_opening_leaves_the_warning_filters_alone_since_threads_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    opening = Image.open
    monkeypatch.setattr(
        Image, "open", lambda *args, **options: seen.append(list(warnings.filters)) or opening(*args, **options)
    )
    open_photo(encode(Image.fromarray(quadrants()), "PNG"))
    assert seen == [list(warnings.filters)]


# Refusals -----------------------------------------------------------------------------------------------------------


def png(header: bytes, pixels: bytes = b"") -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def png_claiming(width: int, height: int) -> bytes:
    return png(struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def zip_file() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("photo.jpg", encode(Image.fromarray(quadrants()), "JPEG"))
    return file.getvalue()


NOT_PHOTOS = {
    "text": b"Dear Sir or Madam,\nplease find enclosed my photo.\n",
    "html": b"<!DOCTYPE html><html><body><img src='photo.jpg'></body></html>",
    "pdf": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
    "zip": zip_file(),
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>',
    "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    "icon": encode(Image.new("RGB", (16, 16)), "ICO"),
    "one byte": b"\0",
}


@pytest.mark.parametrize("data", NOT_PHOTOS.values(), ids=NOT_PHOTOS)
def test_what_is_not_a_photo_is_refused_naming_what_works(data: bytes) -> None:
    with pytest.raises(PhotoError, match=r"not a photo that can be opened\. Use JPEG, PNG") as refusal:
        open_photo(data)
    assert_plain(str(refusal.value))


def test_an_empty_file_is_refused_as_empty(tmp_path: Path) -> None:
    file = tmp_path / "empty.jpg"
    file.touch()
    for source in (b"", file, str(file)):
        with pytest.raises(PhotoError, match=r"^The file is empty\.$"):
            open_photo(source)


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"hevc", b"mif1", b"msf1"])
def test_a_heic_that_cannot_be_opened_is_refused_by_its_name(brand: bytes) -> None:
    data = b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(64)
    with pytest.raises(PhotoError, match=r"^This HEIC photo .* Save it as JPEG") as refusal:
        open_photo(data)
    assert_plain(str(refusal.value))


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_is_a_photo_by_its_content_whatever_its_name(brand: bytes, tmp_path: Path) -> None:
    for name in ("IMG_0001.HEIC", "photo.jpg", "photo"):
        (tmp_path / name).write_bytes(heic(QUADRANTS, brand=brand))
        assert_close(open_photo(tmp_path / name), quadrants(), 2)
        assert not is_animated(tmp_path / name)


@pytest.mark.parametrize("turn", range(4))
@pytest.mark.parametrize("mirror", [None, 0, 1])
@pytest.mark.parametrize("tiles", [None, (2, 1)])
def test_heic_is_turned_once_though_its_exif_says_so_again(
    turn: int, mirror: int | None, tiles: tuple[int, int] | None
) -> None:
    exif = _exif(6).removeprefix(b"Exif\0\0")
    upright = np.rot90(np.tile(quadrants(), (1, 2 if tiles else 1, 1)), turn)
    if mirror is not None:
        upright = np.flip(upright, mirror)
    assert_close(open_photo(heic(QUADRANTS, tiles=tiles, turn=turn, mirror=mirror, exif=exif)), upright, 2)


def test_the_limit_of_heic_holds_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(image_module._FEWER_PIXELS, "HEIF", 48 * 32)
    open_photo(heic(QUADRANTS))
    monkeypatch.setitem(image_module._FEWER_PIXELS, "HEIF", 48 * 32 - 1)
    with pytest.raises(PhotoError, match="too large"):
        open_photo(heic(QUADRANTS))


def test_an_avif_of_the_general_brand_is_not_taken_for_heic() -> None:
    data = encode(Image.fromarray(quadrants()), "AVIF", quality=100, subsampling="4:4:4")
    assert data[4:12] == b"ftypavif"
    assert_close(open_photo(data[:8] + b"mif1" + data[12:]), quadrants(), 2)


def test_a_folder_is_refused_as_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"is a folder, not a photo\.$"):
        open_photo(tmp_path)


@pytest.mark.parametrize("name", ["missing.jpg", "nul\0character.jpg", "long" * 1000 + ".jpg", "no/such/folder.jpg"])
def test_a_path_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(PhotoError, match=r"cannot be read: .*\.$") as refusal:
        open_photo(tmp_path / name)
    assert str(refusal.value).startswith(Path(name).name)
    assert str(tmp_path) not in str(refusal.value)


@pytest.mark.parametrize(("width", "height"), [(20000, 20000), (60000, 60000), (8001, 8000), (2**31 - 1, 2**31 - 1)])
def test_a_file_claiming_to_be_huge_is_refused_before_it_is_decoded(width: int, height: int) -> None:
    with pytest.raises(PhotoError, match="too large: more than 64 megapixels") as refusal:
        open_photo(png_claiming(width, height))
    assert_plain(str(refusal.value))


def test_the_pixel_limit_holds_for_every_kind_of_source(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PIXELS >= 50_000_000  # a phone's largest photo
    monkeypatch.setattr(image_module, "MAX_PIXELS", 6 * 8)
    for height, width, fits in ((6, 8, True), (7, 7, False), (49, 1, False)):
        picture = noise(height, width, 3)
        for source in (picture, Image.fromarray(picture), encode(Image.fromarray(picture), "BMP")):
            if fits:
                assert_close(open_photo(source), picture)
            else:
                with pytest.raises(PhotoError, match="too large"):
                    open_photo(source)


def test_a_decoder_out_of_memory_is_told_as_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    data = encode(Image.fromarray(quadrants()), "PNG")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(PhotoError, match="too large"):
        open_photo(data)


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (0, 0), (0, 4, 4)])
def test_arrays_without_pixels_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(PhotoError, match=r"^The photo has no pixels\.$"):
        open_photo(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_images_without_pixels_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(PhotoError, match=r"^The photo has no pixels\.$"):
        open_photo(Image.new("RGB", size))
    with pytest.raises(PhotoError):
        open_photo(png_claiming(*size))


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32, np.complex64, np.dtype("U1"), np.dtype("O")])
def test_arrays_of_other_types_are_refused(dtype: Any) -> None:
    with pytest.raises(PhotoError, match="must be uint8, uint16 or float, not"):
        open_photo(np.zeros((4, 5, 3), dtype=dtype))


@pytest.mark.parametrize("shape", [(), (5,), (4, 5, 2), (4, 5, 5), (3, 4, 5), (2, 4, 5, 3)])
def test_arrays_of_other_shapes_are_refused_naming_their_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(PhotoError, match="not \\(" + ", ".join(map(str, shape))):
        open_photo(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -0.01, 1.01, 255.0])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_outside_zero_to_one_are_refused(dtype: type[np.generic], value: float) -> None:
    array = np.zeros((4, 5, 3), dtype=dtype)
    array[2, 3, 1] = value
    with pytest.raises(PhotoError, match=r"floats must lie in \[0, 1\]"):
        open_photo(array)


def test_a_closed_image_is_refused() -> None:
    image = Image.fromarray(quadrants())
    image.close()
    with pytest.raises(PhotoError):
        open_photo(image)


# Damage -------------------------------------------------------------------------------------------------------------


def damageable() -> dict[str, bytes]:
    picture = Image.fromarray(noise(24, 32, 3))
    return {
        "jpeg": encode(picture, "JPEG"),
        "jpeg with exif": encode(picture, "JPEG", exif=orientation_exif(6)),
        "progressive jpeg": encode(picture, "JPEG", progressive=True),
        "png": encode(picture, "PNG"),
        "palette png": encode(picture.quantize(16), "PNG", transparency=3),
        "deep png": encode(Image.fromarray(noise(24, 32, dtype=np.uint16)), "PNG"),
        "webp": encode(picture, "WEBP"),
        "lossless webp": encode(picture, "WEBP", lossless=True),
        "gif": encode(picture.quantize(256), "GIF"),
        "animated gif": encode(picture.quantize(16), "GIF", save_all=True, append_images=[picture.rotate(90)]),
        "bmp": encode(picture, "BMP"),
        "tiff": encode(picture, "TIFF"),
        "packed tiff": encode(picture, "TIFF", compression="tiff_deflate"),
        "ppm": encode(picture, "PPM"),
        "avif": encode(picture, "AVIF"),
    }


DAMAGEABLE = damageable()


@pytest.mark.filterwarnings("ignore")  # Pillow warns of broken metadata on its way
@pytest.mark.parametrize("data", DAMAGEABLE.values(), ids=DAMAGEABLE)
def test_a_truncated_file_is_refused_unless_all_pixels_were_there(data: bytes) -> None:
    whole = open_photo(data)
    refused = 0
    for length in [*range(1, len(data), max(1, len(data) // 60)), *range(len(data) - 12, len(data))]:
        try:
            assert np.array_equal(open_photo(data[:length]), whole)
        except PhotoError as refusal:
            assert_plain(str(refusal))
            refused += 1
    assert refused > 15
    with pytest.raises(PhotoError, match=r"damaged or incomplete|not a photo"):
        open_photo(data[: len(data) // 6])


def test_a_truncated_image_handed_over_as_an_image_is_refused() -> None:
    data = DAMAGEABLE["jpeg"]
    with (
        Image.open(io.BytesIO(data[:-30])) as image,
        pytest.raises(PhotoError, match="damaged or incomplete"),
    ):
        open_photo(image)


@pytest.mark.filterwarnings("ignore")
@given(kind=st.sampled_from(sorted(DAMAGEABLE)), seed=st.integers(0, 2**32 - 1))
def test_a_bit_flipped_file_gives_a_photo_or_a_plain_refusal(kind: str, seed: int) -> None:
    chance = random.Random(seed)
    data = bytearray(DAMAGEABLE[kind])
    for _ in range(chance.choice((1, 2, 8))):
        data[chance.randrange(min(len(data), chance.choice((40, 400, len(data)))))] ^= 1 << chance.randrange(8)
    assert_photo_or_plain_refusal(bytes(data))


@pytest.mark.filterwarnings("ignore")
@given(
    start=st.sampled_from([b"", *(data[:length] for data in DAMAGEABLE.values() for length in (4, 12, 30, 100))]),
    rest=st.binary(max_size=200),
)
def test_random_bytes_give_a_photo_or_a_plain_refusal(start: bytes, rest: bytes) -> None:
    assert_photo_or_plain_refusal(start + rest)


def assert_photo_or_plain_refusal(data: bytes) -> None:
    try:
        photo = open_photo(data)
    except PhotoError as refusal:
        assert_plain(str(refusal))
    else:
        assert_clean(photo, *photo.shape[:2])
        assert photo.size


# Letterbox ----------------------------------------------------------------------------------------------------------

sides = st.one_of(st.integers(1, 80), st.integers(1, 6000))


@given(sides, sides, st.integers(1, 1100))
def test_the_letterbox_holds_the_whole_photo_centred_on_the_smallest_canvas(height: int, width: int, size: int) -> None:
    box = Letterbox.fit(height, width, size)
    assert box.photo == (height, width)
    assert max(box.content) == size
    for photo_side, canvas, content, offset in zip(box.photo, box.canvas, box.content, box.offset, strict=True):
        assert canvas % STRIDE == 0
        assert content <= canvas < content + STRIDE
        before, after = offset, canvas - content - offset
        assert 0 <= after - before <= 1
        # Nearest pixel to the photo's own proportions, but never none.
        assert abs(content - max(1.0, photo_side * size / max(height, width))) <= 0.5 + 1e-9


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 100))
def test_apply_puts_the_photo_in_the_box_and_the_fill_around_it(height: int, width: int, size: int) -> None:
    box = Letterbox.fit(height, width, size)
    canvas = box.apply(np.full((height, width, 3), RED, dtype=np.uint8), BLUE)
    assert canvas.shape == (*box.canvas, 3)
    assert canvas.dtype == np.uint8
    inside = np.zeros(box.canvas, dtype=bool)
    inside[box.offset[0] : box.offset[0] + box.content[0], box.offset[1] : box.offset[1] + box.content[1]] = True
    assert (canvas[inside] == RED).all()
    assert (canvas[~inside] == BLUE).all()


@given(st.integers(1, 70), st.integers(1, 70))
def test_a_photo_of_the_right_size_goes_in_untouched_and_comes_out_untouched(height: int, width: int) -> None:
    photo = noise(height, width, 3)
    box = Letterbox.fit(height, width, max(height, width))
    canvas = box.apply(photo.copy(), GREY)
    content = box.crop(canvas.transpose(2, 0, 1))
    assert np.array_equal(content.transpose(1, 2, 0), photo)
    assert np.array_equal(box.restore(content.astype(np.float32)), content)


def test_apply_leaves_the_photo_alone() -> None:
    photo = noise(40, 30, 3)
    before = photo.copy()
    photo.flags.writeable = False
    Letterbox.fit(40, 30, 20).apply(photo, GREY)
    assert np.array_equal(photo, before)


@pytest.mark.parametrize("size", [64, 100, 224])
@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 333), (1000, 1500), (97, 61), (50, 40), (700, 70)])
def test_a_ramp_comes_back_where_it_was(height: int, width: int, size: int) -> None:
    down, right = np.mgrid[0:height, 0:width]
    ramp = np.dstack([down / height * 240, right / width * 240, np.full((height, width), 77)])
    box = Letterbox.fit(height, width, size)
    canvas = box.apply(np.rint(ramp).astype(np.uint8), (255, 0, 255)).transpose(2, 0, 1).astype(np.float32)
    restored = box.restore(box.crop(canvas)).transpose(1, 2, 0)
    assert restored.shape == ramp.shape
    # The outermost pixels of the input stand for their whole width: a ramp is flat there.
    rows, columns = (2 * -(-outer // inner) for outer, inner in zip(box.photo, box.content, strict=True))
    error = (restored - ramp)[rows:-rows, columns:-columns]
    assert np.abs(error).max() < 1.2  # each of the three roundings to bytes costs up to a half
    half_a_pixel_off = 120 / np.array(box.content)
    assert (np.abs(error[..., :2].mean((0, 1))) < 0.4 * half_a_pixel_off).all()
    assert np.abs(error[..., 2]).max() < 1e-4  # float32 of 77


photo_sides = st.integers(1, 90)


def content_of(box: Letterbox) -> npt.NDArray[np.float32]:
    return np.random.default_rng(box.photo).random((2, *box.content), np.float32)


@given(photo_sides, photo_sides, st.integers(1, 90))
def test_restore_is_bilinear_interpolation_by_pixel_centres(height: int, width: int, size: int) -> None:
    box = Letterbox.fit(height, width, size)
    content = content_of(box)
    exact = torch.from_numpy(content[None].astype(np.float64))
    twin = functional.interpolate(exact, size=(height, width), mode="bilinear", align_corners=False)[0]
    # A place between pixel centres has the precision of a float32 below 90, and the two beside it differ by up to 1.
    np.testing.assert_allclose(box.restore(content), twin, rtol=0, atol=90 * EPSILON)


@given(photo_sides, photo_sides, st.integers(1, 90), st.data())
def test_any_split_into_strips_gives_the_whole(height: int, width: int, size: int, data: st.DataObject) -> None:
    box = Letterbox.fit(height, width, size)
    content = content_of(box)
    cuts = [0, *sorted(data.draw(st.lists(st.integers(0, height), max_size=5))), height]
    strips = [box.restore(content, slice(top, bottom)) for top, bottom in itertools.pairwise(cuts)]
    # Sums of four numbers of at most 1, in another order for products of another shape.
    np.testing.assert_allclose(np.concatenate(strips, axis=1), box.restore(content), rtol=0, atol=4 * EPSILON)


@given(photo_sides, photo_sides, st.integers(1, 90))
def test_restored_scores_stay_within_those_of_the_network(height: int, width: int, size: int) -> None:
    box = Letterbox.fit(height, width, size)
    content = content_of(box)
    restored = box.restore(content)
    assert restored.shape == (2, height, width)
    assert restored.min() >= content.min() - 1e-6
    assert restored.max() <= content.max() + 1e-6


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 5000), (5000, 1), (3, 4000), (4000, 3)])
def test_extreme_proportions_go_through(height: int, width: int) -> None:
    box = Letterbox.fit(height, width, 320)
    canvas = box.apply(noise(height, width, 3), GREY)
    content = box.crop(canvas.transpose(2, 0, 1).astype(np.float32))
    assert min(content.shape[1:]) >= 1
    assert box.restore(content).shape == (3, height, width)


def test_crop_keeps_leading_dimensions() -> None:
    box = Letterbox.fit(30, 50, 64)
    scores = np.arange(2 * 3 * box.canvas[0] * box.canvas[1]).reshape(2, 3, *box.canvas)
    cropped = box.crop(scores)
    assert cropped.shape == (2, 3, *box.content)
    assert cropped[1, 2, 0, 0] == scores[1, 2, box.offset[0], box.offset[1]]
