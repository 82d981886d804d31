"""What is saved and copied: cut-outs, backgrounds, outlines and annotations, of the masks that the library gives."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Page, expect
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from hierseg.photo import open_photo
from hierseg.predictor import Prediction
from hierseg.tree import Hierarchy
from hierseg.visualize import readable
from tests.page.driver import PHOTO, choose, mask, open_saving, picture, saved, segment, slide
from tests.rounding import APART, firm

VISITED = "tiny_address"

SIZES = "#viewer .save [data-size]"
SAID = "#viewer .save > output"


def rgba(path: Path | io.BytesIO) -> npt.NDArray[np.int_]:
    with Image.open(path) as image:
        return np.array(image.convert("RGBA")).astype(int)


def put_behind(page: Page, background: str) -> None:
    open_saving(page)
    choose(page, "background", background)


def test_a_cut_out_is_opaque_where_the_mask_is_and_has_the_photos_pixels(
    viewer: Page, found: dict[str, Prediction], tree: Hierarchy, tmp_path: Path
) -> None:
    photo = open_photo(PHOTO).astype(int)
    leaf = found["leaf"]
    sure = firm(leaf.scores, tree, leaf.threshold, hair=APART)
    open_saving(viewer)
    for subject, node in (("", None), (readable("torso"), "torso"), (readable("upper"), "upper")):
        viewer.locator("#viewer [name=subject]").select_option(label=subject or "whole person")
        path = saved(viewer, "cutout", tmp_path)
        assert path.name == f"hierseg-leaf-cut-out-{node or 'person'}.png"
        cut = rgba(path)
        masks = tree.node_masks(leaf.labels)
        expected = masks.any(0) if node is None else masks[tree.index(node)]
        assert 1000 < expected.sum() < expected.size - 1000
        np.testing.assert_array_equal((cut[..., 3] >= 128)[sure], expected[sure])
        soft = (cut[..., 3] > 0) & (cut[..., 3] < 255)
        assert soft.any()  # an edge from the scores, and no label's
        inside = cut[..., 3] == 255
        assert np.abs(cut[..., :3] - photo)[inside].max() <= 4  # but for how the browser reads a JPEG


def test_what_is_saved_of_a_large_photo_has_its_own_pixels(page: Page, tmp_path: Path) -> None:
    large = tmp_path / "large.png"  # of which the server's JPEG keeps little
    noise = np.random.RandomState(0).randint(0, 256, (1503, 2000, 3), np.uint8)
    Image.fromarray(noise).save(large)
    segment(page, large)
    open_saving(page)
    for place in page.locator(SIZES).all():
        expect(place).to_have_text("2000 by 1503")
    cut = rgba(saved(page, "cutout", tmp_path))
    inside = cut[..., 3] == 255
    assert cut.shape[:2] == (1503, 2000) and inside.any()
    np.testing.assert_array_equal(cut[inside][:, :3], noise[inside])
    for kind in ("picture", "jpeg"):
        with Image.open(saved(page, kind, tmp_path)) as image:
            assert image.size == (2000, 1503)


def test_a_photo_that_the_browser_cannot_open_is_saved_as_it_is_shown_and_that_is_said(
    page: Page, tmp_path: Path
) -> None:
    with Image.open(PHOTO) as photo:
        photo.resize((1600, 1200)).save(tmp_path / "photo.tiff")
    segment(page, tmp_path / "photo.tiff")
    open_saving(page)
    expect(page.locator(SIZES).first).to_have_text("1280 by 960, the photo has 1600 by 1200")
    expect(page.locator(SIZES).last).to_have_text("1600 by 1200")
    with Image.open(saved(page, "picture", tmp_path)) as image:
        assert image.size == (1280, 960)
    assert mask(saved(page, "mask", tmp_path)).shape == (1200, 1600)


def test_another_background_is_shown_and_saved_and_what_is_in_front_stays(viewer: Page, tmp_path: Path) -> None:
    alpha = rgba(saved(viewer, "cutout", tmp_path))[..., 3]
    photo = open_photo(PHOTO).astype(int)
    seen, files = {picture(viewer)}, {}
    for background in ("blur", "grey", "color", "none"):
        put_behind(viewer, background)
        seen.add(picture(viewer))
        files[background] = rgba(saved(viewer, "picture", tmp_path))
        assert np.abs(files[background][..., :3] - photo)[alpha == 255].max() <= 4
    assert len(seen) == 5
    behind = alpha == 0
    assert np.ptp(files["grey"][behind][:, :3], axis=1).max() <= 1 < np.ptp(photo[behind], axis=1).max()
    assert (files["color"][behind] == 255).all()  # white, where nobody chose another
    assert (files["none"][behind] == 0).all()
    apart = behind[:, 1:] & behind[:, :-1]

    def steps(pixels: npt.NDArray[np.int_]) -> float:
        return float(np.abs(np.diff(pixels[..., :3], axis=1))[apart].mean())

    assert steps(files["blur"]) < steps(photo) / 2
    expect(viewer.locator("#viewer [data-save=jpeg]")).to_be_hidden()  # it would have something behind
    put_behind(viewer, "color")
    viewer.locator("#viewer [name=color]").fill("#204060")
    blue = rgba(saved(viewer, "jpeg", tmp_path))
    assert np.abs(blue[behind] - [0x20, 0x40, 0x60, 255]).mean() < 4
    put_behind(viewer, "picture")
    Image.new("RGB", (30, 90), (200, 10, 60)).save(tmp_path / "beach.png")
    viewer.locator("#viewer [name=backdrop]").set_input_files(tmp_path / "beach.png")
    expect(viewer.locator("#viewer .backdrop output")).to_have_text("beach.png")
    assert (rgba(saved(viewer, "picture", tmp_path))[behind] == [200, 10, 60, 255]).all()
    viewer.locator("#viewer .reset").click()
    assert picture(viewer) in seen


def test_what_is_copied_is_what_would_be_saved_and_the_page_says_so(viewer: Page, tmp_path: Path) -> None:
    viewer.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_saving(viewer)
    for kind, said in (("picture", "The picture is on the clipboard."), ("cutout", "The cut-out is on the clipboard.")):
        viewer.locator(f"#viewer [data-copy={kind}]").click()
        expect(viewer.locator(SAID)).to_have_text(said)
        copied = viewer.evaluate(
            """async () => {
              const [item] = await navigator.clipboard.read();
              const bytes = new Uint8Array(await (await item.getType("image/png")).arrayBuffer());
              return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
            }"""
        )
        held, wanted = rgba(io.BytesIO(base64.b64decode(copied))), rgba(saved(viewer, kind, tmp_path))
        opaque = wanted[..., 3] == 255
        np.testing.assert_array_equal(held[..., 3], wanted[..., 3])
        np.testing.assert_array_equal(held[opaque], wanted[opaque])
    viewer.evaluate(
        "() => { navigator.clipboard.write = () => Promise.reject(new DOMException('', 'NotAllowedError')); }"
    )
    viewer.locator("#viewer [data-copy=picture]").click()
    expect(viewer.locator(SAID)).to_have_text("The browser did not allow copying. Save it instead.")
    viewer.add_init_script("delete window.ClipboardItem")
    viewer.reload()
    viewer.locator("#viewer .viewer[data-state=example]").wait_for()
    open_saving(viewer)
    for kind in ("picture", "cutout"):
        expect(viewer.locator(f"#viewer [data-copy={kind}]")).to_be_hidden()


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning:pycocotools")
def test_pycocotools_reads_the_annotations_and_decodes_them_to_the_masks(
    viewer: Page, found: dict[str, Prediction], tree: Hierarchy, tmp_path: Path
) -> None:
    choose(viewer, "level", "body")  # annotations are of every node on every level
    labels = saved_leaves(viewer, tmp_path)
    coco = COCO(saved(viewer, "coco", tmp_path))
    (image,) = coco.loadImgs(coco.getImgIds())
    assert (image["file_name"], image["width"], image["height"]) == (PHOTO.name, 512, 512)
    categories = coco.loadCats(coco.getCatIds())
    assert [category["name"] for category in categories] == [readable(name) for name in tree.nodes]
    for category, parent in zip(categories, tree.parents, strict=True):
        assert category["supercategory"] == (readable(tree.nodes[parent]) if parent >= 0 else "")
    masks = tree.node_masks(labels)
    annotations = {each["category_id"] - 1: each for each in coco.loadAnns(coco.getAnnIds())}
    assert annotations.keys() == {node for node in range(len(tree)) if masks[node].any()}
    areas = list(found["leaf"].areas().values())
    for node, annotation in annotations.items():
        np.testing.assert_array_equal(coco.annToMask(annotation), masks[node])
        assert annotation["area"] == masks[node].sum()
        assert annotation["bbox"] == coco_mask.toBbox(annotation["segmentation"]).tolist()
        assert annotation["score"] == pytest.approx(areas[node].confidence, abs=0.01)


def saved_leaves(page: Page, folder: Path) -> npt.NDArray[np.uint8]:
    """Save the mask of the leaves, whatever level is shown."""
    shown = page.locator("#viewer .stage canvas").get_attribute("data-level") or ""
    choose(page, "level", "parts")
    labels = mask(saved(page, "mask", folder))
    choose(page, "level", shown)
    return labels


def test_the_outlines_hold_each_parts_pixels_and_no_others(viewer: Page, tree: Hierarchy, tmp_path: Path) -> None:
    slide(viewer, "threshold", 30)
    for level in ("parts", "upper-lower"):
        choose(viewer, "level", level)
        labels = mask(saved(viewer, "mask", tmp_path))
        drawing = saved(viewer, "svg", tmp_path).read_text()
        assert 'viewBox="0 0 512 512"' in drawing
        paths = re.findall(r'<path id="(.+)" fill="rgb\((.+)\)".* d="(.+)"><title>(.+)</title>', drawing)
        names = [name for name, *_ in paths]
        assert sorted(names) == sorted(tree.nodes[tree.labels.index(label)] for label in np.unique(labels) if label)
        for name, color, line, title in paths:
            node = tree.index(name)
            assert title == readable(name) and color == ",".join(map(str, tree.colors[node]))
            np.testing.assert_array_equal(filled(line, labels.shape), labels == tree.labels[node])


def filled(line: str, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Tell which pixels' centres lie within an SVG path of straight closed lines, by the even-odd rule."""
    crossings = np.zeros((shape[0], shape[1] + 1), int)
    for part in re.findall(r"M([^Z]+)Z", line):
        points = np.array([point.split(",") for point in part.split()], float)
        for (x, y), (to_x, to_y) in zip(points, np.roll(points, -1, axis=0), strict=True):
            rows = np.arange(shape[0])[(y > np.arange(shape[0]) + 0.5) != (to_y > np.arange(shape[0]) + 0.5)]
            across = x + (rows + 0.5 - y) / ((to_y - y) or 1) * (to_x - x)
            np.add.at(crossings, (rows, np.ceil(across - 0.5).astype(int)), 1)  # from there on, to the right
    return crossings.cumsum(axis=1)[:, :-1] % 2 == 1


