"""Several photos, clips and the live camera in a real browser: what does not depend on what the networks say."""

from __future__ import annotations

import base64
import itertools
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Download, Page, Request, expect

from tests import REPOSITORY
from tests.heic import QUADRANTS, heic
from tests.page.driver import (
    PHOTO,
    as_file,
    choose,
    done,
    downloaded,
    every_screen,
    picture,
    pixels,
    ready,
    saved,
    send,
    send_clip,
    send_several,
)

VISITED = "small_address"


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
    frames: list[Request] = []
    page.on("requestfinished", lambda request: frames.append(request) if "/frame" in request.url else None)
    page.locator("#viewer .live").click()
    ready(page)
    expect(page.locator("#viewer .rate")).to_contain_text("pictures a second")
    choose(page, "view", "differences")
    choose(page, "view", "single")
    times = [request.timing for request in frames]
    assert len(times) > 1
    for before, after in itertools.pairwise(times):  # a frame is sent only when the one before has come back
        assert after["startTime"] >= before["startTime"] + before["responseEnd"] - 1
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
    assert held == [{"01-astronaut"}, {"02-camera"}, {"coco-bce.json", "shares.csv"}]


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
    assert saved(page, "picture", tmp_path).name == "hierseg-bce-single.png"  # and saving goes on working


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
    film = downloaded(page, ".save-all", tmp_path)
    expect(page.locator("#viewer .progress")).to_have_text("Saved")
    seen = page.evaluate(
        """async (url) => {
          const video = Object.assign(document.createElement("video"), { muted: true, src: url });
          await new Promise((resolve, reject) => { video.onloadeddata = resolve; video.onerror = reject; });
          return [video.videoWidth, video.videoHeight];
        }""",
        "data:video/webm;base64," + base64.b64encode(film.read_bytes()).decode(),
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
