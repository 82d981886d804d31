"""Without decoding: the picture shows the library's raw scores, and says in how many pixels they break the tree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from hierseg.page import payload
from hierseg.photo import open_photo
from hierseg.predictor import Prediction
from hierseg.tree import Hierarchy
from tests.page.driver import BEST, CARDS, PHOTO, SECOND, choose, picture, saved, slide, undecoded
from tests.rounding import APART, TURNED

STRIPES = np.array([(255, 225, 0), (0, 0, 0)])


def expected_picture(prediction: Prediction, level: str) -> tuple[npt.NDArray[np.int_], npt.NDArray[np.bool_]]:
    """Return the colours of what is on, int (H, W, 3), and where they are certain; black where there is nothing."""
    tree, scores = prediction.hierarchy, prediction.scores
    nodes = list(tree.levels[level])
    on = scores[nodes] > 0.5
    count = np.maximum(1, on.sum(0))[..., None]
    colors = np.round(np.einsum("nhw,nc->hwc", on, np.array(tree.colors)[nodes]) / count).astype(int)
    sure = (np.abs(scores - 0.5) > APART).all(0)
    return colors, sure


@pytest.mark.parametrize("level", ["body", "parts"])
def test_every_node_that_is_on_is_shown_and_what_is_impossible_is_striped(
    viewer: Page, predictions: dict[str, Prediction], level: str, tmp_path: Path
) -> None:
    choose(viewer, "checkpoint", "bce")
    choose(viewer, "level", level)
    viewer.locator("#viewer [name=outlines]").uncheck()
    slide(viewer, "opacity", 100)
    undecoded(viewer)
    path = saved(viewer, "picture", tmp_path)
    assert path.name == "hierseg-bce-single-undecoded.png"
    with Image.open(path) as image:
        found = np.asarray(image.convert("RGB")).astype(int)
    prediction = predictions["bce"]
    broken = prediction.violations()
    colors, sure = expected_picture(prediction, level)
    somebody = colors.any(-1) & sure & ~broken
    assert (np.abs(found - colors).max(-1)[somebody] <= 1).mean() > 1 - TURNED
    marked = (np.abs(found[..., None, :] - STRIPES).max(-1) <= 1).any(-1)
    assert marked[broken & sure].all()
    assert (found[broken & sure].sum(-1) > 0).any() and (found[broken & sure].sum(-1) == 0).any()  # both colours
    bare = ~colors.any(-1) & sure & ~broken
    photo = open_photo(PHOTO).astype(int)
    assert np.abs(found - photo).max(-1)[bare].mean() < 3  # but for JPEG


def shares_in_words(words: str) -> list[float]:
    told = re.findall(r"no pixel|(\d) pixels? in ([\d,]+)", words)
    return [int(part) / int(whole.replace(",", "")) if part else 0.0 for part, whole in told]


def test_the_shares_are_the_librarys_in_every_view_that_shows_raw_scores(
    viewer: Page, predictions: dict[str, Prediction], tmp_path: Path
) -> None:
    def share(name: str) -> float:
        found = predictions[name].summary()["raw_violations_of_person"]
        assert found is not None
        return float(found)

    undecoded(viewer)
    caption = viewer.locator("#viewer .caption")
    for view, names in (("single", [BEST]), ("slider", [BEST, SECOND]), ("both", [BEST, SECOND])):
        choose(viewer, "view", view)
        expect(caption).to_contain_text("Of the person's pixels")
        said = shares_in_words(caption.inner_text())
        assert said == pytest.approx([share(name) for name in names], rel=0.3)  # of a few pixels, one may turn
        figures = json.loads(saved(viewer, "json", tmp_path).read_text())
        for one in figures["checkpoints"]:
            summary = predictions[one["name"]].summary()
            assert one["raw_violations"] == pytest.approx(summary["raw_violations"], abs=TURNED)
            assert one["raw_violations_of_person"] == pytest.approx(share(one["name"]), abs=TURNED)
    for name in CARDS:
        choose(viewer, "view", "single")
        choose(viewer, "checkpoint", name)
        expect(caption).to_contain_text(CARDS[name].title)


def test_the_switch_acts_where_it_is_offered_and_hides_what_would_not(viewer: Page) -> None:
    switch = viewer.get_by_role("switch", name="Without decoding")
    cut_off = viewer.locator("#viewer [name=threshold]")
    for view in ("single", "slider", "both"):
        choose(viewer, "view", view)
        expect(cut_off).to_be_visible()
        decoded = picture(viewer)
        switch.check()
        assert picture(viewer) != decoded
        expect(cut_off).to_be_hidden()
        switch.uncheck()
        assert picture(viewer) == decoded
    switch.check()
    choose(viewer, "view", "differences")
    expect(switch).to_be_hidden()
    expect(cut_off).to_be_visible()
    choose(viewer, "view", "single")
    expect(switch).to_be_checked()


def test_a_hidden_node_is_hidden_without_decoding_too(viewer: Page) -> None:
    undecoded(viewer)
    whole = picture(viewer)
    hidden = viewer.locator("#viewer .tree [data-node=head]").get_by_role("checkbox")
    hidden.uncheck()
    assert picture(viewer) != whole
    hidden.check()
    assert picture(viewer) == whole


def test_bits_say_of_any_number_of_nodes_which_are_on(tree: Hierarchy) -> None:
    random = np.random.default_rng(3)
    for nodes in (1, 8, 9, 17):
        masks = random.random((nodes, 5, 6)) > 0.5
        packed = payload.bits(masks)
        assert packed.shape == (-(-nodes // 8), 5, 6)
        np.testing.assert_array_equal(np.unpackbits(packed, axis=0, bitorder="little")[:nodes], masks)
