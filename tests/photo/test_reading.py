"""Any upload becomes a clean upright RGB array or a plain refusal. Odd and hostile files are in `test_hostile`."""

from __future__ import annotations

import io
import itertools
import random
import re
import struct
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hierseg.photo import MAX_PIXELS, Photo, PhotoError, is_animated, open_photo
from hierseg.photo import reading as image_module
from tests import hostile
from tests.heic import QUADRANTS, heic
from tests.hostile import BLUE, IMAGE, PICTURE, RED, WHITE, complaint, encode, exif_of, idat, png, sound_files

Array = npt.NDArray[Any]


def noise(height: int, width: int, *channels: int, dtype: type[np.generic] = np.uint8) -> Array:
    top = np.iinfo(dtype).max + 1
    return np.random.default_rng(7).integers(0, top, (height, width, *channels), dtype=dtype)


def grey_rgb(grey: Array) -> Array:
    return np.repeat(grey[:, :, None], 3, axis=2)


def assert_clean(photo: Photo, height: int, width: int) -> None:
    assert photo.dtype == np.uint8
    assert photo.shape == (height, width, 3)
    assert photo.flags.c_contiguous
    assert photo.flags.writeable


def assert_close(photo: Photo, expected: Array, tolerance: int = 0) -> None:
    assert_clean(photo, *expected.shape[:2])
    assert np.abs(photo.astype(int) - expected.astype(int)).max() <= tolerance


def refusal_of(source: Any) -> str:
    """Return the message of a refusal."""
    with pytest.raises(PhotoError) as refusal:
        open_photo(source)
    assert complaint(str(refusal.value)) == ""
    return str(refusal.value)


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


@pytest.mark.parametrize("kind", CARRIERS)
def test_every_exif_orientation_gives_the_upright_picture(kind: str) -> None:
    options, tolerance = CARRIERS[kind]
    for orientation, as_stored in STORED.items():
        stored = Image.fromarray(np.ascontiguousarray(as_stored(PICTURE)))
        data = encode(stored, kind, exif=exif_of(orientation), **options)
        assert_close(open_photo(data), PICTURE, tolerance)
        with Image.open(io.BytesIO(data)) as image:
            assert_close(open_photo(image), PICTURE, tolerance)


def test_an_odd_exif_entry_does_not_leave_the_photo_lying_on_its_side() -> None:
    # A resolution stored as text: Pillow's own exif_transpose fails on it after reading the orientation.
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](PICTURE)))
    data = encode(stored, "JPEG", exif=exif_of(6, (0x011A, 2, 3, b"72\0")), quality=100, subsampling=0)
    assert_close(open_photo(data), PICTURE, 2)


# Transparency -------------------------------------------------------------------------------------------------------


def on_white(color: Array, alpha: Array) -> Array:
    share = alpha.astype(float)[..., None] / 255
    return np.rint(color * share + 255 * (1 - share))


def test_alpha_is_laid_on_white() -> None:
    rgba = noise(16, 24, 4)
    for image in (Image.fromarray(rgba), Image.fromarray(rgba).convert("LA")):
        expected = on_white(np.asarray(image.convert("RGB")), rgba[:, :, 3])
        for source in (image, encode(image, "PNG"), encode(image, "TIFF")):
            assert_close(open_photo(source), expected, 1)
    assert_close(open_photo(rgba), on_white(rgba[:, :, :3], rgba[:, :, 3]), 1)
    assert_close(open_photo(Image.fromarray(rgba).convert("RGBa")), on_white(rgba[:, :, :3], rgba[:, :, 3]), 3)


@pytest.mark.parametrize("transparency", [1, bytes([255, 0]), bytes([255, 128])], ids=["one", "table", "half"])
def test_a_transparent_palette_colour_is_laid_on_white(transparency: int | bytes) -> None:
    image = Image.new("P", (6, 4), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (3, 0, 6, 4))
    alpha = 0 if transparency == 1 else transparency[1]
    expected = np.full((4, 6, 3), RED)
    expected[:, 3:] = on_white(np.array(BLUE), np.array(alpha))
    assert_close(open_photo(encode(image, "PNG", transparency=transparency)), expected, 1)


@pytest.mark.parametrize(
    ("mode", "transparent", "kept"), [("RGB", BLUE, RED), ("L", 90, 200), ("1", 0, 255)], ids=["rgb", "grey", "one-bit"]
)
def test_the_transparent_colour_of_a_png_is_laid_on_white(mode: str, transparent: Any, kept: Any) -> None:
    image = Image.new(mode, (6, 4), kept)
    image.paste(transparent, (3, 0, 6, 4))
    expected = np.full((4, 6, 3), kept)
    expected[:, 3:] = WHITE
    assert_close(open_photo(encode(image, "PNG", transparency=transparent)), expected)


