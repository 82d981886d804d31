"""The viewer in a real browser: what it shows, reads out and saves is what the library says of the same photo."""

from __future__ import annotations

import base64
import csv
import itertools
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Download, Page, Request, expect

from hierseg.decoding import best_paths
from hierseg.metrics import count, iou, level_means
from hierseg.page.payload import LEVEL_TITLES, shrink
from hierseg.photo import open_photo
from hierseg.predictor import Prediction, Predictor
from hierseg.tree import Hierarchy
from tests import REPOSITORY
from tests.heic import QUADRANTS, heic
from tests.page.driver import (
    BEST,
    CARDS,
    PHOTO,
    SECOND,
    as_file,
    choose,
    done,
    every_screen,
    hover,
    mask,
    picture,
    pixels,
    place_of,
    ready,
    saved,
    segment,
    send,
    send_clip,
    send_several,
    slide,
    spoken,
)
from tests.rounding import TURNED, assert_figures, assert_labels


@pytest.fixture(scope="module")
def predictions() -> dict[str, Prediction]:
    return {name: Predictor(name).predict(open_photo(PHOTO)) for name in CARDS}


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


def test_the_saved_mask_is_the_librarys(viewer: Page, predictions: dict[str, Prediction], tmp_path: Path) -> None:
    for checkpoint in CARDS:
        choose(viewer, "checkpoint", checkpoint)
        assert_labels(mask(saved(viewer, "mask", tmp_path)), predictions[checkpoint])
    choose(viewer, "level", "upper-lower")
    slide(viewer, "threshold", 30)
    assert_labels(mask(saved(viewer, "mask", tmp_path)), predictions[checkpoint], "upper-lower", 0.3)


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
    prediction = Predictor(BEST).predict(open_photo(REPOSITORY / "examples" / "astronaut.jpg"))
    for level in ("parts", "body"):
        choose(page, "level", level)
        assert_labels(mask(saved(page, "mask", tmp_path)), prediction, level)
    assert page.locator("#viewer .viewer[data-state=example]").is_visible()
    choose(page, "view", "differences")
    segment(page, PHOTO)
    assert page.locator("#viewer .stage canvas[data-level=body][data-view=differences]").is_visible()
    expect(page.locator("#viewer .message")).to_have_text("")


def test_the_saved_figures_are_the_librarys(
    viewer: Page, predictions: dict[str, Prediction], tmp_path: Path, tree: Hierarchy
) -> None:
    choose(viewer, "view", "slider")
    figures = json.loads(saved(viewer, "json", tmp_path).read_text())
    assert figures["tree"] == tree.to_dict()
    assert [found["name"] for found in figures["checkpoints"]] == [BEST, SECOND]
    for found in figures["checkpoints"]:
        expected = predictions[found["name"]].summary()
        assert found["threshold"] == expected["threshold"]
        assert found["raw_violations"] == pytest.approx(expected["raw_violations"], abs=TURNED)
        for node, area in expected["areas"].items():
            assert found["areas"][node] == pytest.approx(area, abs=0.005)


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
                paths = best_paths(prediction.scores, tree)
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
    box = place_of(viewer.locator("#viewer .stage canvas"))
    viewer.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2)
    viewer.mouse.down()
    viewer.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    viewer.mouse.up()
    assert viewer.locator("#viewer [name=split]").input_value() == "25"


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


def test_a_ground_truth_gives_the_iou_of_every_node_and_level(
    viewer: Page, predictions: dict[str, Prediction], tmp_path: Path, tree: Hierarchy
) -> None:
    truth = np.roll(predictions["bce"].labels, 12, axis=1)
    truth[:40] = tree.void
    Image.fromarray(truth).save(tmp_path / "truth.png")
    choose(viewer, "view", "both")
    viewer.locator("#ground-truth summary").click()
    viewer.locator("#ground-truth [name=truth]").set_input_files(tmp_path / "truth.png")
    viewer.locator("#viewer .truth tbody tr").first.wait_for()
    rows = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts()
        for row in viewer.locator("#viewer .truth tbody tr").all()
    }
    for column, name in enumerate((BEST, SECOND)):
        ious = iou(count({name: predictions[name].labels}, truth, tree), name)
        nodes = dict(zip([name.replace("_", " ") for name in tree.nodes], ious, strict=False))
        levels = {LEVEL_TITLES.get(level, level): mean for level, mean in level_means(ious, tree).items()}
        expected: dict[str, Any] = {**levels, **nodes}
        for title, value in expected.items():
            written = "\N{EN DASH}" if np.isnan(value) else f"{value:.3f}".removeprefix("0")
            assert_figures(rows[title][column], written)


