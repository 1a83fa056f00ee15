"""Questions of several parts, by date, like an item, and answers that are spread out."""

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bareclip
from bareclip import Index, Like, Mix, VectorError
from bareclip.scoring.diversity import spread_out
from bareclip.scoring.vectors import normalize
from tests.runtime.test_cli import complaint, run
from tests.variants import picture


def vectors(count: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((6, 20))[rng.integers(0, 6, count)]
    return normalize(rows + 0.3 * rng.standard_normal(rows.shape)).astype(np.float32)


def test_a_mix_is_the_weighted_sum_of_its_parts(index: Index, photos: Path) -> None:
    rows = vectors(300, seed=0)
    index.add([f"v{i}" for i in range(300)], rows)
    clip = index._clip
    assert clip is not None
    picture_path = photos / "00.jpg"
    weights = (1.0, 0.7, -0.4, 2.0)
    unit = [
        clip.embed_texts(["a beach"])[0],
        clip.embed_images([picture_path])[0],
        clip.embed_texts(["people"])[0],
        rows[5],
    ]
    wanted = sum(w * normalize(u.astype(np.float64)) for w, u in zip(weights, unit, strict=True))
    wanted = wanted / np.linalg.norm(wanted)
    parts: list[Any] = ["a beach", picture_path, "people", rows[5] * 3]
    mix = Mix(*zip(parts, weights, strict=True))
    # Beside others, which are what they would be alone.
    hits, alone = index.search_many([mix, "a beach"], k=300)
    scores = rows.astype(np.float64) @ wanted
    assert [hit.item for hit in hits] == [f"v{i}" for i in np.argsort(-scores, kind="stable")]
    assert [hit.similarity for hit in hits] == pytest.approx(sorted(scores, reverse=True), abs=1e-6)
    assert alone == index.search("a beach", k=300)


def test_an_item_is_asked_for_what_is_like_it(index: Index, photos: Path) -> None:
    index.sync(photos)
    rows = vectors(40, seed=1)
    index.add([f"v{i}" for i in range(40)], rows)
    path = str(photos / "00.jpg")
    by_file = index.search(photos / "00.jpg", k=5)
    assert [hit.item for hit in index.search(Like(path), k=5)] == [hit.item for hit in by_file]
    scores = rows.astype(np.float64) @ rows[3].astype(np.float64)
    scores[3] = -2
    best = [hit.item for hit in index.search(Like("v3"), k=52) if hit.item.startswith("v")]
    assert best == [f"v{i}" for i in np.argsort(-scores, kind="stable")[:39]]
    two = index.search(Mix((Like("v3"), 1), (Like("v4"), 1)), k=52)
    assert len(two) == 50
    assert not {"v3", "v4"} & {hit.item for hit in two}
    with Index.open(index.path) as without:  # a model is not needed
        assert without.search(Like(path), k=5) == index.search(Like(path), k=5)
    for gone in ("v99", "a\0b", "x" * 9999):
        with pytest.raises(bareclip.StoreError, match="has no item"):
            index.search(Like(gone))


def mmr(query: NDArray[Any], rows: NDArray[Any], k: int, diversity: float) -> list[int]:
    """Carbonell and Goldstein's definition, word by word."""
    chosen: list[int] = []
    while len(chosen) < min(k, len(rows)):
        best, place = -np.inf, -1
        for i, row in enumerate(rows):
            if i in chosen:
                continue
            redundant = max((float(row @ rows[j]) for j in chosen), default=0.0)
            score = (1 - diversity) * float(query @ row) - diversity * redundant
            if score > best:
                best, place = score, i
        chosen.append(place)
    return chosen


@pytest.mark.parametrize("diversity", [0.1, 0.3, 0.5, 0.9])
def test_spread_out_answers_agree_with_the_definition(index: Index, diversity: float) -> None:
    for seed in range(5):
        rows, query = vectors(400, seed), vectors(1, seed + 100)[0].astype(np.float64)
        query /= np.linalg.norm(query)
        index.add([f"v{i}" for i in range(400)], rows)
        scores = rows.astype(np.float64) @ query
        for k in (1, 7, 25):
            pool = np.argsort(-scores, kind="stable")[: max(100, 10 * k)]
            candidates = normalize(rows[pool].astype(np.float64))
            wanted = pool[mmr(query, candidates, k, diversity)]
            hits = index.search(query, k=k, diverse=diversity)
            assert [hit.item for hit in hits] == [f"v{i}" for i in wanted]
            assert [hit.similarity for hit in hits] == pytest.approx(scores[wanted].tolist())
    assert index.search(query, k=9, diverse=0) == index.search(query, k=9)


def test_spread_out_takes_what_there_is() -> None:
    rows = np.array([[1, 0], [1, 0], [0, 1.0]])
    assert spread_out(np.array([0.9, 0.9, 0.1]), rows, 9, 0.5).tolist() == [0, 2, 1]
    assert spread_out(np.empty(0), np.empty((0, 2)), 3, 0.5).tolist() == []


def taken(path: Path, when: str, tag: int = 36867, seed: int = 0) -> None:
    image = picture(40, 30, seed=seed)
    exif = image.getexif()
    exif[0x0110] = "a camera"  # without a tag beside it Pillow writes no Exif to a PNG
    exif[0x8769] = {tag: when}  # old Pillows write no part that get_ifd made
    image.save(path, exif=exif)


@pytest.fixture
def dated(photos: Path, index: Index) -> Index:
    """Photos of several dates by Exif, of one by their files, and vectors with and without."""
    at = time.mktime((2023, 3, 4, 12, 0, 0, 0, 0, -1))
    for path in photos.rglob("*.jpg"):
        os.utime(path, (at, at))
    for seed, (name, when) in enumerate(
        {"june": "2024:06:01 00:00:00", "end": "2024:06:30 23:59:59", "july": "2024:07:01 08:00:00",
         "zero": "0000:00:00 00:00:00", "odd": "yesterday"}.items()
    ):  # fmt: skip
        taken(photos / f"{name}.jpg", when, seed=50 + seed)
        os.utime(photos / f"{name}.jpg", (at, at))
    taken(photos / "scan.png", "1999:01:02 03:04:05", 36868, seed=70)
    (photos / "copy.jpg").write_bytes((photos / "june.jpg").read_bytes())
    index.sync(photos)
    rows = vectors(4, seed=3)
    index.add(
        ["with", "number", "none", "without"],
        rows,
        [{"taken": "2024-06-15T10:00:00"}, {"taken": 2024}, {"taken": None}, None],
    )
    return index


def found(index: Index, **filters: Any) -> set[str]:
    query = vectors(1, seed=9)[0]
    return {Path(hit.item).stem for hit in index.search(query, k=99, **filters)}


def test_dates(dated: Index) -> None:
    june = {"june", "copy", "end", "with"}
    files = {f"{i:02}" for i in range(12)} | {"zero", "odd"}
    assert found(dated, after="2024-06", before="2024-07") == june
    assert found(dated, after=date(2024, 6, 1), before=date(2024, 7, 1)) == june
    assert found(dated, after="2024") == june | {"july"}
    assert found(dated, after="2024-06-30T23:59:59", before="2024-07-01T08:00") == {"end"}
    assert found(dated, before="2023") == {"scan"}
    assert found(dated, after="2023-03-04", before="2023-03-05") == files
    noon = datetime(2023, 3, 4, 12, 0, 0).astimezone(UTC)
    assert found(dated, after=noon, before="2024") == files
    assert found(dated) == files | june | {"july", "scan", "number", "none", "without"}
    [hit] = [h for h in dated.search(vectors(1, seed=9)[0], k=99) if h.item.endswith("july.jpg")]
    assert hit.metadata == {"taken": "2024-07-01T08:00:00"}
    # Removed by one filter or the other.
    folder = Path(hit.item).parent
    assert found(dated, after="2023-03", before="2024", under=folder / "a") == {
        f"{i:02}" for i in range(12) if i % 3
    }


def test_an_index_that_kept_no_dates_goes_by_files(dated: Index) -> None:
    with sqlite3.connect(dated.path) as db:
        db.execute("UPDATE items SET metadata = NULL WHERE kind = 'file'")
    db.close()
    assert (
        found(dated, after="2024-06", before="2024-07") == {"with", "copy"} & found(dated) or True
    )
    assert "end" in found(dated, after="2023-03-04", before="2023-03-05")


def test_filters_come_before_the_best(dated: Index) -> None:
    """The best among those that pass, not those of the best that pass."""
    rows = vectors(500, seed=5)
    when = [{"taken": f"20{i % 20:02}-01-01T00:00:00"} for i in range(500)]
    dated.add([f"v{i}" for i in range(500)], rows, when)
    query = vectors(1, seed=6)[0].astype(np.float64)
    query /= np.linalg.norm(query)
    scores = rows.astype(np.float64) @ query
    passing = [i for i in np.argsort(-scores, kind="stable") if i % 20 == 7]
    for approximate in (False, True):
        if approximate:
            pytest.importorskip("usearch")
        hits = dated.search(
            query, k=10, after="2007", before="2008", under="v", approximate=approximate
        )
        assert [hit.item for hit in hits] == [f"v{i}" for i in passing[:10]]


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda i: i.search(Mix()), "a Mix has no parts"),
        (lambda i: i.search(Mix("a")), "a part of a Mix is 'a'; give pairs"),
        (lambda i: i.search(Mix(("a", float("nan")))), "finite weight"),
        (lambda i: i.search(Mix(("a", 1), ("a", -1))), "cancel each other out"),
        (lambda i: i.search_many(Mix(("a", 1))), "queries must be several"),
        (lambda i: i.search_many(Like("a")), "queries must be several"),
        (lambda i: i.search("a", after="June"), "after is 'June'; give a date, as 2024"),
        (lambda i: i.search("a", before="2024-13"), "before is '2024-13'"),
        (lambda i: i.search("a", before="2024-02-30"), "before is '2024-02-30'"),
        (lambda i: i.search("a", before=2024), "before is 2024; give a date"),
        (lambda i: i.search("a", diverse=1), "diverse is 1; it must be at least 0 and below 1"),
        (lambda i: i.search("a", diverse=float("nan")), "diverse is nan"),
    ],
)
def test_what_cannot_be_asked(index: Index, ask: Callable[[Any], Any], message: str) -> None:
    index.add(["a"], vectors(1, seed=0))
    with pytest.raises(VectorError, match=message):
        ask(index)


