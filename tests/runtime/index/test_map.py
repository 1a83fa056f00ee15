"""A collection as a map: clusters and places that hold together, and a page that is safe."""

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import bareclip
from bareclip import Index, MapPoint, Overview, StoreError, VectorError
from bareclip.scoring.vectors import normalize
from bareclip.show.map import map_page
from tests.runtime.serve import browser
from tests.runtime.test_cli import complaint, run

HOSTILE = "</script><img src=x onerror=\"document.title='evil'\"><b>{{data}}&\u202e\u2028"


def clusters(centres: NDArray[np.floating], each: int, noise: float) -> NDArray[np.float32]:
    rng = np.random.default_rng(0)
    rows = np.repeat(centres, each, axis=0)
    return normalize(rows + noise * rng.standard_normal(rows.shape)).astype(np.float32)


class TestOverview:
    @pytest.fixture(autouse=True)
    def _needs_sklearn(self) -> None:
        pytest.importorskip("sklearn", reason="needs bareclip[map]")

    def test_clusters_are_found_named_and_kept_together(self, index: Index) -> None:
        labels = ["cat", "red", "a very long label of a tree", "blue square", "4"]
        clip = index._clip
        assert clip is not None
        texts = clip.embed_texts([f"a photo of a {label}" for label in labels])
        # What all have in common, as a model's pictures do, and what sets them apart.
        apart = normalize(texts - texts.mean(axis=0)) + 0.8 * np.eye(1, 20, 3)
        index.add([f"{i}" for i in range(200)], clusters(apart, 40, 0.02))
        found = index.overview(labels, clusters=5)
        assert found.total == len(found.points) == 200
        for i, point in enumerate(found.points):
            assert (point.item, found.clusters[point.cluster]) == (str(i), labels[i // 40])
        places = np.array([(point.x, point.y) for point in found.points])
        assert places.min() >= 0
        assert places.max() <= 1
        distances = np.linalg.norm(places[:, None] - places, axis=2) + 9 * np.eye(200)
        same = distances.argmin(axis=1) // 40 == np.arange(200) // 40
        assert same.mean() > 0.97
        assert index.overview(labels, clusters=5) == found

    def test_a_sample_and_a_folder(self, index: Index, photos: Path) -> None:
        index.sync(photos)
        index.add([f"v{i}" for i in range(60)], clusters(np.eye(6, 20), 10, 0.1))
        found = index.overview(points=30)
        assert (len(found.points), found.total) == (30, 72)
        assert len({point.item for point in found.points}) == 30
        below = index.overview(under=photos / "a")
        assert {Path(point.item).parent.name for point in below.points} == {"a", "b"}
        assert below.points[0].sha256 is not None
        # Those that ship.
        assert set(found.clusters) <= set(
            (Path(bareclip.__file__).parent / "index" / "vocabulary.txt").read_text().splitlines()
        )

    @pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 9])
    def test_few_and_equal_ones(self, index: Index, count: int) -> None:
        index.add([f"v{i}" for i in range(count)], np.eye(1, 20).repeat(count, axis=0))
        found = index.overview(clusters=4)
        assert len(found.points) == count
        assert len(found.clusters) == 1
        assert all(0 <= place <= 1 for point in found.points for place in (point.x, point.y))

    def test_without_a_model_and_without_photos(self, index: Index) -> None:
        index.add([], [])
        with pytest.raises(StoreError, match="holds no photos for a map"):
            index.overview()
        index.add(["a", "b"], np.eye(2, 20))
        with pytest.raises(VectorError, match="points is 0"):
            index.overview(points=0)
        with Index.open(index.path) as bare:
            assert bare.overview(clusters=2).clusters == ["cluster 1", "cluster 2"]
            with pytest.raises(StoreError, match="opened without a model"):
                bare.overview(["a"])

    def test_the_command(self, photos: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
        db, page = tmp_path / "photos.db", tmp_path / "out.html"
        run("index", photos, "--db", db, "--bundle", bundles["tiny"])
        options = ["--html", page, "--labels", f"cat,dog,{HOSTILE}", "--clusters", "3"]
        said = run("map", db, *options).stdout.splitlines()
        assert said[-1] == f"12 of 12 photos are on {page}"
        found = json.loads(run("map", db, *options, "--json").stdout)
        assert sum(one["photos"] for one in found["clusters"]) == found["photos"] == 12
        data = data_of(page.read_text(encoding="utf-8"))
        assert len(data["names"]) == 12
        assert "cannot write" in complaint("map", db, "--html", tmp_path / "x.png")


def data_of(page: str) -> Any:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


COLOURS = [(200, 0, 0), (0, 160, 0), (0, 0, 220), (200, 160, 0)]


@pytest.fixture
def overview(tmp_path: Path) -> Overview:
    """Four photos of one colour each in two clusters, with names that would do harm."""
    points = []
    for i, colour in enumerate(COLOURS):
        path = tmp_path / f"{i} {HOSTILE.replace('/', chr(0x2215))}.png"
        Image.new("RGB", (200, 120), colour).save(path)
        points.append(MapPoint(str(path), (i % 2) * 1.0, (i // 2) * 1.0, i // 2, None))
    return Overview([*points, MapPoint(HOSTILE, 0.5, 0.5, 1, None)], [HOSTILE, "b"], 99)


def test_a_page_holds_every_photo(overview: Overview) -> None:
    page = map_page(overview, HOSTILE)
    data = data_of(page)
    assert page.count("<script") == page.count("</script>") == 2
    assert "\u2028" not in page
    # Nothing is fetched from anywhere.
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    [sheet] = data["sheets"]
    image = Image.open(io.BytesIO(base64.b64decode(sheet.partition(",")[2])))
    side, across = data["side"], data["sheet"] // data["side"]
    for i, colour in enumerate([*COLOURS, (226, 226, 222)]):
        centre = (i % across * side + side // 2, i // across * side + side // 2)
        np.testing.assert_allclose(image.getpixel(centre), colour, atol=8)
    assert [bool(link) for link in data["links"]] == [True] * 4 + [False]
    known = data_of(map_page(overview, "x", anything=False))["sheets"][0]
    image = Image.open(io.BytesIO(base64.b64decode(known.partition(",")[2])))
    np.testing.assert_allclose(image.getpixel((side // 2, side // 2)), (226, 226, 222), atol=8)


def test_many_photos_are_on_several_sheets_of_bounded_size(tmp_path: Path) -> None:
    path = tmp_path / "one.png"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(path)
    points = [MapPoint(str(path), 0.5, 0.5, 0, None)] * 6000
    data = data_of(map_page(Overview(points, ["a"], 6000), "x"))
    across = data["sheet"] // data["side"]
    assert len(data["sheets"]) == -(-6000 // across**2) > 1
    # Noise is what JPEG is worst at.
    assert sum(map(len, data["sheets"])) < 30e6


@pytest.fixture
def page(overview: Overview, tmp_path: Path) -> Iterator[browser.Browser]:
    if not browser.found():
        pytest.skip("needs Chromium and its driver")
    path = tmp_path / "map.html"
    path.write_text(map_page(overview, f"title {HOSTILE}"), encoding="utf-8")
    with browser.Browser(tmp_path / "profile") as found:
        found.size(1280, 800)
        found.open(path.as_uri())
        found.wait("return sheets.every(sheet => sheet) && width > 1")
        yield found


def place(page: browser.Browser, point: int) -> list[float]:
    return page.run(f"return [(x[{point}] - left) * scale, (y[{point}] - top_) * scale]")


def test_hover_click_and_clusters_in_a_browser(page: browser.Browser, overview: Overview) -> None:
    point = """const box = plane.getBoundingClientRect(), [kind, px, py] = arguments;
      plane.dispatchEvent(new PointerEvent(kind, {pointerId: 1, clientX: box.left + px,
        clientY: box.top + py}));"""
    page.run("plane.setPointerCapture = () => {}")  # of pointers that are real
    for i in range(5):
        page.run(point, "pointermove", *place(page, i))
        shown = page.run("return [byId('name').textContent, byId('link').href, under]")
        assert shown[2] == i
        assert shown[0].endswith(".png") or i == 4
        assert shown[0].count("</script>") == (i == 4)
        assert (i == 4) == shown[1].endswith("#")
    pixel = page.run(
        "return [...byId('large').getContext('2d').getImageData(9, 9, 1, 1).data].slice(0, 3)"
    )
    np.testing.assert_allclose(pixel, (226, 226, 222), atol=8)
    for kind in ("pointerdown", "pointerup", "pointerleave"):
        page.run(point, kind, *place(page, 1))
    assert page.run("return kept") == 1
    assert page.run("return byId('about').hidden") is False
    buttons = "return [...document.querySelectorAll('#clusters button')].map(b => b.innerText)"
    first, second = page.run(buttons)
    assert "<img src=x onerror=" in first
    assert second.split() == ["b", "3"]
    page.click("#clusters li:nth-child(2) button")
    assert page.run("return chosen") == 1
    page.click("#in")
    assert page.run("return moves") is True


def test_no_name_does_harm_and_a_phone_scrolls_nowhere(page: browser.Browser) -> None:
    assert page.run("return document.title").startswith("title </script><img")
    assert page.run("return document.querySelectorAll('b, img').length") == 0
    for width in (390, 1280):
        page.size(width, 800)
        assert page.run("return document.documentElement.scrollWidth") == width
        assert page.run("return plane.getBoundingClientRect().height") > 300
        drawn = """draw(); const {data} = context.getImageData(0, 0, plane.width, plane.height);
          return data.some((v, i) => i % 4 === 3 && v)"""
        assert page.wait(drawn)
    # But for our own looking at pixels.
    assert [one for one in page.complaints() if "getImageData" not in one] == []