def test_second_photo_replaces_the_first_and_keeps_the_choices(viewer: Page) -> None:
    choose(viewer, "level", "body")
    before = picture(viewer)
    send(viewer, REPOSITORY / "examples" / "grace_hopper.jpg")
    viewer.wait_for_function("seen => document.querySelector('#viewer .stage canvas').toDataURL() !== seen", arg=before)
    ready(viewer)
    assert viewer.locator("#viewer .stage canvas[data-level=body]").count() == 1
    assert picture(viewer) != before


@every_screen
def test_photos_keep_their_proportions_and_are_sharp_on_every_screen(page: Page, tmp_path: Path) -> None:
    sizes = [(900, 200), (200, 900), (64, 64)]
    for size in sizes:
        Image.effect_noise(size, 80).convert("RGB").save(tmp_path / f"{size}.png")
    send_several(page, [tmp_path / f"{size}.png" for size in sizes])
    done(page)
    canvas = page.locator("#viewer .stage canvas")
    for place, size in enumerate(sizes):
        page.locator("#viewer [name=place]").fill(str(place))
        expect(page.locator("#viewer .place")).to_contain_text(f"{place + 1} of 3")
        box = canvas.bounding_box()
        assert box is not None
        assert box["width"] / box["height"] == pytest.approx(size[0] / size[1], rel=0.02)
        pixels = canvas.evaluate("canvas => [canvas.width, canvas.height]")
        ratio = page.evaluate("window.devicePixelRatio")
        assert pixels == [pytest.approx(box["width"] * ratio, abs=1.5), pytest.approx(box["height"] * ratio, abs=1.5)]
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_camera_is_segmented_live_and_mirrored_until_it_is_stopped(page: Page) -> None:
    under_way, most = 0, 0

    def sent(request: Request) -> None:
        nonlocal under_way, most
        if "/frame" in request.url:
            under_way += 1
            most = max(most, under_way)

    def answered(request: Request) -> None:
        nonlocal under_way
        under_way -= "/frame" in request.url

    page.on("request", sent)
    page.on("requestfinished", answered)
    page.locator("#viewer .live").click()
    ready(page)
    expect(page.locator("#viewer .rate")).to_contain_text("pictures a second")
    choose(page, "view", "differences")
    choose(page, "view", "single")
    assert most == 1  # a frame is sent only when the one before has come back
    page.locator("#viewer [name=opacity]").fill("0")
    page.locator("#viewer [name=outlines]").uncheck()
    mirrored = pixels(page).astype(int)
    with Image.open(PHOTO) as photo:
        wanted = np.array(photo.convert("RGB").resize((256, 256))).astype(int)
    assert np.abs(mirrored - wanted).mean() > 15
    page.locator("#viewer [name=mirror]").uncheck()
    for _ in range(30):  # frames that were on their way are still mirrored
        with page.expect_response(re.compile("/frame")):
            pass
        if np.abs(pixels(page).astype(int) - wanted).mean() < 15:
            break
    else:
        pytest.fail("frames stay mirrored")
    assert np.abs(mirrored[:, ::-1] - wanted).mean() < 15
    page.locator("#viewer .live").click()
    assert page.locator("#viewer .live").inner_text() == "Live camera"
    page.wait_for_load_state("networkidle")
    still = picture(page)
    assert picture(page) == still


def test_without_a_camera_a_sentence_says_so(page: Page) -> None:
    page.evaluate(
        """() => {
          navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("", "NotAllowedError"));
        }"""
    )
    page.locator("#viewer .live").click()
    expect(page.locator("#viewer .message")).to_contain_text("The camera was not allowed")
    assert page.locator("#viewer .live").inner_text() == "Live camera"