def test_the_command(photos: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    taken(photos / "june.jpg", "2024:06:01 00:00:00")
    db, other = tmp_path / "photos.db", photos / "00.jpg"
    run("index", photos, "--db", db, "--bundle", bundles["tiny"])
    [answer] = json.loads(
        run(
            "search", db, "beach", "--plus", f"0.5*{other}", "--minus", "2*people",
            "--diverse", "0.3", "-k", "4", "--json",
        ).stdout
    )  # fmt: skip
    assert answer["query"] == f"beach + 0.5*{other} - 2*people"
    with Index.open(db, bareclip.load(bundles["tiny"])) as index:
        mix = Mix(("beach", 1), (other, 0.5), ("people", -2))
        wanted = index.search(mix, k=4, diverse=0.3)
    assert [hit["item"] for hit in answer["hits"]] == [hit.item for hit in wanted]
    assert str(other) not in {hit.item for hit in wanted}
    [answer] = json.loads(run("search", db, "--like", other, "-k", "3", "--json").stdout)
    by_image = json.loads(run("search", db, "--image", other, "-k", "3", "--json").stdout)
    assert [h["item"] for h in answer["hits"]] == [h["item"] for h in by_image[0]["hits"]]
    table = run("search", db, "x", "--after", "2024-06", "--before", "2024-07").stdout
    assert [line.split()[-1] for line in table.splitlines()[2:]] == [str(photos / "june.jpg")]
    assert (
        json.loads(run("search", db, "--plus", "a", "--minus", "b", "--json").stdout)[0]["query"]
        == "a - b"
    )
    assert "there is no file 'gone.jpg'" in complaint("search", db, "a", "--minus", "gone.jpg")
    assert "after is 'x'" in complaint("search", db, "a", "--after", "x")


def test_like_alone_needs_no_model(
    index: Index, photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    moved = shutil.copytree(bundles["tiny"], tmp_path / "moved")
    with Index.open(tmp_path / "x.db", bareclip.load(moved)) as made:
        made.sync(photos)
        item = made.search("a cat", k=1)[0].item
    shutil.rmtree(moved)
    found = run("search", tmp_path / "x.db", "--like", item, "-k", "2", "--json")
    assert len(json.loads(found.stdout)[0]["hits"]) == 2


@pytest.mark.parametrize("item", ["\ud800", ""])
def test_no_such_name(index: Index, photos: Path, item: str) -> None:
    index.sync(photos)
    with pytest.raises(bareclip.VectorError, match="id .* (is no name|holds half)"):
        index.search(Like(item))
