"""The page with one and three checkpoints: what is offered, and that any two of them can be compared."""

from __future__ import annotations

import csv
import itertools
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from hierseg.metrics import count, iou, level_means
from hierseg.page.payload import LEVEL_TITLES
from hierseg.predictor import Prediction
from hierseg.tree import Hierarchy
from tests.page.conftest import watched
from tests.page.driver import (
    PHOTO,
    as_file,
    choose,
    compare,
    done,
    downloaded,
    hover,
    listen_to_the_message,
    mask,
    ready,
    saved,
    segment,
    send_clip,
    send_several,
    send_truth,
    spoken,
    too_large,
)
from tests.rounding import TURNED, assert_figures, assert_labels
from tests.server import TITLES, marked_photo, page_of, running_page

VISITED = "tiny_address"

RANKED = ["leaf", "bce", "ftm"]  # the best first, the one without figures last


def offered(page: Page) -> list[str]:
    return [legend.inner_text() for legend in page.locator("#viewer .bar legend").all() if legend.is_visible()]


def titles(page: Page) -> list[str]:
    return page.locator("#viewer [data-choice=checkpoint] label").all_text_contents()


def test_the_best_is_shown_first_and_two_are_compared_where_nobody_chose_others(
    viewer: Page, found: dict[str, Prediction], tmp_path: Path, tree: Hierarchy
) -> None:
    assert offered(viewer) == ["Level", "View", "Trained with"]
    assert titles(viewer) == [TITLES[name] for name in RANKED]
    assert_labels(mask(saved(viewer, "mask", tmp_path)), found[RANKED[0]])
    choose(viewer, "view", "slider")
    assert offered(viewer) == ["Level", "View", "Compare"]
    figures = json.loads(saved(viewer, "json", tmp_path).read_text())
    assert figures["tree"] == tree.to_dict()
    assert [each["name"] for each in figures["checkpoints"]] == RANKED[:2]
    for each in figures["checkpoints"]:
        assert each["threshold"] == found[each["name"]].threshold
        for node, area in found[each["name"]].summary()["areas"].items():
            assert each["areas"][node] == pytest.approx(area, abs=0.01)
    expect(viewer.locator("#viewer .quote span")).to_be_hidden()  # it names bce and ftm


def test_of_one_checkpoint_nothing_is_offered_that_needs_others(
    context: BrowserContext, tiny: dict[str, Path], found: dict[str, Prediction], tmp_path: Path
) -> None:
    folder = page_of(tmp_path / "site", {"bce": tiny["bce"]})
    with running_page(tmp_path / "uploads", folder) as url, watched(context.new_page(), url) as page:
        segment(page, PHOTO)
        assert offered(page) == ["Level"] and titles(page) == [TITLES["bce"]]
        assert_labels(mask(saved(page, "mask", tmp_path)), found["bce"])


def test_any_two_of_three_are_compared(viewer: Page, found: dict[str, Prediction], tmp_path: Path) -> None:
    choose(viewer, "view", "differences")
    for pair in itertools.permutations(RANKED, 2):
        compare(viewer, *pair)
        one, other = (found[name].labels for name in pair)
        said = viewer.locator("#viewer .caption").inner_text()
        for words, where in (
            ("differ on", one != other),
            (f"only {TITLES[pair[0]]}", (one != 0) & (other == 0)),
            (f"only {TITLES[pair[1]]}", (one == 0) & (other != 0)),
        ):
            share = re.search(rf"{words} (< )?([\d.]+) %", said)
            assert share, said
            expected = 0.05 if share[1] else float(share[2])  # under a tenth of a percent is not told more exactly
            assert 100 * where.mean() == pytest.approx(expected, abs=0.05 + 100 * TURNED)
        hover(viewer, 200, 200)
        read_out = [line for line, _ in spoken(viewer)]
        assert viewer.locator("#viewer .tree-of b").all_inner_texts() == [TITLES[name] for name in pair]
        for place, name in enumerate(pair):
            assert read_out[place].startswith(TITLES[name])
        path = saved(viewer, "json", tmp_path)
        assert path.name == f"hierseg-{'-'.join(pair)}-figures.json"
        for area, name in zip(json.loads(path.read_text())["checkpoints"], pair, strict=True):
            expected = found[name].areas()["head"].share_of_photo
            assert area["name"] == name
            assert area["areas"]["head"]["share_of_photo"] == pytest.approx(expected, abs=TURNED)
        quote = viewer.locator("#viewer .quote")
        expect(quote.get_by_role("link")).to_be_visible()
        expect(quote.locator("span")).to_be_visible(visible=set(pair) == {"bce", "ftm"})  # it names these


def test_nobody_is_compared_with_itself_and_who_was_looked_at_takes_part(viewer: Page) -> None:
    canvas = viewer.locator("#viewer .stage canvas")
    choose(viewer, "view", "slider")
    viewer.locator("#viewer [name=hierseg-first]").select_option("bce")
    expect(canvas).to_have_attribute("data-second", "leaf")  # the two change places
    viewer.locator("#viewer [name=hierseg-second]").focus()
    viewer.keyboard.press("End")
    expect(canvas).to_have_attribute("data-second", "ftm")
    choose(viewer, "view", "single")
    for name in ("bce", "leaf"):
        choose(viewer, "checkpoint", name)
    choose(viewer, "view", "both")
    assert canvas.get_attribute("data-first") == "bce" and canvas.get_attribute("data-second") == "leaf"


