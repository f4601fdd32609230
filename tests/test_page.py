"""The page of the server in Chromium: what a person drops, pastes or chooses is predicted and shown,
in both languages, at both widths, and nothing but the server is asked."""

import base64
import io
import os
from pathlib import Path

import numpy as np
import pytest
from browser import chromium
from PIL import Image

pytest.importorskip("fastapi", reason="the extra serve is not installed")
pytest.importorskip("uvicorn", reason="the extra serve is not installed")

from server_process import running
from test_server import BOXES, MASKED, TINY

from resnets import load
from resnets.server.limits import Limits
from resnets.server.served import open_model

WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}
DROP = """([text, type]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], "x.png", {type}));
  document.dispatchEvent(new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true}));
}"""
PASTE = (
    DROP.replace("DragEvent", "ClipboardEvent")
    .replace('"drop"', '"paste"')
    .replace("dataTransfer:", "clipboardData:")
)


def noise(size=(120, 80)):
    stream = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def browser():
    with chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream") as found:
        yield found


@pytest.fixture(scope="module")
def address():
    with running([open_model(TINY), BOXES, MASKED], Limits(megapixels=1)) as (host, port):
        yield f"http://{host}:{port}/"


@pytest.fixture
def opened(browser, address):
    """Opens the page; afterwards nothing may have been complained of, and nobody else asked."""
    contexts, complaints = [], []

    def open_page(**options):
        context = browser.new_context(**{"viewport": WIDE} | options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda one: complaints.append(one.text))
        page.on("pageerror", lambda one: complaints.append(str(one)))
        page.on(
            "request",
            lambda one: (
                one.url.startswith((address, "blob:", "data:")) or complaints.append(one.url)
            ),
        )
        page.goto(address)
        page.wait_for_selector("#facts dd")
        return page

    yield open_page
    for context in contexts:
        assert not context.cookies()
        context.close()
    assert not complaints


def give(page, content, how=DROP, kind="image/png"):
    page.evaluate(how, [base64.b64encode(content).decode(), kind])


def shown(page):
    page.wait_for_selector("#result:not([hidden])")
    return page.locator("#bars li span:first-child").first.inner_text()


@pytest.mark.parametrize("how", [DROP, PASTE])
@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_an_image_that_is_dropped_or_pasted_shows_its_class(opened, viewport, how):
    page, content = opened(viewport=viewport), noise()
    give(page, content, how)
    expected = load(TINY, threads=1).predict_image(content)
    assert shown(page) == expected.label
    assert expected.label in page.locator("#status").inner_text()  # a live region
    assert "%" in page.locator("#bars").inner_text()
    assert "ms" in page.locator("#took").inner_text()
    width = page.evaluate("document.documentElement.scrollWidth")
    assert width <= viewport["width"]
    bars = page.locator(".track > span").evaluate_all("all => all.map((one) => one.offsetWidth)")
    assert bars == sorted(bars, reverse=True)
    assert bars[0] > bars[-1]


def test_the_map_and_the_crop_are_shown_on_request(opened):
    page = opened()
    page.set_input_files("#file", {"name": "x.png", "mimeType": "image/png", "buffer": noise()})
    shown(page)
    views = page.locator("#views button")
    assert views.evaluate_all("all => all.map((one) => one.dataset.view)") == [
        "image",
        "overlay",
        "heat",
    ]
    assert page.locator("#views [aria-pressed=true]").get_attribute("data-view") == "heat"
    assert page.locator("#seen").is_hidden()
    page.get_by_role("button", name="Image", exact=True).press("Enter")
    assert page.locator("#image").get_attribute("src").startswith("blob:")
    seen, image = (page.locator(one).bounding_box() for one in ("#seen", "#image"))
    left, _, right, _ = load(TINY).preprocessing.view(80, 120).box
    assert seen["width"] / image["width"] == pytest.approx((right - left) / 120, abs=0.03)


@pytest.mark.parametrize(("model", "first"), [("boxes", "bee"), ("masked", "ant")])
def test_other_tasks_are_drawn_too(opened, model, first):
    page = opened()
    page.select_option("#model", model)
    give(page, noise((16, 16)))
    assert shown(page) == first
    assert page.locator("#views [aria-pressed=true]").get_attribute("data-view") == "overlay"
    assert page.locator("#image").evaluate("one => one.decode().then(() => one.naturalWidth)") == 16


def test_the_camera_takes_a_picture(opened):
    page = opened()
    page.get_by_role("button", name="Use the camera").click()
    page.locator("#video").evaluate(
        "one => new Promise((done) => one.videoWidth ? done() : (one.onloadedmetadata = () => done()))"
    )
    page.get_by_role("button", name="Take the picture").click()
    assert shown(page) in load(TINY).classes
    assert page.locator("#live").is_hidden()


def test_errors_are_told_in_place(opened):
    page = opened()
    give(page, b"text", kind="text/plain")
    assert page.locator("#status.error").inner_text() == "That is not an image."


def test_korean_by_the_language_of_the_browser(opened):
    page = opened(locale="ko-KR")
    assert page.locator("html").get_attribute("lang") == "ko"
    give(page, noise())
    shown(page)
    text = page.locator("body").inner_text()
    assert "예측 결과" in text
    assert "Prediction" not in text
    empty = page.locator("[data-text]").evaluate_all("all => all.filter((one) => !one.textContent)")
    assert not empty


def test_everything_can_be_reached_by_keyboard_and_has_a_name(opened):
    page = opened()
    give(page, noise())
    shown(page)
    reached = set()
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.dataset.view || ''")
        )
    assert {"model", "file", "camera", "image", "overlay", "heat"} <= reached
    assert page.locator("#image").get_attribute("alt")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW])
def test_axe_finds_no_serious_fault(opened, scheme, viewport):
    """With `AXE` naming a copy of axe.min.js, which is not part of the repository."""
    axe = os.environ.get("AXE")
    if not axe:
        pytest.skip("no axe-core: name axe.min.js in the environment variable AXE")
    page = opened(color_scheme=scheme, viewport=viewport)
    give(page, noise())
    shown(page)
    page.evaluate(Path(axe).read_text("utf-8"))
    found = page.evaluate("axe.run()")
    assert found["passes"]
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert not serious, [(one["id"], one["nodes"][0]["html"]) for one in serious]
