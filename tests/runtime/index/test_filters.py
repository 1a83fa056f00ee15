"""Filters: the same in everything that an index is asked, and what a loop over its rows says."""

import itertools
import json
import os
import random
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bareclip
from bareclip import Index, StoreError, VectorError
from bareclip.bundle import Scoring
from bareclip.index import photo_index
from bareclip.scoring.heads import Head
from bareclip.scoring.vectors import normalize
from bareclip.scoring.zero_shot import LabelMatrix
from tests.runtime.test_cli import complaint, run

LABELS = ("beach", "city", "a receipt")


@dataclass(frozen=True)
class Row:
    """What an index has of an item, read by hand."""

    name: str
    is_file: bool
    date: str | None
    tags: dict[str, float]
    vector: NDArray[np.floating[Any]]


def rows_of(path: Path) -> list[Row]:
    with closing(sqlite3.connect(path)) as db:
        items = db.execute(
            "SELECT id, kind, path, modified_ns, metadata, vector FROM items"
            " JOIN vectors ON item = id ORDER BY id"
        ).fetchall()
        tags = db.execute(
            "SELECT item, labels.label, probability FROM tags JOIN labels ON labels.id = tags.label"
        ).fetchall()
    found = []
    for item, kind, name, modified, metadata, vector in items:
        date = json.loads(metadata or "{}").get("taken")
        if not isinstance(date, str):
            date = None
            if modified is not None:
                date = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(modified // 10**9))
        own = {label: share for of, label, share in tags if of == item}
        unit = normalize(np.frombuffer(vector, "<f4").astype(np.float64))
        found.append(Row(os.fsdecode(name), kind == "file", date, own, unit))
    return found


def passes(row: Row, given: dict[str, Any]) -> bool:
    under, tag = given.get("under"), given.get("tag")
    if under is not None:
        start = os.fspath(under)
        if row.is_file and not isinstance(start, bytes):
            start = os.path.join(Path.cwd(), start)  # noqa: PTH118
        if not os.fsencode(row.name).startswith(os.fsencode(start)):
            return False
    if tag is not None and tag not in row.tags:
        return False
    after, before = given.get("after"), given.get("before")
    if after is None and before is None:
        return True
    return row.date is not None and (after or "") <= row.date < (before or "9")


@pytest.fixture
def asked(index: Index, photos: Path, clip: bareclip.Clip) -> Index:
    """Twelve files of several years and ninety vectors, some of a date, tagged at random."""
    rng = np.random.default_rng(0)
    for number, path in enumerate(sorted(photos.rglob("*.jpg"))):
        at = time.mktime((2019 + number % 4, 1 + number, 15, 12, 0, 0, 0, 0, -1))
        os.utime(path, (at, at))
    index.sync(photos)
    rows = rng.standard_normal((15, 20))[rng.integers(0, 15, 90)]
    rows += 0.1 * rng.standard_normal(rows.shape)
    when: list[Any] = [
        None if i % 5 == 0 else {"taken": None if i % 5 == 1 else f"20{18 + i % 7}-0{1 + i % 9}-03"}
        for i in range(90)
    ]
    index.add([f"v{i}" for i in range(90)], rows, when)
    directions = normalize(rng.standard_normal((1, 3, 20))).astype(np.float32)
    head = Head(LabelMatrix(LABELS, directions), Scoring("sigmoid", 2.0, 0.0))
    index.tag(bareclip.Classifier(head, clip.fingerprint), threshold=0.5)
    return index


def combinations(photos: Path) -> Iterator[dict[str, Any]]:
    """Of each filter several values and none; some thirty of all that can be put together."""
    values: dict[str, list[Any]] = {
        "under": [None, None, photos / "a", f"{photos}/a/", str(photos / "a/b/0"), "v1", "nowhere",
                  os.fsencode(photos / "a"), b"v"],
        "tag": [None, None, *LABELS],
        "after": [None, None, "2020", "2021-03", "2019-02-03"],
        "before": [None, None, "2022", "2020-07-03T00:00", "1999"],
    }  # fmt: skip
    every = [
        dict(zip(values, chosen, strict=True)) for chosen in itertools.product(*values.values())
    ]
    yield {}
    yield from random.Random(0).sample(every, 30)


def greedy(rows: list[Row], threshold: float) -> set[tuple[str, str]]:
    """The pairs of groups, of rows without sizes: the first indexed takes what is near."""
    free, pairs = [True] * len(rows), set()
    for i, one in enumerate(rows):
        if free[i]:
            for j in range(i + 1, len(rows)):
                if free[j] and one.vector @ rows[j].vector >= threshold:
                    free[j] = False
                    pairs.add((one.name, rows[j].name))
    return pairs


def test_what_passes_is_what_a_loop_over_the_rows_says(
    asked: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo_index, "_PAGE", 7)
    rows = rows_of(asked.path)
    query = normalize(np.random.default_rng(1).standard_normal(20))
    sizes = set()
    for given in combinations(photos):
        wanted = [row for row in rows if passes(row, given)]
        sizes.add(len(wanted))
        best = sorted(wanted, key=lambda row: -float(row.vector @ query))
        hits = asked.search(query, k=200, **given)
        assert [hit.item for hit in hits] == [row.name for row in best], given
        [few] = asked.search_many([query], k=3, **given)
        assert few == hits[:3]
        assert [one.item for one in asked.tags(**given)] == [row.name for row in wanted]
        others = {name: value for name, value in given.items() if name != "tag"}
        label = given.get("tag") or "city"
        having = [row for row in rows if label in row.tags and passes(row, others)]
        having.sort(key=lambda row: -row.tags[label])
        assert [hit.item for hit in asked.tagged(label, k=200, **others)] == [
            row.name for row in having
        ]
        # Files have sizes, by which the one to keep is chosen.
        if not any(row.is_file for row in wanted):
            pairs = {
                (group.keep.item, other.item)
                for group in asked.duplicates(0.9, **given)
                for other in group.others
            }
            assert pairs == greedy(wanted, 0.9)
    assert len(sizes) > 10


def test_duplicates_are_looked_for_among_what_passes(asked: Index) -> None:
    every = {group.keep.item for group in asked.duplicates(0.9, under=b"v")}
    some = [*asked.duplicates(0.9, under="v", after="2019", before="2022")]
    members = [one.item for group in some for one in (group.keep, *group.others)]
    dates = {row.name: row.date for row in rows_of(asked.path)}
    assert members
    assert all("2019" <= str(dates[name]) < "2022" for name in members)
    # What was kept before may not pass, and another is.
    assert not {group.keep.item for group in some} <= every


def test_a_map_is_of_what_passes(asked: Index, photos: Path) -> None:
    pytest.importorskip("sklearn", reason="needs bareclip[map]")
    rows = rows_of(asked.path)
    chosen: list[dict[str, Any]] = [
        {"tag": "city"},
        {"under": photos},
        {"after": "2020", "before": "2022"},
    ]
    for given in chosen:
        found = asked.overview(clusters=2, **given)
        wanted = [row.name for row in rows if passes(row, given)]
        assert [point.item for point in found.points] == wanted
        assert found.total == len(wanted)
    with pytest.raises(StoreError, match="no photos for a map that pass the filters"):
        asked.overview(before="1990")


def test_what_is_added_since_counts(asked: Index) -> None:
    query = np.eye(1, 20)[0]
    before = {hit.item for hit in asked.search(query, k=200, after="2024", before="2025")}
    asked.add(["v90", "v3"], np.eye(2, 20), [{"taken": "2024-12-31T23:59:59"}, None])
    after = {hit.item for hit in asked.search(query, k=200, after="2024", before="2025")}
    assert after == before - {"v3"} | {"v90"}


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"after": "June"}, VectorError, "after is 'June'; give a date, as 2024"),
        ({"before": 2024}, VectorError, "before is 2024; give a date"),
        ({"under": 7}, VectorError, "under is 7; give the beginning of a path or an id"),
        ({"tag": 7}, VectorError, "tag is 7; give a label"),
        ({"tag": "bird"}, StoreError, "has no tag 'bird': its 3 tags are 'beach', 'city', "),
    ],
)
def test_what_is_no_filter(
    asked: Index, given: dict[str, Any], error: type[Exception], message: str
) -> None:
    query = np.eye(1, 20)[0]
    asks: list[Callable[[], object]] = [
        lambda: asked.search(query, **given),
        lambda: asked.search_many([query], **given),
        lambda: list(asked.duplicates(**given)),
        lambda: list(asked.tags(**given)),
    ]
    if "tag" not in given:
        asks.append(lambda: asked.tagged("city", **given))
    for ask in asks:
        with pytest.raises(error, match=message):
            ask()