def test_the_ground_truth_is_held_against_the_two_on_view(
    viewer: Page, found: dict[str, Prediction], tmp_path: Path, tree: Hierarchy
) -> None:
    truth = np.roll(found["bce"].labels, 12, axis=1)
    truth[:40] = tree.void
    np.save(tmp_path / "truth.npy", truth)
    send_truth(viewer, tmp_path / "truth.npy")
    viewer.locator("#viewer .truth tbody tr").first.wait_for()
    choose(viewer, "view", "both")
    compare(viewer, "ftm", "leaf")
    table = viewer.locator("#viewer .truth")
    assert table.locator("thead th").all_inner_texts() == ["IoU", TITLES["ftm"], TITLES["leaf"]]
    rows = {
        row.locator("th").inner_text(): row.locator("td").all_inner_texts() for row in table.locator("tbody tr").all()
    }
    for column, name in enumerate(("ftm", "leaf")):
        ious = iou(count({name: found[name].labels}, truth, tree), name)
        levels = {LEVEL_TITLES.get(level, level): mean for level, mean in level_means(ious, tree).items()}
        nodes = dict(zip([name.replace("_", " ") for name in tree.nodes], ious, strict=False))
        for title, value in {**levels, **nodes}.items():
            written = "\N{EN DASH}" if np.isnan(value) else f"{value:.3f}".removeprefix("0")
            assert_figures(rows[title][column], written)


def test_several_photos_are_saved_with_the_two_on_view(page: Page, tmp_path: Path) -> None:
    send_several(page, [as_file(marked_photo(mark), f"{mark}.jpg") for mark in range(2)])
    done(page)
    choose(page, "view", "differences")
    compare(page, "ftm", "leaf")
    with zipfile.ZipFile(downloaded(page, ".save-all", tmp_path)) as archive:
        assert {f"0{mark + 1}-{mark}/mask-{name}-parts.png" for mark in range(2) for name in ("ftm", "leaf")} == {
            name for name in archive.namelist() if "mask" in name
        }
        figures = json.loads(archive.read("01-0/figures.json"))
    assert [each["name"] for each in figures["checkpoints"]] == ["ftm", "leaf"]


def test_a_clips_time_line_is_that_of_the_checkpoint_on_view(page: Page) -> None:
    send_clip(page)
    done(page)
    lines = set()
    for name in ("bce", "ftm", "leaf"):
        choose(page, "checkpoint", name)
        lines.add(page.locator("#viewer .shares").evaluate("line => line.toDataURL()"))
    assert len(lines) == 3


def test_the_live_camera_compares_any_two(page: Page) -> None:
    page.locator("#viewer .live").click()
    ready(page)
    choose(page, "view", "differences")
    compare(page, "leaf", "ftm")
    with page.expect_response(re.compile("/frame")):
        pass
    expect(page.locator("#viewer .rate")).to_contain_text("pictures a second")
    expect(page.locator("#viewer .caption")).to_contain_text("only Softmax over leaves")
    expect(page.locator("#viewer .caption")).to_contain_text("only Focal-Tree-Min")
    page.locator("#viewer .live").click()


def test_a_photo_that_fails_does_not_end_the_rest(page: Page, tmp_path: Path) -> None:
    # The server is lost twice while the second photo is sent, and for as long as the third is.
    answers = iter([True, False, False, True, False, False, False, False, True])

    def serve(route: Route) -> None:
        if next(answers):
            route.continue_()
        else:
            route.fulfill(status=200, body="no server is there")

    page.route(re.compile("/photo$"), serve)
    photos = [tmp_path / f"{name}.jpg" for name in ("one", "two", "lost", "three")]
    for path in photos:
        path.write_bytes(marked_photo(1))
    send_several(page, [too_large(tmp_path), *photos])
    done(page)
    assert page.locator("#viewer .progress").inner_text() == "3 of 5 photos segmented"
    assert page.locator("#viewer .failures li").all_inner_texts() == [
        "large.jpg: This file is larger than 15 MB.",
        "lost.jpg: The server cannot be reached. Try again in a moment.",
    ]
    expect(page.locator("#viewer .place")).to_have_text("3 of 3: three.jpg")


def test_no_photo_of_many_is_left_out(page: Page, tmp_path: Path) -> None:
    answer: list[bytes] = []

    def serve(route: Route) -> None:  # one photo is answered, the others get the same answer
        answer[:] = answer or [route.fetch().body()]
        route.fulfill(status=200, body=answer[0])

    page.route(re.compile("/photo$"), serve)
    listen_to_the_message(page)
    send_several(page, [as_file(marked_photo(1), f"{number}.jpg") for number in range(60)])
    done(page)
    assert "Segmenting 60 photos …" in page.evaluate("window.said")
    assert page.locator("#viewer .progress").inner_text() == "60 of 60 photos segmented"
    assert page.locator("#viewer .thumbnails button").count() == 60
    with downloaded(page, ".save-shares", tmp_path).open(newline="") as file:
        assert [line["path"] for line in csv.DictReader(file)] == [f"{number}.jpg" for number in range(60)]


def test_a_long_clip_is_said_to_be_cut(page: Page) -> None:
    page.evaluate("Object.defineProperty(HTMLMediaElement.prototype, 'duration', { get: () => 42.25 })")
    listen_to_the_message(page)
    send_clip(page)
    expect(page.locator("#viewer .progress")).to_contain_text("segmented: the first 15 of 42 seconds")
    page.locator("#viewer .stop").click()
    done(page)
    assert "Segmenting the first 15 of 42 seconds of the clip …" in page.evaluate("window.said")
