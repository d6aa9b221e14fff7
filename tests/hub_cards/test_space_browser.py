"""The page in a real browser: by mouse, by keyboard, on a phone; what goes wrong is said in words.

Needs gradio, playwright and a chromium of the system; pictures of each page are left in pytest's folder.
"""

import importlib.util
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import tiny_multimodal
import torch
from PIL import Image

from compalign.modeling import ComAlignConfig, ComAlignModel
from compalign.scripts.space import RELEASED

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
MISSING += [] if CHROMIUM else ["a chromium on the path"]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
PATIENCE = 60_000  # milliseconds


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the command serves its page, with tiny models of the kinds that may not be released yet."""
    folder = tmp_path_factory.mktemp("served")
    torch.manual_seed(0)
    config = ComAlignConfig(hidden_size=64, entities=4, relations=6, backbone="scenes_base")
    ComAlignModel(config).save_pretrained(folder / "tiny_comalign")
    tiny_multimodal.make_model("llava").save_pretrained(folder / "tiny_cal")
    tiny_multimodal.make_processor("llava").save_pretrained(folder / "tiny_cal")
    with serving(folder / "log.txt", str(folder / "tiny_comalign"), str(folder / "tiny_cal")) as found:
        yield found


class serving:
    """Run `compalign space` on a free port until its page answers, and stop it afterwards."""

    def __init__(self, log: Path, *models: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log, self.models = log, models

    def __enter__(self) -> str:
        flags = ["--port", str(self.port), *(["--models", *self.models] if self.models else [])]
        command = [sys.executable, "-m", "compalign.scripts.space", *flags]
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        address = f"http://127.0.0.1:{self.port}"
        until = time.monotonic() + 120
        while time.monotonic() < until and self.process.poll() is None:
            try:
                urllib.request.urlopen(address, timeout=5).close()
                return address
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.5)
        self.__exit__()
        raise RuntimeError(f"the page did not come up:\n{self.log.read_text()}")

    def __exit__(self, *error) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture(scope="module")
def browser():
    """One chromium for all pages."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # A container has no user namespaces for the sandbox, and the page is ours.
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def open_page(browser, address):
    """Open the page in a window of some size, and wait for the first comparison."""
    opened = []

    def visit(viewport=DESKTOP):
        page = browser.new_page(viewport=viewport)
        opened.append(page)
        page.set_default_timeout(PATIENCE)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.problems.extend(elsewhere(request.url, address)))
        page.goto(address)
        page.locator("#verdict li").first.wait_for()
        return page

    yield visit
    for page in opened:
        assert page.problems == []
        page.close()


def elsewhere(url: str, address: str) -> list[str]:
    """The address of what is fetched from another machine, if it is."""
    return [] if url.startswith((address, "data:", "blob:")) else [url]


