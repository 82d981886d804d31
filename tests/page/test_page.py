"""The real page, started as a process: through its API and, where a Chromium is installed, in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect

from hierseg.page.examples import read
from hierseg.photo import open_photo
from hierseg.predictor import Prediction
from hierseg.visualize import overlay
from tests import HANGS, REPOSITORY
from tests.page.conftest import watched
from tests.page.driver import BEST, CARDS, SECOND, ready
from tests.rounding import TURNED, assert_labels
from tests.server import Visitor, file

PHOTO = REPOSITORY / "examples" / "astronaut.jpg"


@pytest.fixture(scope="module")
def client(address: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    downloads = str(tmp_path_factory.mktemp("downloads"))
    return Client(address, verbose=False, download_files=downloads, httpx_kwargs={"timeout": HANGS})


@pytest.mark.parametrize(("checkpoint", "level"), [("bce", "body"), ("ftm", "upper-lower"), ("bce", "parts")])
def test_api_gives_what_the_library_gives(
    client: Client, predictions: dict[str, Prediction], checkpoint: str, level: str
) -> None:
    picture, mask, areas = client.predict(handle_file(str(PHOTO)), checkpoint, level, 0.5, api_name="/segment")
    photo, prediction = open_photo(PHOTO), predictions[checkpoint]
    labels = prediction.at_level(level)
    with Image.open(mask) as image:
        assert image.mode == "P"
        assert_labels(np.array(image), prediction, level)
    with Image.open(picture) as image:
        # JPEG changes colours a little; a missing overlay would be as far off as the bare photo is.
        expected = overlay(photo, labels, prediction.hierarchy, 0.5).astype(int)
        error = np.abs(np.array(image.convert("RGB")) - expected).mean()
        assert error < 0.6 * np.abs(photo - expected).mean()
    assert areas["areas"]["head"] == pytest.approx(prediction.summary()["areas"]["head"], abs=TURNED)


@pytest.mark.parametrize(
    ("name", "arguments", "sentence"),
    [
        ("segment", ("nothing", "parts", 0.5), "nothing is not in the list of choices"),
        ("segment", ("ftm", "toes", 0.5), "toes is not in the list of choices"),
        ("segment", ("ftm", "parts", 7), "greater than maximum value"),
        ("compare", ("parts", None, "bce", "bce"), "two checkpoints must differ"),
        ("compare", ("parts", None, "bce", "nothing"), "nothing is not in the list of choices"),
    ],
)
def test_api_refuses_wrong_choices_with_a_sentence(
    client: Client, name: str, arguments: tuple[Any, ...], sentence: str
) -> None:
    with pytest.raises(AppError, match=sentence):
        client.predict(handle_file(str(PHOTO)), *arguments, api_name=f"/{name}")


@pytest.mark.parametrize(
    ("named", "pair"),
    [
        ({}, (BEST, SECOND)),
        ({"first": SECOND}, (SECOND, BEST)),
        ({"second": BEST}, (SECOND, BEST)),
        ({"first": "ftm", "second": "bce"}, ("ftm", "bce")),
    ],
    ids=str,
)
def test_api_compares_like_the_library(
    client: Client, predictions: dict[str, Prediction], tmp_path: Path, named: dict[str, str], pair: tuple[str, str]
) -> None:
    one, other = (predictions[name] for name in pair)
    first, second = one.labels, other.labels
    np.save(tmp_path / "truth.npy", first)
    truth = handle_file(str(tmp_path / "truth.npy"))
    picture, figures = client.predict(handle_file(str(PHOTO)), "parts", truth, **named, api_name="/compare")
    assert tuple(figures["checkpoints"]) == pair
    assert figures["differ"]["share_of_photo"] == pytest.approx((first != second).mean(), abs=TURNED)
    only_first = ((first != 0) & (second == 0)).mean()
    assert figures["differ"][f"only_{pair[0]}"] == pytest.approx(only_first, abs=TURNED)
    ious = figures["checkpoints"][pair[0]]["iou"]["levels"]
    assert ious == pytest.approx({"body": 1, "upper-lower": 1, "parts": 1}, abs=0.01)
    assert 0 < figures["checkpoints"][pair[1]]["iou"]["levels"]["parts"] < 0.98
    head = other.summary()["areas"]["head"]
    assert figures["checkpoints"][pair[1]]["areas"]["head"] == pytest.approx(head, abs=TURNED)
    with Image.open(picture) as image:
        grey = np.ptp(np.array(image.convert("RGB")).astype(int), axis=2) < 24
    assert grey[first == second].mean() > 0.95  # elsewhere the photo has lost its colours


def test_a_comparison_without_a_ground_truth_or_names_is_of_the_best_two(client: Client, address: str) -> None:
    figures = client.predict(handle_file(str(PHOTO)), "body", None, api_name="/compare")[1]
    assert set(figures["checkpoints"]) == {BEST, SECOND}
    assert "iou" not in figures["checkpoints"][BEST]
    with Visitor(address) as visitor:  # Gradio's client fills in what is left out; other programs send what they have
        kind, answer = visitor.call("compare", file(visitor.upload(PHOTO.read_bytes())), "body", None)
    assert kind == "complete"
    assert answer[1] == figures


def test_the_same_photo_twice_gives_files_of_their_own(address: str) -> None:
    # Gradio writes a file of the same content anew, in place, while another visitor may be fetching it.
    client = Client(address, verbose=False, download_files=False, httpx_kwargs={"timeout": HANGS})
    calls = {"segment": ("bce", "parts", 0.5), "compare": ("parts", None)}
    for name, choices in calls.items():
        paths = []
        for _ in range(2):
            answer = client.predict(handle_file(str(PHOTO)), *choices, api_name=f"/{name}")
            paths += [value["path"] for value in answer if isinstance(value, dict) and "path" in value]
        assert len(set(paths)) == len(paths) == (4 if name == "segment" else 2)


def test_api_names_what_can_be_chosen(client: Client) -> None:
    described = client.view_api(return_format="dict")["named_endpoints"]
    assert set(described) == {"/segment", "/compare"}
    parameters = {entry["parameter_name"]: entry for entry in described["/segment"]["parameters"]}
    assert parameters["level"]["python_type"]["type"] == "Literal['body', 'upper-lower', 'parts']"
    assert parameters["checkpoint"]["parameter_default"] == BEST
    assert set(parameters["checkpoint"]["type"]["enum"]) == set(CARDS)


def test_api_refuses_what_is_not_a_photo_with_a_sentence(client: Client, tmp_path: Path) -> None:
    impostor = tmp_path / "photo.jpg"
    impostor.write_text("these are words")
    with pytest.raises(AppError, match="not a photo"):
        client.predict(handle_file(str(impostor)), "ftm", "parts", 0.5, api_name="/segment")


def test_the_page_opens_with_the_first_example_marks_it_and_shows_each_in_one_click(page: Page) -> None:
    buttons = page.locator("#examples").get_by_role("button")
    for button, example in zip(buttons.all(), read(REPOSITORY / "examples"), strict=True):
        expect(button).to_have_accessible_name(example.caption)
        assert button.get_by_text(example.caption).is_visible()
    expect(page.locator("#examples [aria-current=true]")).to_have_count(1)
    expect(buttons.first).to_have_attribute("aria-current", "true")
    expect(page.locator("#viewer .message")).to_be_hidden()  # nothing covers the picture
    assert page.locator("#viewer .tree").is_visible() and page.locator("#viewer .live").is_visible()
    page.locator("#examples button").first.click()
    ready(page)
    assert page.locator("#viewer .stage canvas").is_visible()


def test_a_page_at_rest_draws_no_frames(context: BrowserContext, address: str) -> None:
    page = context.new_page()
    page.add_init_script("""
        const request = window.requestAnimationFrame.bind(window);
        let asked = 0;
        window.requestAnimationFrame = (draw) => (asked++, request(draw));
        window.observe = async () => {
            for (let before = -1; before !== asked; ) {
                before = asked;
                for (let frame = 0; frame < 10; frame++) await new Promise(request);
            }
            window.rested = true;
        };
    """)
    with watched(page, address):
        page.evaluate("void window.observe()")
        page.wait_for_function("window.rested", polling=50)