def test_everything_that_saves_is_large_enough_to_be_touched_on_a_narrow_phone_and_works_by_keyboard(
    viewer: Page, tmp_path: Path
) -> None:
    viewer.set_viewport_size({"width": 360, "height": 740})
    summary = viewer.locator("#viewer .save summary")
    summary.focus()
    viewer.keyboard.press("Enter")
    controls = viewer.locator("#viewer .save :is(summary, button, select, .options label)")
    sizes = [box for control in controls.all() if (box := control.bounding_box())]
    assert len(sizes) > 12
    for box in sizes:
        assert box["height"] >= 44 and box["width"] >= 44, box
        assert box["x"] >= 0 and box["x"] + box["width"] <= 360
    assert viewer.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    viewer.keyboard.press("Tab")
    assert viewer.evaluate("document.activeElement.name") == "subject"
    viewer.keyboard.press("Tab")
    viewer.keyboard.press("ArrowRight")
    viewer.locator("#viewer .stage canvas[data-background=blur]").wait_for()
    viewer.keyboard.press("Tab")
    with viewer.expect_download() as download:
        viewer.keyboard.press("Enter")
    assert download.value.suggested_filename == "hierseg-leaf-single-blur.png"
    expect(viewer.locator(SAID)).to_have_text("Saved as hierseg-leaf-single-blur.png.")
    assert json.loads(saved(viewer, "json", tmp_path).read_text())["level"] == "parts"
