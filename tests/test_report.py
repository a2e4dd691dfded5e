"""The report as a reader sees it, in a real browser: that of a run that never was, and the committed one."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import run_made_up

PAGE = Path(__file__).parent.parent / "reports" / "index.html"
BROWSER = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
AXE = "axe-core@4.10.3"

committed = pytest.mark.skipif(not PAGE.exists(), reason="reports/index.html is not there; run `make repro`")


@committed
def test_the_page_needs_no_other_file_and_is_under_ten_megabytes():
    text = PAGE.read_text()
    assert not re.findall(r'<(?:script|link)[^>]*(?:src|href)="(?!data:)', text)
    assert all(source.startswith("data:") for source in re.findall(r'<img[^>]*src="([^"]*)', text))
    assert PAGE.stat().st_size < 10_000_000


@committed
def test_no_number_is_missing():
    assert not re.findall(r"(?i)>\s*(?:nan|none|inf|undefined)\s*<", PAGE.read_text())


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    return run_made_up.report(tmp_path_factory.mktemp("run"), "mnist", "cifar10") / "reports/index.html"


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium on this machine; install the package chromium")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        window = engine.chromium.launch(executable_path=BROWSER, args=FLAGS, timeout=0)
        yield window
        window.close()


@pytest.fixture
def reader(browser, made_up):
    """Give reader(width, **options): the made-up report in a new window; in the end nothing was loaded or logged."""
    requests, errors, windows = [], [], []

    def read(width: int, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.set_default_timeout(0)
        page.on("request", lambda request: requests.append(request.url))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        windows.append(page)
        page.goto(made_up.as_uri())
        return page

    yield read
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert errors == []
    for page in windows:
        page.close()


@pytest.mark.parametrize("width", [1600, 900, 360])
def test_a_reader_sees_every_picture_and_link(reader, width):
    page = reader(width)
    page.wait_for_function("[...document.images].every(image => image.complete)")
    assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0)")
    assert page.evaluate("[...document.images].every(image => image.alt.length > 20)")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    anchors = page.evaluate("[...document.querySelectorAll('nav a')].map(a => a.getAttribute('href').slice(1))")
    assert all(page.locator(f"[id='{anchor}']").count() == 1 for anchor in anchors)


@pytest.mark.parametrize("width", [1600, 360])
def test_the_first_screen_has_the_finding_and_no_verdict_is_cut_off(reader, width):
    page = reader(width)
    finding = page.locator(".finding").bounding_box()
    assert finding["y"] + finding["height"] < 700
    assert page.locator(".claim svg.forest").first.bounding_box()["y"] < 900
    assert page.evaluate("""[...document.querySelectorAll('.claim .said')].every(said => {
        const box = said.getBoundingClientRect(); return box.width > 0 && box.right <= innerWidth })""")


TOUCHING = """[...document.querySelectorAll('.plot, svg.ruler')].flatMap(axis =>
    ['.tick.x', '.tick.y', 'text'].flatMap(kind => {
        const boxes = [...axis.querySelectorAll(kind)].map(label => [label.textContent, label.getBoundingClientRect()]);
        return boxes.flatMap(([one, a], i) => boxes.slice(i + 1).filter(([_, b]) =>
            a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
            .map(([other]) => one + ' ' + other)) }))"""
BESIDE = """[...document.querySelectorAll('.places span span')].filter(place => {
    const text = document.createRange(); text.selectNodeContents(place);
    const marks = place.closest('.cell-row').querySelector('svg.forest').getBoundingClientRect();
    return text.getBoundingClientRect().right > marks.left }).map(place => place.textContent)"""


@pytest.mark.parametrize("width", [1600, 1030, 770, 360, 320])
def test_no_tick_label_touches_another_and_no_place_its_marks(reader, width):
    page = reader(width)
    assert page.evaluate(TOUCHING) == []
    assert page.evaluate(BESIDE) == []


def test_a_claim_unfolds_with_the_keyboard_and_has_its_rule(reader):
    page = reader(900)
    page.locator("#C2 > summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#C2 .inside").get_by_text("below 0").first.is_visible()


def test_curves_tell_their_values_under_the_pointer_and_by_the_arrow_keys(reader):
    page = reader(900)
    plot = page.locator("#figure-1a .plot").first
    plot.hover(force=True)
    assert " %" in plot.locator(".tip").inner_text()
    plot.focus()
    page.keyboard.press("ArrowLeft")
    before = plot.locator(".tip").inner_text()
    page.keyboard.press("ArrowLeft")
    assert plot.locator(".tip").inner_text() != before


def test_sliders_and_choices_change_the_pictures(reader):
    page = reader(900)
    explorer = page.locator("#explore-mnist")
    place = "(tile) => getComputedStyle(tile).backgroundPosition"
    gradient = explorer.locator("[data-tile=gradient]")
    before = gradient.evaluate(place)
    explorer.locator("[name=eps]").focus()
    page.keyboard.press("Home")
    standard = gradient.evaluate(place)
    assert standard != before
    assert "standard" in explorer.locator("[data-eps]").inner_text()
    explorer.locator("[data-choice=image]").first.focus()
    page.keyboard.press("ArrowRight")
    assert gradient.evaluate(place) != standard
    explorer.locator("[name=share]").focus()
    page.keyboard.press("End")
    assert explorer.locator("[data-tile=to]").evaluate("(tile) => tile.style.opacity") == "1"


def test_dark_and_light_are_the_systems_and_a_button_changes_them(reader):
    page = reader(900, color_scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    picture = "getComputedStyle(document.querySelector('figure img')).filter"
    dark, dim = page.evaluate(colour), page.evaluate(picture)
    page.locator("#theme").click()
    light = page.evaluate(colour)
    assert dark != light
    assert dim != page.evaluate(picture) == "none"  # white figures do not glare
    assert reader(900, color_scheme="light").evaluate(colour) == light


def test_the_page_reads_without_scripts(reader):
    page = reader(900, java_script_enabled=False)
    assert page.locator(".controls").first.is_hidden()
    assert page.locator(".explorer .picture").first.is_visible()
    assert page.locator(".chart .line").count() > 8


@pytest.fixture(scope="module")
def axe(tmp_path_factory):
    """Give the script of axe-core, from npm."""
    folder = tmp_path_factory.mktemp("axe")
    if shutil.which("npm") is None:
        pytest.skip("no npm on this machine, so axe-core is not there")
    packed = subprocess.run(["npm", "pack", "--silent", AXE], cwd=folder, capture_output=True, text=True, check=False)
    if packed.returncode:
        pytest.skip(f"npm cannot be reached, so {AXE} is not there")
    shutil.unpack_archive(folder / packed.stdout.strip().splitlines()[-1], folder, "gztar")
    return folder / "package" / "axe.min.js"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(reader, axe, scheme):
    page = reader(900, color_scheme=scheme)
    page.add_script_tag(path=axe)
    page.evaluate("document.querySelectorAll('details').forEach(details => { details.open = true })")
    found = page.evaluate("axe.run()")
    serious = [rule for rule in found["violations"] if rule["impact"] in ("serious", "critical")]
    assert not serious, json.dumps([{"id": rule["id"], "html": rule["nodes"][0]["html"]} for rule in serious], indent=1)


def test_on_paper_everything_is_unfolded(reader):
    page = reader(900)
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details[open]").count() == 0
