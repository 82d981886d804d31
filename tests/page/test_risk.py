"""The choice of a risk: offered where it can be promised, and then the masks are the library's at its certainty."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page, expect

from hierseg.network import checkpoint
from hierseg.predictor import Prediction, Predictor
from hierseg.risk import Promise, RiskControl
from hierseg.tree import Hierarchy
from tests.page.driver import PHOTO, choose, compare, mask, picture, saved, slide
from tests.rounding import assert_labels
from tests.server import page_of, running_page

CERTAINTIES = {  # of tiny checkpoints, by "1 in so many"; leaf was not measured
    "bce": {1: 0.0, 3: 0.0, 5: 0.5, 10: 0.7},
    "ftm": {1: 0.0, 3: 0.45, 5: 0.6},
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory, tiny: dict[str, Path], tree: Hierarchy) -> dict[str, Path]:
    """The three, of which two can promise risks."""
    folder = tmp_path_factory.mktemp("risk")
    shutil.copytree(tiny["bce"].parent, folder, dirs_exist_ok=True)
    paths = {name: folder / path.name for name, path in tiny.items()}
    for number, (name, certainties) in enumerate(CERTAINTIES.items()):
        card = checkpoint.read_card(paths[name])
        promises = tuple(
            Promise(one_in, certainty, 0.3 - certainty / 5, {"parts": 1.0}) for one_in, certainty in certainties.items()
        )
        risk = RiskControl(promises, card.inference, 200, "a", 307, "b")
        lines = tuple((1 + number, (node - 4) / 8) for node in range(len(tree)))
        checkpoint.write_card(paths[name], dataclasses.replace(card, risk=risk, calibration=lines))
    return paths


@pytest.fixture(scope="module")
def found(tiny: dict[str, Path]) -> dict[str, Prediction]:
    return {name: Predictor(path).predict(PHOTO) for name, path in tiny.items()}


@pytest.fixture(scope="module")
def address(tiny: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_page(tmp_path_factory.mktemp("uploads"), page_of(tmp_path_factory.mktemp("site"), tiny)) as url:
        yield url


def control(page: Page) -> Locator:
    return page.get_by_label("Stop at the parent when unsure")


def offered(page: Page) -> list[str]:
    return control(page).locator("option").all_text_contents()


def test_a_chosen_risk_stops_pixels_where_the_library_does(
    viewer: Page, found: dict[str, Prediction], tmp_path: Path, tree: Hierarchy
) -> None:
    choose(viewer, "checkpoint", "bce")
    prediction, promise = found["bce"], viewer.locator("#viewer .promise")
    assert offered(viewer) == ["off", "wrong at most 1 in 5", "wrong at most 1 in 10"]  # 1 in 3 would stop nothing
    expect(promise).to_have_text("Of the pixels called a person, 30 % had a wrong name on 307 photos.")
    assert_labels(mask(saved(viewer, "mask", tmp_path)), prediction)
    before = picture(viewer)
    for one_in, wrong in ((5, "20 %"), (10, "16 %")):
        control(viewer).select_option(f"wrong at most 1 in {one_in}")
        expect(promise).to_contain_text(f"at most 1 in {one_in} has a wrong name")
        expect(promise).to_contain_text(f"On 307 other photos, {wrong} had.")
        certainty = prediction.certainty(1 / one_in)
        assert certainty == CERTAINTIES["bce"][one_in]
        assert_labels(mask(saved(viewer, "mask", tmp_path)), prediction, certainty=certainty)
        assert picture(viewer) != before
        figures = json.loads(saved(viewer, "json", tmp_path).read_text())
        assert figures["risk"] == 1 / one_in
        (told,) = figures["checkpoints"]
        assert told["certainty"] == certainty
        for name, area in prediction.areas(certainty=certainty).items():
            assert told["areas"][name]["share_of_person"] == pytest.approx(area.share_of_person, abs=0.01)
            assert told["areas"][name]["confidence"] == pytest.approx(area.confidence, abs=0.01)  # both calibrated
    assert (prediction.decoded(certainty=certainty).labels != prediction.labels).mean() > 0.01
    control(viewer).select_option("off")
    assert picture(viewer) == before


def test_two_are_compared_at_the_risks_that_both_can_promise(
    viewer: Page, found: dict[str, Prediction], tree: Hierarchy
) -> None:
    choose(viewer, "view", "both")
    compare(viewer, "bce", "ftm")
    caption = viewer.locator("#viewer .caption")
    assert offered(viewer) == ["off", "wrong at most 1 in 3", "wrong at most 1 in 5"]
    expect(caption).to_have_text("")
    control(viewer).select_option("wrong at most 1 in 5")
    expect(viewer.locator("#viewer .promise")).to_contain_text(
        "On 307 other photos, 20 % with BCE and 18 % with Focal-Tree-Min had."
    )
    shares = re.fullmatch(
        r"At this risk BCE names parts for (\d+) % of the person's pixels, Focal-Tree-Min for (\d+) %\.",
        caption.inner_text(),
    )
    assert shares
    for name, share in zip(("bce", "ftm"), shares.groups(), strict=True):
        shown = found[name].decoded(certainty=found[name].certainty(1 / 5)).labels
        leaves = np.isin(shown, [tree.labels[leaf] for leaf in tree.leaves])
        assert float(share) == pytest.approx(100 * leaves.sum() / (shown != tree.background).sum(), abs=1)
    choose(viewer, "view", "differences")
    expect(caption).not_to_contain_text("At this risk")
    compare(viewer, "bce", "leaf")
    expect(control(viewer)).to_be_hidden()  # of leaf nothing was measured


def test_what_cannot_be_promised_is_not_kept_and_comes_back_where_it_can(
    viewer: Page, found: dict[str, Prediction], tmp_path: Path
) -> None:
    choose(viewer, "checkpoint", "bce")
    control(viewer).select_option("wrong at most 1 in 10")
    for other in ("ftm", "leaf"):
        choose(viewer, "checkpoint", other)
        assert_labels(mask(saved(viewer, "mask", tmp_path)), found[other])
    expect(control(viewer)).to_be_hidden()
    choose(viewer, "checkpoint", "bce")
    expect(control(viewer)).to_have_value("10")
    slide(viewer, "threshold", 40)
    expect(control(viewer)).to_be_disabled()
    expect(viewer.locator("#viewer .promise")).to_contain_text("only at the checkpoint's own person cut-off")
    assert_labels(mask(saved(viewer, "mask", tmp_path)), found["bce"], threshold=0.4)
    slide(viewer, "threshold", 55)  # its own
    expect(control(viewer)).to_have_value("10")
    viewer.locator("#viewer .reset").click()
    expect(control(viewer)).to_have_value("1")


@pytest.mark.parametrize(
    ("context", "scheme"),
    [((1280, 900, 1), "light"), ((360, 740, 3), "dark")],
    indirect=["context"],
    ids=["desktop", "phone"],
    scope="session",
)
def test_the_choice_can_be_made_by_keyboard_and_read_by_everyone(viewer: Page, scheme: str) -> None:
    viewer.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    viewer.reload()
    viewer.locator("#viewer .viewer[data-state=example]").wait_for()
    choose(viewer, "checkpoint", "bce")
    control(viewer).focus()
    viewer.keyboard.press("ArrowDown")
    expect(control(viewer)).to_have_value("5")
    box, side = control(viewer).bounding_box(), viewer.locator("#viewer .settings").bounding_box()
    assert box and side
    assert side["x"] <= box["x"] and box["x"] + box["width"] <= side["x"] + side["width"] + 1
    assert box["height"] >= (44 if viewer.evaluate("matchMedia('(pointer: coarse)').matches") else 24)
    described = viewer.locator(f"#{control(viewer).get_attribute('aria-describedby')}")
    expect(described).to_contain_text("at most 1 in 5")
    results = Axe().run(viewer, "#viewer .risk")
    assert results.violations_count == 0, results.generate_report()