# Colours and depths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["RGB", "RGBX", "YCbCr", "CMYK", "HSV", "LAB"])
def test_every_colour_space_becomes_rgb(mode: str) -> None:
    source = Image.new("RGB", (5, 4), (60, 90, 160))
    # Pillow does not convert to LAB; this is that colour by the standard's formula, a and b counted from 128.
    image = Image.new("LAB", (5, 4), (98, 128 + 8, 128 - 40)) if mode == "LAB" else source.convert(mode)
    assert_close(open_photo(image), np.full((4, 5, 3), (60, 90, 160)), 8 if mode == "LAB" else 2)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF"])
def test_one_bit_grey_and_palette_files_become_rgb(kind: str) -> None:
    grey = noise(9, 13)
    assert_close(open_photo(encode(Image.fromarray(grey), kind)), grey_rgb(grey))
    assert_close(open_photo(encode(Image.fromarray(grey > 127), kind)), grey_rgb(np.where(grey > 127, 255, 0)))
    assert_close(open_photo(encode(IMAGE.quantize(4), kind)), PICTURE)


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


# Animations ---------------------------------------------------------------------------------------------------------


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


def srgb_to_linear(values: Array) -> Array:
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: Array) -> Array:
    values = np.clip(values, 0, 1)
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)


def display_p3() -> bytes:
    columns = {name: hostile.xyz(*P3[:, at]) for at, name in enumerate((b"rXYZ", b"gXYZ", b"bXYZ"))}
    table = np.rint(srgb_to_linear(np.linspace(0, 1, 1024)) * 65535).astype(">u2")
    curve = b"curv" + bytes(4) + struct.pack(">I", len(table)) + table.tobytes()
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    described = b"desc" + bytes(4) + struct.pack(">I", 2) + b"x\0" + bytes(78)
    tags = {b"desc": described, b"wtpt": hostile.xyz(0.9642, 1.0, 0.8249), **columns, **curves}
    return hostile.icc_profile(0x02100000, tags)


DISPLAY_P3 = display_p3()


def as_seen(photo: Photo) -> Array:
    """The colours of Display P3 in sRGB, by the textbook."""
    linear = srgb_to_linear(photo / 255) @ (np.linalg.inv(SRGB) @ P3).T
    return np.rint(linear_to_srgb(linear) * 255)


@pytest.mark.parametrize("kind", CARRIERS)
def test_an_embedded_profile_is_converted_to_srgb(kind: str) -> None:
    options, tolerance = CARRIERS[kind]
    expected = as_seen(PICTURE)
    assert np.abs(expected - PICTURE).max() > 15  # or the test could not tell
    data = encode(IMAGE, kind, icc_profile=DISPLAY_P3, **options)
    assert_close(open_photo(data), expected, 2 * tolerance + 2)


def test_profile_orientation_and_alpha_work_together() -> None:
    rgba = np.dstack([PICTURE, np.full((32, 48), 255, dtype=np.uint8)])
    rgba[:, 24:, 3] = 0
    expected = as_seen(PICTURE)
    expected[:, 24:] = WHITE
    stored = Image.fromarray(np.ascontiguousarray(STORED[8](rgba)))
    data = encode(stored, "PNG", exif=exif_of(8), icc_profile=DISPLAY_P3)
    assert_close(open_photo(data), expected, 2)


@given(seed=st.integers(0, 2**32 - 1))
def test_a_damaged_profile_never_costs_the_photo(seed: int) -> None:
    profile = bytearray(DISPLAY_P3)
    for _ in range(seed % 3 + 1):
        profile[random.Random(seed).randrange(260)] ^= 1 << seed % 8
    data = encode(IMAGE, "PNG", icc_profile=bytes(profile))
    assert_clean(open_photo(data), 32, 48)


# Every kind of source gives the same picture -------------------------------------------------------------------------


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
    image.info["icc_profile"] = DISPLAY_P3
    image.getexif()[0x0112] = 6
    before = (image.mode, image.size, dict(image.info), dict(image.getexif()), image.tobytes())
    photo = open_photo(image)
    assert_clean(photo, 7, 5)
    photo[:] = 99
    assert (image.mode, image.size, dict(image.info), dict(image.getexif()), image.tobytes()) == before