def test_names_that_no_path_has(asked: Index) -> None:
    asked.add(["a\0b"], np.eye(1, 20))
    query = np.eye(1, 20)[0]
    assert [hit.item for hit in asked.search(query, under="a\0")] == ["a\0b"]
    assert asked.search(query, under="\ud800") == []
    assert asked.search(query, under=b"\xff") == []


def test_links_are_followed_but_for_bytes(asked: Index, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    query = np.eye(1, 20)[0]
    assert len(asked.search(query, k=99, under=tmp_path / "link")) == 12
    assert asked.search(query, k=99, under=os.fsencode(tmp_path / "link")) == []
    assert len(asked.search(query, k=99, under=os.fsencode(photos))) == 12


def test_every_verb_has_them(asked: Index, photos: Path, tmp_path: Path) -> None:
    given = {"under": str(photos), "tag": "city", "after": "2019-02", "before": "2022"}
    options = [part for name, value in given.items() for part in (f"--{name}", value)]
    db = asked.path
    wanted = [row.name for row in rows_of(db) if passes(row, given)]
    assert 0 < len(wanted) < 12

    def answer(*arguments: str | Path) -> Any:
        return json.loads(run(*arguments, *options, "--json").stdout)

    [found] = answer("search", db, "--like", "v3", "-k", "99")
    assert sorted(hit["item"] for hit in found["hits"]) == sorted(wanted)
    [alone] = answer("search", db, "-k", "99")
    assert sorted(hit["item"] for hit in alone["hits"]) == sorted(wanted)
    assert [one["item"] for one in answer("tag", db)] == wanted
    groups = answer("duplicates", db, "--threshold", "0.01")
    assert [group["keep"]["item"] for group in groups] == [
        group.keep.item
        for group in asked.duplicates(0.01, **given)  # type: ignore[arg-type]
    ]
    for verb in ("search", "tag", "duplicates", "map"):
        help_ = run(verb, "--help").stdout
        assert all(f"--{name}" in help_ for name in given), verb
        assert "after is 'June'" in complaint(verb, db, "--after", "June", "--tag", "city")
    assert "--json prints" in complaint("tag", db, "--under", "x", code=2)
    sidecars = run("tag", db, "--xmp", *options).stderr
    assert f"sidecars: {len(wanted)} written" in sidecars
    assert {str(path)[:-4] for path in photos.rglob("*.xmp")} == set(wanted)


def test_the_verb_map_has_them(asked: Index, photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn", reason="needs bareclip[map]")
    page = tmp_path / "map.html"
    found = json.loads(
        run("map", asked.path, "--html", page, "--under", f"{photos}/a/", "--json").stdout
    )
    assert (found["photos"], found["total"]) == (8, 8)
