"""The page in Chromium: what it answers, without a mouse, on a phone, to a screen reader."""

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import bareclip

from . import browser
from .browser import HOME, RIGHT, SPACE, TAB, Browser
from .running import PICTURES, Running

pytestmark = pytest.mark.skipif(not browser.found(), reason="Chromium is not installed")

CAT, DOG = PICTURES / "cat.png", PICTURES / "dog.png"


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("indexed")
    with bareclip.load() as clip, bareclip.Index.open(folder / "photos.db", clip) as index:
        index.sync(PICTURES)
    with Running("--db", folder / "photos.db") as running:
        yield running


@pytest.fixture
def page(indexed: Running, tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as found:
        found.size(1000, 900)
        found.open(indexed.url)
        found.wait("return document.getElementById('model').textContent.includes('demo')")
        yield found
        assert found.complaints() == []


def test_classify_shows_bars(page: Browser) -> None:
    page.upload("#files", CAT, DOG)
    page.click("#classify button.main")
    page.wait("return document.querySelectorAll('.answer .bars').length === 2")
    best = "return [...document.querySelectorAll('.answer')].map("
    best += "(one) => one.querySelector('.bars .name').textContent)"
    assert page.run(best) == ["cat", "dog"]
    widths = "return [...document.querySelector('.bars').querySelectorAll('.fill')].map("
    widths += "(one) => one.getBoundingClientRect().width)"
    found = page.run(widths)
    assert found == sorted(found, reverse=True)
    assert found[0] > 10 * found[1] > 0
    assert "2 of 2 classified" in page.run("return document.getElementById('status').textContent")


def test_a_bad_file_costs_no_other(page: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(CAT.read_bytes()[:500])
    page.upload("#files", bad, DOG)
    page.click("#classify button.main")
    page.wait("return document.querySelectorAll('.answer .bars').length === 1")
    assert "damaged" in page.run("return document.querySelector('.answer .wrong').textContent")
    # The browser itself notes that a request was answered with 400.
    assert all("400" in line for line in page.complaints())


def test_compare(page: Browser) -> None:
    page.click("#tab-compare")
    page.upload("#files", DOG)
    page.click("#compare button.main")
    page.wait("return document.querySelectorAll('.bars li').length === 2")
    shown = page.run("return document.querySelectorAll('.bars li')[1].textContent")
    assert re.search(r"a photo of a dog(9\d\.\d|> 99\.9) %, cosine 0\.\d+", shown)


@pytest.mark.parametrize("way", ["words", "picture"])
def test_search_shows_thumbnails(page: Browser, way: str) -> None:
    page.click("#tab-search")
    if way == "words":
        page.run("document.getElementById('query').value = 'a cat'")
        page.click("#search button.main")
    else:
        page.upload("#files", CAT)
        page.click("#by-picture")
    loaded = "const all = [...document.querySelectorAll('.grid img')];"
    loaded += "return all.length > 3 && all[0].complete && all[0].naturalWidth > 10"
    page.wait(loaded)
    assert page.run("return document.querySelector('.grid img').alt") == "cat.png"


def test_keyboard_alone(page: Browser) -> None:
    page.upload("#files", CAT)
    page.run("document.activeElement.blur()")
    order = []
    for _ in range(8):
        page.press(TAB)
        order.append(page.run("return document.activeElement.id || document.activeElement.tagName"))
    assert order == [
        "A",
        "files",
        "BUTTON",
        "tab-classify",
        "labels",
        "templates",
        "BUTTON",
        "BODY",
    ]
    page.run("document.getElementById('tab-classify').focus()")
    page.press(RIGHT)
    assert page.run("return document.activeElement.id") == "tab-compare"
    assert page.run("return document.getElementById('compare').hidden") is False
    page.press(RIGHT, RIGHT)
    assert page.run("return document.activeElement.id") == "tab-classify"
    page.press(RIGHT, HOME)
    page.run("document.querySelector('#classify button.main').focus()")
    page.press(SPACE)
    page.wait("return document.querySelectorAll('.answer .bars').length === 1")
    page.run("document.querySelector('#pictures button').focus()")
    page.press(SPACE)
    assert page.run("return document.querySelectorAll('#pictures li').length") == 0
    assert page.run("return document.activeElement.id") == "files"


def test_what_a_screen_reader_is_told(page: Browser) -> None:
    page.upload("#files", CAT)
    page.click("#classify button.main")
    page.wait("return document.querySelectorAll('.answer .bars').length === 1")
    told = page.accessible()
    controls = {"button", "textbox", "combobox", "tab", "link", "image", "heading"}
    for node in told:
        if node["role"] in controls:
            # An answer's own picture is named by the heading beside it.
            assert node["name"], node
    names = {(node["role"], node["name"]) for node in told}
    assert {
        ("button", "Remove cat.png"), ("tab", "Classify"), ("textbox", "Labels"),
        ("combobox", "Prompts"), ("image", "cat.png"), ("heading", "cat.png"),
    } <= names  # fmt: skip
    [status] = [node for node in told if node["role"] == "status"]
    assert status["properties"]["live"] == "polite"
    [selected] = [n for n in told if n["role"] == "tab" and n["properties"].get("selected")]
    assert selected["name"] == "Classify"


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_scrolls_in_one_direction(page: Browser, width: int) -> None:
    page.size(width, 800)
    page.upload("#files", CAT, DOG)
    page.run("document.getElementById('labels').value = 'cat, ' + 'long'.repeat(40)")
    for tab in ("classify", "compare", "search"):
        page.click("#tab-" + tab)
        page.click(f"#{tab} button.main")
        page.wait("return document.getElementById('results').children.length > 0")
        assert page.run("return document.documentElement.scrollWidth") <= width
    small = "return [...document.querySelectorAll('button')].filter((one) => one.offsetParent &&"
    small += " (one.offsetHeight < 24 || one.offsetWidth < 24)).length"
    assert page.run(small) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(page: Browser, scheme: str) -> None:
    page.prefer(scheme)
    page.upload("#files", CAT)
    page.click("#classify button.main")
    page.wait("return document.querySelectorAll('.answer .bars').length === 1")
    script = """
      const of = (element, name) => {
        for (let one = element; one; one = one.parentElement) {
          const value = getComputedStyle(one)[name];
          if (name === 'color' || !value.endsWith(', 0)')) { return value; }
        }
        return getComputedStyle(document.documentElement)[name];
      };
      return [...document.querySelectorAll('h1, h2, p, label, button, a, .name, textarea')].filter(
        (one) => one.offsetParent && one.textContent.trim()).map(
        (one) => [one.textContent.trim().slice(0, 30), of(one, 'color'),
          of(one, 'backgroundColor')]);
    """
    found = page.run(script)
    assert len(found) > 10
    for text, ink, paper in found:
        # WCAG 2, level AA.
        assert contrast(ink, paper) >= 4.5, (text, ink, paper)
    bar = page.run("return getComputedStyle(document.querySelector('.fill')).backgroundColor")
    ink = page.run("return getComputedStyle(document.querySelector('.bars .name')).color")
    assert contrast(ink, bar) >= 4.5


def contrast(one: str, other: str) -> float:
    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(
            weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True)
        )

    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_the_policy_runs_nothing_else(page: Browser, indexed: Running) -> None:
    policy = httpx.get(indexed.url).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    page.run(
        """
        const script = document.createElement('script');
        script.textContent = 'window.injected = true';
        document.body.append(script);
        const picture = document.createElement('img');
        picture.setAttribute('onerror', 'window.injected = true');
        picture.src = '/nothing.png';
        document.body.append(picture);
        """
    )
    page.wait("return performance.getEntriesByName(location.origin + '/nothing.png').length")
    assert page.run("return window.injected") is None
    assert any("Content Security Policy" in line for line in page.complaints())
