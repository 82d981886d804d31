"""The viewer in a real browser: what it shows, reads out and saves is what the library says of the same photo."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from hierseg.decoding import best_paths
from hierseg.page import examples
from hierseg.page.payload import shrink
from hierseg.photo import open_photo
from hierseg.predictor import Prediction, Predictor
from hierseg.tree import Hierarchy
from tests import REPOSITORY
from tests.page.driver import (
    BEST,
    CARDS,
    PHOTO,
    SECOND,
    choose,
    done,
    downloaded,
    every_screen,
    hover,
    mask,
    picture,
    saved,
    segment,
    send_several,
    slide,
    spoken,
)
from tests.rounding import TURNED, assert_labels


def test_each_level_and_checkpoint_has_a_picture_of_its_own(viewer: Page) -> None:
    seen = {}
    for checkpoint in ("bce", "ftm"):
        choose(viewer, "checkpoint", checkpoint)
        for level in ("body", "upper-lower", "parts"):
            choose(viewer, "level", level)
            seen[checkpoint, level] = picture(viewer)
    assert len(set(seen.values())) == 6
    viewer.locator("#viewer [name=outlines]").uncheck()
    slide(viewer, "opacity", 0)
    bare = picture(viewer)
    assert bare not in seen.values()
    choose(viewer, "level", "body")
    assert picture(viewer) == bare


def test_pointing_at_a_block_of_the_tree_shows_that_node_alone(viewer: Page) -> None:
    everything = picture(viewer)
    drawn = "document.querySelector('#viewer .stage canvas').toDataURL()"
    alone = {}
    for node in ("head", "torso"):
        viewer.locator(f"#viewer .tree [data-node={node}]").hover()
        viewer.wait_for_function(f"seen => {drawn} !== seen", arg=everything)
        alone[node] = picture(viewer)
        viewer.locator("#heading").hover()
        viewer.wait_for_function(f"seen => {drawn} === seen", arg=everything)
    assert alone["head"] != alone["torso"]


def test_nothing_is_asked_of_the_server_after_the_one_inference(viewer: Page, tmp_path: Path) -> None:
    viewer.wait_for_load_state("networkidle")
    asked: list[str] = []
    viewer.on("request", lambda request: asked.append(request.url))
    for view in ("slider", "both", "differences", "single"):
        choose(viewer, "view", view)
    choose(viewer, "level", "body")
    for name in ("opacity", "threshold"):
        slide(viewer, name, 40)
    hover(viewer, 200, 200)
    saved(viewer, "masks", tmp_path)
    assert [url for url in asked if not url.startswith(("data:", "blob:"))] == []


def test_the_saved_mask_is_right_where_the_browser_guards_its_canvases(
    page: Page, predictions: dict[str, Prediction], tmp_path: Path
) -> None:
    # Against fingerprinting, some browsers change a little of what is read back from a canvas.
    page.evaluate(
        """() => {
          for (const { prototype } of [OffscreenCanvasRenderingContext2D, CanvasRenderingContext2D]) {
            const read = prototype.getImageData;
            prototype.getImageData = function (...place) {
              const image = read.apply(this, place);
              for (let index = 0; index < image.data.length; index += 97) image.data[index] ^= 1;
              return image;
            };
          }
        }"""
    )
    segment(page, PHOTO)
    assert_labels(mask(saved(page, "mask", tmp_path)), predictions[BEST])


def test_the_zip_holds_a_mask_for_every_node_of_both_checkpoints(
    viewer: Page, predictions: dict[str, Prediction], tmp_path: Path, tree: Hierarchy
) -> None:
    choose(viewer, "view", "both")
    with zipfile.ZipFile(saved(viewer, "masks", tmp_path)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    for name in (BEST, SECOND):
        prediction = predictions[name]
        labels = mask(tmp_path / name / "mask-parts.png")
        assert_labels(labels, prediction)
        expected = tree.node_masks(labels)
        for node, title in enumerate(tree.nodes):
            with Image.open(tmp_path / name / f"{title}.png") as image:
                np.testing.assert_array_equal(np.array(image.convert("L")), expected[node] * 255)


def test_masks_of_a_large_photo_have_its_size(page: Page, tree: Hierarchy, tmp_path: Path) -> None:
    large = tmp_path / "large.jpg"
    Image.open(PHOTO).resize((2000, 1503), Image.Resampling.LANCZOS).save(large, quality=95)
    segment(page, large)
    found = mask(saved(page, "mask", tmp_path))
    assert found.shape == (1503, 2000)
    shown = Predictor(BEST).predict(shrink(open_photo(large)))
    nearest = np.array(Image.fromarray(found).resize(shown.size[::-1], Image.Resampling.NEAREST))
    assert (nearest == shown.labels).mean() > 0.98  # but for edges
    assert json.loads(saved(page, "json", tmp_path).read_text())["width"] == 2000
    with zipfile.ZipFile(saved(page, "masks", tmp_path)) as archive:
        archive.extractall(tmp_path)
    head = tree.node_masks(found)[tree.index("head")]
    np.testing.assert_array_equal(mask(tmp_path / BEST / "head.png") == 255, head)


def test_the_example_that_the_page_opens_with_is_a_photo_like_any_other(page: Page, tmp_path: Path) -> None:
    page.locator("#viewer .viewer[data-state=example]").wait_for()
    prediction = Predictor(BEST).predict(open_photo(examples.read(REPOSITORY / "examples")[0].path))
    for level in ("parts", "body"):
        choose(page, "level", level)
        assert_labels(mask(saved(page, "mask", tmp_path)), prediction, level)
    assert page.locator("#viewer .viewer[data-state=example]").is_visible()
    choose(page, "view", "differences")
    segment(page, PHOTO)
    assert page.locator("#viewer .stage canvas[data-level=body][data-view=differences]").is_visible()
    expect(page.locator("#viewer .message")).to_have_text("")


def test_the_saved_picture_has_the_photos_size_and_not_its_pixels(viewer: Page, tmp_path: Path) -> None:
    with Image.open(saved(viewer, "picture", tmp_path)) as image:
        assert image.size == (512, 512)
        changed = (np.abs(np.asarray(image.convert("RGB")).astype(int) - open_photo(PHOTO)) > 20).any(-1)
    labels = Predictor(BEST).predict(PHOTO).labels
    assert changed[labels != 0].mean() > 0.9
    assert changed[labels == 0].mean() < 0.1


@every_screen
def test_pointing_reads_out_the_path_of_each_checkpoint_on_view(
    viewer: Page, predictions: dict[str, Prediction], tree: Hierarchy
) -> None:
    for view, names in (("single", (BEST,)), ("differences", (BEST, SECOND))):
        choose(viewer, "view", view)
        for column, row in ((220, 90), (60, 60)):
            hover(viewer, column, row)
            for (line, path), name in zip(spoken(viewer), names, strict=True):
                assert line.startswith(CARDS[name].title)
                prediction = predictions[name]
                paths = best_paths(prediction.scores, tree, prediction.calibration)
                nodes = tree.lineages[int(paths.leaves[row, column])]
                assert [node for node, _ in path] == [tree.nodes[node].replace("_", " ") for node in nodes]
                # Rounded up, but for a hair.
                expected = 100 * paths.scores[:, row, column] + 0.5
                assert [score for _, score in path] == pytest.approx(expected, abs=0.51)
                assert ("background" in line) == (prediction.labels[row, column] == tree.background)


def test_arrow_keys_read_out_and_escape_ends_it(viewer: Page) -> None:
    viewer.locator("#viewer .stage canvas").focus()
    viewer.keyboard.press("ArrowUp")
    first = viewer.locator("#viewer .readout").inner_text()
    assert first.startswith(CARDS[BEST].title)
    for _ in range(20):
        viewer.keyboard.press("ArrowLeft")
    assert viewer.locator("#viewer .readout").inner_text() != first
    assert viewer.locator("#viewer .readout").get_attribute("aria-live") == "polite"
    viewer.keyboard.press("Escape")
    assert viewer.locator("#viewer .readout").is_hidden()


def test_the_slider_shows_one_checkpoint_on_each_side(viewer: Page) -> None:
    choose(viewer, "view", "slider")
    ends = []
    for value in (0, 50, 100):
        slide(viewer, "split", value)
        ends.append(picture(viewer))
    assert len(set(ends)) == 3


def test_a_hidden_node_takes_all_below_it_away(viewer: Page) -> None:
    whole = picture(viewer)
    row = viewer.locator("#viewer .tree [data-node=upper]")
    row.get_by_role("checkbox").uncheck()
    assert picture(viewer) != whole
    assert not viewer.locator("#viewer .tree [data-node=head]").get_by_role("checkbox").is_checked()
    assert viewer.locator("#viewer .tree [data-node=lower]").get_by_role("checkbox").is_checked()
    row.get_by_role("checkbox").check()
    assert picture(viewer) == whole


def test_reset_brings_everything_back(viewer: Page) -> None:
    before = picture(viewer)
    slide(viewer, "opacity", 90)
    slide(viewer, "threshold", 90)
    viewer.locator("#viewer [name=outlines]").uncheck()
    viewer.locator("#viewer .tree [data-node=head]").get_by_role("checkbox").uncheck()
    assert picture(viewer) != before
    viewer.locator("#viewer .reset").click()
    expect(viewer.locator("#viewer .reset")).to_be_hidden()  # there is nothing left to reset
    assert picture(viewer) == before


def test_several_photos_are_segmented_in_turn_and_saved_together(page: Page, tmp_path: Path) -> None:
    (tmp_path / "words.jpg").write_text("no photo")
    photos = [PHOTO, tmp_path / "a:b.jpg"]
    photos[1].write_bytes((REPOSITORY / "examples" / "camera.jpg").read_bytes())
    send_several(page, [photos[0], tmp_path / "words.jpg", photos[1]])
    done(page)
    assert page.locator("#viewer .progress").inner_text() == "2 of 3 photos segmented"
    assert "words.jpg: This is not a photo" in page.locator("#viewer .failures").inner_text()
    second = picture(page)
    page.locator("#viewer [name=place]").fill("0")
    expect(page.locator("#viewer .place")).to_have_text("1 of 2: astronaut.jpg")
    first = picture(page)
    assert first != second
    choose(page, "checkpoint", "bce")
    with zipfile.ZipFile(downloaded(page, ".save-all", tmp_path)) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path)
    with (tmp_path / "shares.csv").open(newline="") as file:
        lines = {line["path"]: line for line in csv.DictReader(file)}
    assert lines["words.jpg"]["error"].startswith("This is not a photo")
    coco = json.loads((tmp_path / "coco-bce.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [photo.name for photo in photos]
    for number, photo in enumerate(photos, 1):
        line, expected = lines[photo.name], Predictor("bce").predict(photo)
        assert (line["checkpoint"], line["width"], line["error"]) == ("bce", str(expected.size[1]), "")
        found = {each["category_id"]: each for each in coco["annotations"] if each["image_id"] == number}
        for node, (name, area) in enumerate(expected.areas().items(), 1):
            assert float(line[f"{name}_share_of_photo"]) == pytest.approx(area.share_of_photo, abs=TURNED)
            assert float(line[f"{name}_confidence"]) == pytest.approx(area.confidence, abs=0.01)
            share = found[node]["area"] / expected.labels.size if node in found else 0
            assert share == pytest.approx(area.share_of_photo, abs=TURNED)
    for folder, photo in zip((tmp_path / "01-astronaut", tmp_path / "02-a_b"), photos, strict=True):
        expected = Predictor("bce").predict(photo)
        assert_labels(mask(folder / "mask-bce-parts.png"), expected)
        figures = json.loads((folder / "figures.json").read_text())
        head = expected.areas()["head"].share_of_photo
        assert figures["checkpoints"][0]["areas"]["head"]["share_of_photo"] == pytest.approx(head, abs=TURNED)
        with Image.open(folder / "picture-single.png") as image:
            assert image.size == expected.size[::-1]