@pytest.mark.parametrize("name", ["IMG_0001.HEIC", "photo"])
def test_the_chooser_lets_heic_and_files_without_an_ending_through(name: str, page: Page, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(heic(QUADRANTS))
    with page.expect_file_chooser() as chooser:
        page.locator("#viewer .choose").click()
    assert chooser.value.element.get_attribute("accept") is None
    chooser.value.set_files(tmp_path / name)
    ready(page)


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
    with page.expect_download() as download:
        page.locator("#viewer .save-all").click()
    download.value.save_as(tmp_path / "photos.zip")
    with zipfile.ZipFile(tmp_path / "photos.zip") as archive:
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
        assert figures["checkpoints"][0]["areas"]["head"]["share_of_photo"] == pytest.approx(
            expected.areas()["head"].share_of_photo, abs=TURNED
        )
        with Image.open(folder / "picture-single.png") as image:
            assert image.size == expected.size[::-1]


def test_thumbnails_show_several_photos_and_lead_to_them(page: Page) -> None:
    names = ("astronaut", "camera", "grace_hopper")
    send_several(page, [REPOSITORY / "examples" / f"{name}.jpg" for name in names])
    done(page)
    strip = page.locator("#viewer .thumbnails")
    current, place = strip.locator("[aria-current=true]"), page.locator("#viewer .place")
    seen = {picture(page)}
    strip.get_by_role("button", name="astronaut.jpg").click()
    expect(place).to_have_text("1 of 3: astronaut.jpg")
    expect(current).to_have_attribute("aria-label", "astronaut.jpg")
    seen.add(picture(page))
    for key, name in (("ArrowRight", "camera"), ("End", "grace_hopper"), ("ArrowLeft", "camera")):
        page.keyboard.press(key)
        expect(place).to_contain_text(f"{name}.jpg")
        expect(current).to_be_focused()
        seen.add(picture(page))
    assert len(seen) == 3
    thumbnail = "strip => strip.querySelector('[aria-current=true] canvas').toDataURL()"
    parts = strip.evaluate(thumbnail)
    choose(page, "level", "body")
    assert strip.evaluate(thumbnail) != parts  # the result as it is shown


def test_many_large_photos_are_saved_in_several_files(page: Page, tmp_path: Path) -> None:
    send_several(page, [PHOTO, REPOSITORY / "examples" / "camera.jpg"])
    done(page)
    page.evaluate("Object.defineProperty(Blob.prototype, 'size', { get: () => 4e8 })")
    downloads: list[Download] = []
    page.on("download", lambda download: downloads.append(download))
    page.locator("#viewer .save-all").click()
    expect(page.locator("#viewer .progress")).to_have_text("Saved")
    page.wait_for_function("() => true")  # what came before it is heard of
    held = []
    for number, download in enumerate(downloads, 1):
        assert download.suggested_filename == f"hierseg-photos-{number}.zip"
        with zipfile.ZipFile(download.path()) as archive:
            assert archive.testzip() is None
            held.append({name.split("/")[0] for name in archive.namelist()})
    assert held == [{"01-astronaut"}, {"02-camera"}, {f"coco-{BEST}.json", "shares.csv"}]


def test_a_photo_that_comes_while_all_is_being_saved_takes_its_place(page: Page, tmp_path: Path) -> None:
    send_several(page, [PHOTO, REPOSITORY / "examples" / "camera.jpg"])
    done(page)
    downloads: list[str] = []
    page.on("download", lambda download: downloads.append(download.suggested_filename))
    # Saving is held up where it makes its first picture.
    page.evaluate(
        """() => {
          const made = OffscreenCanvas.prototype.convertToBlob;
          const released = new Promise((resolve) => (window.release = resolve));
          OffscreenCanvas.prototype.convertToBlob = async function (...options) {
            await released;
            return made.apply(this, options);
          };
        }"""
    )
    page.locator("#viewer .save-all").click()
    send(page, REPOSITORY / "examples" / "grace_hopper.jpg")
    page.locator("#viewer .sequence").wait_for(state="hidden")
    ready(page)
    shown = picture(page)
    page.evaluate("window.release()")
    page.locator("#viewer .save-all:not([disabled])").wait_for(state="attached")
    assert picture(page) == shown
    assert downloads == []
    assert saved(page, "picture", tmp_path).name == f"hierseg-{BEST}-single.png"  # and saving goes on working


def test_a_clip_gets_a_time_line_and_a_film(page: Page, tmp_path: Path) -> None:
    send_clip(page)
    done(page)
    last = int(page.locator("#viewer [name=place]").get_attribute("max") or 0)
    assert last >= 8  # eight pictures a second
    assert page.locator("#viewer .progress").inner_text() == f"{last + 1} of {last + 1} pictures segmented"
    times = page.locator("#viewer .times span").all_inner_texts()
    assert times[:3] == ["0 s", "0.5 s", "1 s"]
    end = picture(page)
    page.locator("#viewer [name=place]").fill("0")
    expect(page.locator("#viewer .place")).to_contain_text("1 of")
    expect(page.locator("#viewer .place")).to_contain_text("0.0 s")
    assert picture(page) != end
    drawn = page.locator("#viewer .shares").evaluate(
        "line => new Set(line.getContext('2d').getImageData(0, 0, line.width, line.height).data).size"
    )
    assert drawn > 3  # several parts' colours
    with page.expect_download() as download:
        page.locator("#viewer .save-all").click()
    download.value.save_as(tmp_path / "film.webm")
    expect(page.locator("#viewer .progress")).to_have_text("Saved")
    seen = page.evaluate(
        """async (url) => {
          const video = Object.assign(document.createElement("video"), { muted: true, src: url });
          await new Promise((resolve, reject) => { video.onloadeddata = resolve; video.onerror = reject; });
          return [video.videoWidth, video.videoHeight];
        }""",
        "data:video/webm;base64," + base64.b64encode((tmp_path / "film.webm").read_bytes()).decode(),
    )
    assert seen == [320, 320]
    page.evaluate("() => { MediaRecorder.prototype.start = () => { throw new Error('no encoder'); }; }")
    page.locator("#viewer .save-all").click()
    expect(page.locator("#viewer .progress")).to_contain_text("This browser cannot record a clip")


def test_a_clip_plays_over_and_over_until_it_is_paused(page: Page) -> None:
    send_clip(page)
    done(page)
    count = 1 + int(page.locator("#viewer [name=place]").get_attribute("max") or 0)
    page.evaluate(
        """() => {
          window.places = [];
          const place = document.querySelector("#viewer .place");
          const write = () => window.places.push(parseInt(place.textContent) - 1);
          new MutationObserver(write).observe(place, { childList: true });
        }"""
    )
    play = page.locator("#viewer .play")
    play.click()
    expect(play).to_have_text("Pause")
    starts = "places => places.filter((place, index) => place < places[index - 1]).length"
    page.wait_for_function(f"({starts})(window.places) >= 2")  # twice from the end to the beginning
    play.click()
    expect(play).to_have_text("Play")
    places = page.evaluate("window.places")
    steps = {(to - place) % count for place, to in itertools.pairwise(places)}
    assert steps <= {0, 1, 2, 3}  # never back, and never far
    page.locator("#viewer [name=place]").fill("2")
    expect(page.locator("#viewer .place")).to_contain_text("3 of")
    shown = picture(page)
    play.click()
    page.wait_for_function("window.places.at(-1) !== 2")
    page.locator("#viewer [name=place]").fill("2")  # who moves it wants to look at it
    expect(play).to_have_text("Play")
    expect(page.locator("#viewer .place")).to_contain_text("3 of")
    assert picture(page) == shown


def test_what_is_no_clip_is_refused_with_a_sentence(page: Page) -> None:
    send(page, as_file(b"no clip", "clip.mp4"))
    expect(page.locator("#viewer .message")).to_contain_text("This browser cannot play clip.mp4")