def test_opening_leaves_the_warning_filters_alone_since_threads_share_them(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    opening = Image.open
    monkeypatch.setattr(
        Image, "open", lambda *args, **options: seen.append(list(warnings.filters)) or opening(*args, **options)
    )
    open_photo(encode(IMAGE, "PNG"))
    assert seen == [list(warnings.filters)]


# Refusals -----------------------------------------------------------------------------------------------------------

BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1")
HEIC = r"This HEIC photo cannot be opened\. Save it as JPEG and try again\."


@pytest.mark.parametrize(
    ("data", "said"),
    [
        *((data, r"This is not a photo that can be opened\. Use JPEG, PNG.*") for data in (b"Dear Sir,\n" * 9, b"\0")),
        *((b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mif1heic" + bytes(64), HEIC) for brand in BRANDS),
        (png(8001, 8000, 8, 2, idat(b"")), r"The photo is too large: more than 64 megapixels\..*"),
        (b"", r"The file is empty\."),
    ],
)
def test_what_is_no_photo_is_refused_saying_what_it_is(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(data)
    for source in (data, tmp_path / "photo.jpg", str(tmp_path / "photo.jpg")):
        assert re.fullmatch(said, refusal_of(source))


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_heic_is_a_photo_by_its_content_whatever_its_name(brand: bytes, tmp_path: Path) -> None:
    for name in ("IMG_0001.HEIC", "photo.jpg", "photo"):
        (tmp_path / name).write_bytes(heic(QUADRANTS, brand=brand))
        assert_close(open_photo(tmp_path / name), PICTURE, 2)
        assert not is_animated((tmp_path / name).read_bytes())


@pytest.mark.parametrize("tiles", [None, (2, 1)])
def test_heic_is_turned_once_though_its_exif_says_so_again(tiles: tuple[int, int] | None) -> None:
    exif = exif_of(6).removeprefix(b"Exif\0\0")
    for turn, mirror in itertools.product(range(4), (None, 0, 1)):
        upright = np.rot90(np.tile(PICTURE, (1, 2 if tiles else 1, 1)), turn)
        upright = upright if mirror is None else np.flip(upright, mirror)
        assert_close(open_photo(heic(QUADRANTS, tiles=tiles, turn=turn, mirror=mirror, exif=exif)), upright, 2)


def test_the_limit_of_heic_holds_by_its_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(image_module._FEWER_PIXELS, "HEIF", 48 * 32)
    open_photo(heic(QUADRANTS))
    monkeypatch.setitem(image_module._FEWER_PIXELS, "HEIF", 48 * 32 - 1)
    with pytest.raises(PhotoError, match="too large"):
        open_photo(heic(QUADRANTS))


def test_a_folder_is_refused_as_a_folder(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"is a folder, not a photo\.$"):
        open_photo(tmp_path)


@pytest.mark.parametrize("name", ["missing.jpg", "nul\0character.jpg", "long" * 1000 + ".jpg", "no/such/folder.jpg"])
def test_a_path_that_cannot_be_read_is_refused_by_its_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(PhotoError, match=r"cannot be read: .*\.$") as refusal:
        open_photo(tmp_path / name)
    assert str(refusal.value).startswith(Path(name).name)
    assert str(tmp_path) not in str(refusal.value)


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

    data = encode(IMAGE, "PNG")
    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(PhotoError, match="too large"):
        open_photo(data)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_what_has_no_pixels_is_refused(size: tuple[int, int]) -> None:
    for source in (np.zeros(size, np.uint8), np.zeros((*size, 3), np.uint8), Image.new("RGB", size)):
        assert refusal_of(source) == "The photo has no pixels."


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint32, np.complex64, np.dtype("U1"), np.dtype("O")])
def test_arrays_of_other_types_are_refused(dtype: Any) -> None:
    with pytest.raises(PhotoError, match="must be uint8, uint16 or float, not"):
        open_photo(np.zeros((4, 5, 3), dtype=dtype))


@pytest.mark.parametrize("shape", [(), (5,), (4, 5, 2), (4, 5, 5), (2, 4, 5, 3)])
def test_arrays_of_other_shapes_are_refused_naming_their_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(PhotoError, match="not \\(" + ", ".join(map(str, shape))):
        open_photo(np.zeros(shape, dtype=np.uint8))


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01])
def test_floats_outside_zero_to_one_are_refused(value: float) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        array = np.zeros((4, 5, 3), dtype=dtype)
        array[2, 3, 1] = value
        with pytest.raises(PhotoError, match=r"floats must lie in \[0, 1\]"):
            open_photo(array)


# Damage -------------------------------------------------------------------------------------------------------------


SOUND = sound_files(Image.fromarray(noise(24, 32, 3)))


@pytest.mark.filterwarnings("ignore")  # Pillow warns of broken metadata on its way
@pytest.mark.parametrize("data", SOUND.values(), ids=SOUND)
def test_a_truncated_file_is_refused_unless_all_pixels_were_there(data: bytes) -> None:
    whole = open_photo(data)
    refused = 0
    for length in [*range(1, len(data), max(1, len(data) // 60)), *range(len(data) - 12, len(data))]:
        try:
            assert np.array_equal(open_photo(data[:length]), whole)
        except PhotoError as refusal:
            assert complaint(str(refusal)) == ""
            refused += 1
    assert refused > 15
    with pytest.raises(PhotoError, match=r"damaged or incomplete|not a photo|HEIC photo cannot be opened"):
        open_photo(data[: len(data) // 6])