def sideways(page) -> int:
    """Pixels by which the page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth - window.innerWidth")


def captions(page):
    """The field of captions."""
    return page.get_by_label("Captions")


def said(page) -> str:
    """The text of the error that is shown; closes it."""
    toast = page.get_by_test_id("toast-body")
    text = toast.last.inner_text()
    page.get_by_test_id("toast-close").last.click()
    toast.last.wait_for(state="detached")
    return text


def test_a_first_comparison_is_there_on_arrival(open_page, tmp_path):
    page = open_page()
    assert "scenes_base prefers caption" in page.locator("#verdict").inner_text()
    assert page.locator("#chart img").evaluate("image => image.naturalWidth") > 500
    page.get_by_role("button", name="The numbers as a table").click()
    page.locator("#numbers tr").first.wait_for()
    assert page.locator("#numbers tr").count() == 5
    page.screenshot(path=tmp_path / "desktop.png", full_page=True)


def test_foils_are_proposed_and_compared(open_page):
    page = open_page()
    captions(page).fill("a red cat left of a black heart")
    page.get_by_role("button", name="Propose foils").click()
    page.get_by_text("Foils added:").wait_for()
    lines = captions(page).input_value().splitlines()
    assert len(lines) > 1
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="The numbers as a table").click()
    page.wait_for_function(f"document.querySelectorAll('#numbers tr').length == {len(lines) + 1}")


def test_everything_can_be_done_by_keyboard(open_page):
    page = open_page()
    captions(page).focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("a black heart")
    page.keyboard.press("Enter")
    page.keyboard.type("a yellow star")
    page.keyboard.press("Shift+Enter")
    page.get_by_text("prefers caption 1, the true one").first.wait_for()
    assert captions(page).input_value() == "a black heart\na yellow star"
    for name in ("Propose foils", "Scene 1", "Scene 2"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.innerText").strip() == name
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelector('#captions textarea').value.split('\\n').length == 4")
    page.get_by_role("tab", name="Compare").focus()
    for _ in range(2):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.get_by_label("Prompt").focus()
    page.keyboard.press("Control+A")
    page.keyboard.type("What is it?")
    page.keyboard.press("Enter")
    page.locator("#weights ruby").first.wait_for()


def test_every_field_and_button_has_a_name(open_page):
    page = open_page()
    for tab in ("Compare", "ComAlign", "CAL"):
        page.get_by_role("tab", name=tab).click()
        nameless = page.evaluate(
            """[...document.querySelectorAll('input, textarea, button')]
            .filter(part => part.checkVisibility())
            .filter(part => !(part.labels?.length || part.ariaLabel || part.title || part.innerText.trim()))
            .map(part => part.outerHTML)"""
        )
        assert nameless == []


def test_regions_and_phrases_are_matched(open_page, tmp_path):
    page = open_page()
    page.get_by_role("tab", name="ComAlign").click()
    page.get_by_role("button", name="Match").click()
    page.locator("#phrases li").first.wait_for()
    assert page.locator("#phrases h3").count() == 4
    assert page.locator("#phrases li b").count() >= 8
    page.locator("#regions img").wait_for()
    page.screenshot(path=tmp_path / "comalign.png", full_page=True)


def test_tokens_are_weighed(open_page, tmp_path):
    page = open_page()
    captions(page).fill("a black heart")
    page.get_by_role("tab", name="CAL").click()
    page.get_by_role("button", name="Weigh").click()
    page.locator("#weights ruby").first.wait_for()
    words = page.locator("#weights ruby").evaluate_all("all => all.map(one => one.firstChild.textContent)")
    assert words[:3] == ["a", "black", "heart"]
    page.screenshot(path=tmp_path / "cal.png", full_page=True)


def test_mistakes_are_told_in_words(open_page, tmp_path):
    page = open_page()
    page.get_by_label("Models", exact=True).fill("nobody/nothing")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Compare").click()
    assert "nobody/nothing" in said(page)
    assert "scenes_base prefers" in page.locator("#verdict").inner_text()  # what was there stays
    captions(page).fill("")
    page.get_by_role("button", name="Compare").click()
    assert "There is no caption yet" in said(page)
    captions(page).fill("a star\na star")
    page.get_by_role("button", name="Propose foils").click()
    page.get_by_test_id("toast-body").last.wait_for()
    page.wait_for_timeout(500)  # until the message stands still
    page.screenshot(path=tmp_path / "mistake.png")
    page.set_viewport_size(PHONE)
    page.screenshot(path=tmp_path / "mistake_on_a_phone.png")
    assert sideways(page) <= 0
    assert "Caption 2 repeats caption 1" in said(page)


def test_an_upload_is_read_or_refused_in_words(open_page, tmp_path):
    photo, wide = tmp_path / "photo.jpg", tmp_path / "wide.png"
    Image.new("RGB", (64, 48), "orange").save(photo)
    Image.new("1", (8000, 5001)).save(wide)
    page = open_page()
    upload(page, photo)
    captions(page).fill("an orange wall\na blue wall")
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="The numbers as a table").click()
    page.get_by_role("cell", name="1 an orange wall").wait_for()
    page.get_by_role("tab", name="ComAlign").click()
    page.get_by_role("button", name="Match").click()
    assert "name a detector, or choose one of the scenes" in said(page)
    upload(page, wide)
    page.get_by_role("button", name="Match").click()
    assert "wide.png: 8000 x 5001 pixels; accepted: at most 40,000,000 pixels" in said(page)


def upload(page, path: Path) -> None:
    """Replace the image."""
    page.locator("#image").get_by_label("Remove Image").click()
    with page.expect_response(lambda response: "/upload" in response.url):
        page.locator("#image input[type=file]").set_input_files(path)
    page.locator("#image img").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_of_it_without_sideways_scrolling(open_page, tmp_path, scheme):
    page = open_page(PHONE)
    page.emulate_media(color_scheme=scheme)
    page.reload()
    page.locator("#verdict li").first.wait_for()
    assert sideways(page) <= 0
    for tab, button, found in (("ComAlign", "Match", "#phrases li"), ("CAL", "Weigh", "#weights ruby")):
        page.screenshot(path=tmp_path / f"before_{tab}.png", full_page=True)
        page.get_by_role("tab", name=tab).click()
        page.get_by_role("button", name=button).click()
        page.locator(found).first.wait_for()
        assert sideways(page) <= 0
        wide = page.locator(found).evaluate_all("all => Math.max(...all.map(one => one.getBoundingClientRect().right))")
        assert wide <= PHONE["width"]
    page.screenshot(path=tmp_path / "phone.png", full_page=True)


def test_a_page_without_such_models_says_what_is_missing(browser, tmp_path):
    released = {path.name for path in Path(str(RELEASED)).iterdir()}
    if released != {"scenes_base"}:
        pytest.skip(f"more than the base is released: {', '.join(sorted(released))}")
    with serving(tmp_path / "log.txt") as address:
        page = browser.new_page(viewport=DESKTOP)
        page.set_default_timeout(PATIENCE)
        page.goto(address)
        page.get_by_role("tab", name="ComAlign").click()
        page.get_by_text("None is offered here yet: type a Hub id or a folder of ComAlign's heads.").wait_for()
        page.get_by_role("button", name="Match").click()
        assert "No model is chosen; accepted: ComAlign's heads" in said(page)
        page.close()
