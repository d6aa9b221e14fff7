"""The page in a real browser, from a file: filters, keyboard, phones, and nothing from the network.

Needs playwright and a chromium of the system; pictures of the page are left in pytest's folder.
"""

import importlib.util
import shutil

import numpy as np
import pytest
from evaluated import captions, evaluated, labels

from compalign.evaluation import write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MISSING = [] if importlib.util.find_spec("playwright") else ["playwright"]
MISSING += [] if CHROMIUM else ["a chromium on the path"]

pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 375, "height": 812}
RIGHT, WRONG, TIE = [0.2, 0.1], [0.1, 0.2], [0.1, 0.1]
EVIL = "a cup <img src=x onerror=alert(1)> </script><script>document.title = 'broken in'</script>"


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    """A page about three models, whose captions are an attack."""
    folder = tmp_path_factory.mktemp("page")
    choice, zero_shot = captions(90, texts=(EVIL, "a red cup beside a very long word: " + "m" * 90)), labels(20)
    own = np.array([[k % 2 == row for k in range(20)] for row in range(2)], dtype=float)[None]
    choices = {
        "base": [RIGHT, WRONG, TIE],
        "tuned": [RIGHT, RIGHT, TIE],
        "an-organisation/worse": [WRONG, WRONG, RIGHT],
    }
    results = [evaluated(name, [(choice, rows * 30), (zero_shot, own)]) for name, rows in choices.items()]
    write_report(results, [choice, zero_shot], folder / "index.html", gallery_items=60)
    return (folder / "index.html").as_uri()


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
    """Open the page in a window of some size; errors and requests fail the test at its end."""
    opened = []

    def visit(viewport=DESKTOP, anchor="", **options):
        page = browser.new_page(viewport=viewport, **options)
        opened.append(page)
        page.set_default_timeout(10_000)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("request", lambda request: page.problems.extend(elsewhere(request.url)))
        page.goto(address + anchor)
        page.locator("#items .item").first.wait_for()
        return page

    yield visit
    for page in opened:
        assert page.problems == []
        page.close()


def elsewhere(url: str) -> list[str]:
    """The address of what is neither the file nor inside it."""
    return [] if url.startswith(("file:", "data:")) else [url]


def status(page) -> str:
    """What the page says about the items that match."""
    return page.locator("#status").inner_text()


def test_filters_change_the_items_and_their_count(open_page):
    page = open_page()
    assert status(page) == "90 items match, of which this page carries 60; 24 shown."
    page.get_by_role("radio", name="fixed").check()
    assert status(page).startswith("30 items match")
    assert set(page.locator(".item .badge.fixed").all_inner_texts()) == {"fixed"}
    assert page.locator(".item .badge:not(.fixed):not(.tie)").count() == 0
    page.get_by_label("Kind").select_option("add")
    assert status(page) == "No item matches."
    page.get_by_role("radio", name="worse").check()
    page.get_by_role("radio", name="broken").check()
    assert status(page).startswith("30 items match")
    page.get_by_label("Benchmark").select_option("zero_shot")
    page.get_by_role("radio", name="all").check()
    assert status(page) == "20 items match; 20 shown."


def test_the_filters_are_in_the_address(open_page, address):
    page = open_page()
    page.get_by_label("Kind").select_option("swap")
    page.get_by_role("radio", name="worse").check()
    page.get_by_role("radio", name="fixed").check()
    anchor = page.url.removeprefix(address)
    assert anchor == "#benchmark=captions&kind=swap&model=worse&outcome=fixed"
    found = open_page(anchor=anchor)
    assert status(found) == status(page)
    assert found.get_by_role("radio", name="fixed").is_checked()
    nonsense = open_page(anchor="#benchmark=x&kind=y&model=z&outcome=w")
    assert status(nonsense).startswith("90 items match")


def test_more_items_are_shown_a_page_at_a_time(open_page):
    page = open_page()
    assert page.locator(".item").count() == 24
    page.get_by_role("button", name="Show 24 more").click()
    assert page.locator(".item").count() == 48
    assert page.evaluate("[...document.querySelectorAll('.item')].indexOf(document.activeElement)") == 24
    page.get_by_role("button", name="Show 12 more").click()
    assert page.locator(".item").count() == 60
    assert page.locator("#more").is_hidden()
    page.get_by_role("radio", name="both right").check()
    assert page.locator(".item").count() <= 24


def test_a_tie_is_marked_as_a_tie(open_page):
    page = open_page(anchor="#outcome=still+wrong&model=tuned")
    assert page.locator(".item .badge.tie").first.inner_text() == "tie: base, tuned"
    assert page.locator(".item").first.locator(".chosen-tie").count() == 4


def test_captions_are_inert(open_page):
    page = open_page()
    assert EVIL in page.locator(".item .true").first.inner_text()
    assert page.locator(".item img[src=x]").count() == 0
    assert "broken in" not in page.title()


def test_the_gallery_can_be_used_by_keyboard(open_page):
    page = open_page()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the gallery"
    page.get_by_label("Kind").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.value") == "fixed"
    assert "outcome=fixed" in page.url
    nameless = page.evaluate(
        """[...document.querySelectorAll('input, select')]
        .filter((part) => !part.labels.length)
        .map((part) => part.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("img:not([alt]), img[alt='']").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_needs_sideways_scrolling_and_every_text_has_contrast(open_page, tmp_path, viewport, scheme):
    page = open_page(viewport, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    for benchmark in ("zero_shot", "captions"):
        page.get_by_label("Benchmark").select_option(benchmark)
        assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    cut = "[...document.querySelectorAll('.item')].filter((item) => item.scrollWidth > item.clientWidth).length"
    assert page.evaluate(cut) == 0
    assert page.evaluate(FAINT) == []
    page.screenshot(path=tmp_path / "page.png", full_page=True)


# Texts whose contrast with the nearest opaque background is below 4.5, as WCAG computes it.
FAINT = """(() => {
  const rgb = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => [r, g, b]
    .map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, k) => sum + part * [0.2126, 0.7152, 0.0722][k], 0);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const found = rgb(getComputedStyle(element).backgroundColor);
      if (found.length === 3 || found[3] === 1) return found;
    }
  };
  const faint = new Set();
  for (const element of document.querySelectorAll('body *:not(svg *, script, noscript)')) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility()) continue;
    const [a, b] = [light(rgb(getComputedStyle(element).color)), light(behind(element))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.add(`${element.className || element.tagName}: ${contrast.toFixed(2)}`);
  }
  return [...faint];
})()"""
