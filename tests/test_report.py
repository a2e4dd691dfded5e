"""The committed report as a reader sees it, in a real browser."""

import re
import shutil
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "reports" / "index.html"
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]

pytestmark = pytest.mark.skipif(not PAGE.exists(), reason="reports/index.html is not there; run `make repro`")


def test_the_page_needs_no_other_file():
    text = PAGE.read_text()
    assert not re.findall(r'<(?:script|link)[^>]*(?:src|href)="', text)
    assert all(source.startswith("data:") for source in re.findall(r'<img[^>]*src="([^"]*)', text))


def test_no_number_is_missing():
    assert not re.findall(r"(?i)>\s*(?:nan|none|inf|undefined)\s*<", PAGE.read_text())


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium on this machine; install the package chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        window = engine.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield window
        window.close()


@pytest.mark.parametrize("width", [1280, 390])
def test_a_reader_sees_every_picture_and_link(browser, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(PAGE.as_uri())
    assert page.locator("figure").count() >= 8
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.evaluate("[...document.images].every(image => image.alt.length > 20)")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    anchors = page.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
    assert all(page.locator(f"[id='{anchor}']").count() == 1 for anchor in anchors)
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert errors == []
    page.close()
