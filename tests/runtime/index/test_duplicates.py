"""Near-duplicates: exactly those of a brute-force search in float64, and nothing is touched."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bareclip
from bareclip.scoring import cells, near_groups
from bareclip.scoring.near_groups import NearGroup
from bareclip.scoring.vectors import normalize
from tests.machine import needs_posix
from tests.runtime.test_cli import complaint, run
from tests.variants import picture


def clustered(count: int, width: int, seed: int) -> NDArray[np.float32]:
    """Rows in clusters of some dozens, a cone around one direction; a tenth are near copies."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(2, count // 40), width)) / np.sqrt(np.arange(1, width + 1))
    centres[:, 0] = 1.5
    rows = centres[rng.integers(0, len(centres), count)]
    rows += 0.5 * rng.standard_normal(rows.shape) / np.sqrt(width)
    copies, of = rng.choice(count, count // 10, replace=False), rng.integers(0, count, count // 10)
    noise = rng.uniform(0, 0.8, (len(copies), 1)) * rng.standard_normal((len(copies), width))
    rows[copies] = rows[of] + noise / np.sqrt(width)
    rows[copies[: len(copies) // 5]] = rows[of[: len(copies) // 5]]
    # Lengths as other precisions of a tower make them.
    return (normalize(rows) * rng.uniform(0.995, 1.005, (count, 1))).astype(np.float32)


def brute_force(
    rows: NDArray[np.float32], places: NDArray[np.int64], threshold: float, rank: NDArray[np.int64]
) -> list[NearGroup]:
    unit = rows[places].astype(np.float64)
    unit /= np.sqrt((unit**2).sum(axis=1))[:, None]
    free, groups = np.ones(len(unit), bool), []
    for first in np.lexsort((np.arange(len(unit)), rank)):
        if not free[first]:
            continue
        free[first] = False
        found = unit @ unit[first]
        near = np.flatnonzero(free & (found >= threshold))
        free[near] = False
        if len(near):
            order = near[np.lexsort((near, -found[near]))]
            groups.append(NearGroup(int(places[first]), places[order], found[order]))
    return groups


def check(rows: NDArray[np.float32], threshold: float, seed: int, share: float = 1) -> int:
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(rng.random(len(rows)) <= share)
    rank = rng.integers(0, 50, len(places))
    cut = len(rows) // 3
    parts = [rows[:cut], rows[cut:cut], rows[cut:]]
    found = near_groups.near_groups(parts, places, threshold, rank)
    by_first = {group.first: group for group in found}
    wanted = brute_force(rows, places, threshold, rank)
    assert sorted(by_first) == sorted(group.first for group in wanted)
    for group in wanted:
        mine = by_first[group.first]
        assert set(mine.others) == set(group.others)
        np.testing.assert_allclose(mine.similarities, group.similarities, rtol=0, atol=1e-12)
    return len(wanted)


def test_twenty_thousand_as_by_brute_force() -> None:
    assert check(clustered(20_000, 512, seed=1), 0.95, seed=1) > 500


@pytest.mark.parametrize("threshold", [0.6, 0.8, 0.9, 0.99])
@pytest.mark.parametrize(("count", "width"), [(2, 20), (3000, 20), (2500, 64), (2500, 200)])
def test_any_threshold_and_width(count: int, width: int, threshold: float) -> None:
    for seed in range(2):
        found = check(clustered(count, width, seed), threshold, seed, share=0.8)
        assert found > 10 or count == 2


@pytest.mark.parametrize("threshold", [0.6, 0.9, 0.99])
@pytest.mark.parametrize("width", [20, 200])
def test_over_every_edge_of_cells_groups_and_blocks(
    threshold: float, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"_CELL": 16, "_MEANS": 4, "_GROUP": 5, "_ROWS": 300, "_CHUNK": 50}.items():
        monkeypatch.setattr(cells, name, value)
    for name, value in {"_COLUMNS": 7, "_BLOCK": 500, "_CHUNK": 50}.items():
        monkeypatch.setattr(near_groups, name, value)
    assert check(clustered(1500, width, seed=7), threshold, seed=7) > 10


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.999])
def test_a_row_is_held_against_every_cell_that_it_may_be_near_to(threshold: float) -> None:
    rows = normalize(clustered(6000, 64, seed=2)).astype(np.float32)
    given = rows.copy()
    found = cells.Cells(rows)
    np.testing.assert_array_equal(found.rows, given[found.order])
    assert np.diff(found.starts).max() <= 192
    of = np.repeat(np.arange(len(found.starts) - 1), np.diff(found.starts))
    reached = np.zeros((len(rows), len(found.starts) - 1), np.bool_)
    for cell, places in found.reaching(threshold):
        assert (places >= found.starts[cell]).all()
        assert not reached[places, cell].any()
        reached[places, cell] = True
    left, right = np.nonzero(np.triu(found.rows.astype(np.float64) @ found.rows.T >= threshold))
    assert reached[right, of[left]].all()
    # And against few others.
    if threshold > 0.5:
        assert reached.sum() < 0.2 * len(rows) * len(found.starts) / 2


def test_progress_is_told_to_its_end() -> None:
    told: list[tuple[int, int]] = []
    rows = clustered(3000, 64, seed=0)
    ranks = np.zeros(3000, np.int64)
    list(
        near_groups.near_groups(
            [rows], np.arange(3000), 0.9, ranks, lambda done, total: told.append((done, total))
        )
    )
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] == (3000, 3000)


def test_equal_rows_are_found_at_one_and_all_at_once() -> None:
    rows = np.repeat(clustered(40, 64, seed=3), 100, axis=0)
    groups = list(near_groups.near_groups([rows], np.arange(4000), 1.0, np.zeros(4000, np.int64)))
    assert len(groups) <= 40
    assert {len(group.others) % 100 for group in groups} == {99}
    assert all((group.similarities == 1).all() for group in groups)


def test_a_pair_at_the_threshold_is_settled_in_float64() -> None:
    # In float32 the products of these pairs with a threshold between them cannot be told apart.
    rng = np.random.default_rng(0)
    one = normalize(rng.standard_normal(512))
    rows = normalize(one + 0.01 * rng.standard_normal((400, 512))).astype(np.float32)
    exact = np.sort([near_groups.cosines(rows[i], rows[0]) for i in range(1, 400)])
    for low, high in itertools.pairwise(exact[::40]):
        check(np.concatenate([rows[:1], rows]), float(low + (high - low) / 2), seed=0)
    middle = len(exact) // 2
    threshold = float(exact[middle])
    rank = np.arange(400)
    [first, *_] = near_groups.near_groups([rows], np.arange(400), threshold, rank)
    assert first.first == 0
    assert len(first.others) == len(exact) - middle


@pytest.fixture
def copies(photos: Path) -> Path:
    """Twelve photos, a resized and a resaved copy of one, and the same file of another."""
    original = picture(400, 300, seed=99)
    original.save(photos / "original.png")
    original.resize((200, 150)).save(photos / "smaller.png")
    original.save(photos / "resaved.jpg", quality=95)
    (photos / "same.jpg").write_bytes((photos / "00.jpg").read_bytes())
    return photos


def test_what_to_keep(index: bareclip.Index, copies: Path) -> None:
    index.sync(copies)
    for threshold in (0.999, 0.99999):
        for group in index.duplicates(threshold):
            assert all(other.similarity >= threshold for other in group.others)
            best = max([group.keep, *group.others], key=lambda one: (
                (one.width or 0) * (one.height or 0), one.size or 0,
            ))  # fmt: skip
            assert best == group.keep
    found = {Path(group.keep.item).name: group for group in index.duplicates(0.99999)}
    same = found["00.jpg"]
    assert [Path(other.item).name for other in same.others] == ["same.jpg"]
    assert (same.keep.width, same.keep.height) == (50, 40)
    assert same.others[0].sha256 == same.keep.sha256
    assert same.saves == same.keep.size == (copies / "00.jpg").stat().st_size
    saved = [group.saves for group in index.duplicates(0.9)]
    assert saved == sorted(saved, reverse=True)
    assert list(index.duplicates(0.9, under=copies / "a" / "b" / "nothing")) == []
    (copies / "same.jpg").unlink()
    index.sync(copies)
    assert "00.jpg" not in {Path(group.keep.item).name for group in index.duplicates(0.99999)}


def test_added_vectors_have_no_size(index: bareclip.Index) -> None:
    rows = np.eye(3, 20, dtype=np.float32)
    index.add(["a", "b", "c", "d"], [*rows, rows[1]])
    [group] = index.duplicates()
    assert (group.keep.item, group.others[0].item) == ("b", "d")
    assert (group.keep.width, group.keep.size, group.saves) == (None, None, 0)
    with pytest.raises(bareclip.VectorError, match="threshold is 0; it must be above 0"):
        next(index.duplicates(0))


def test_what_was_replaced_since_the_last_look(index: bareclip.Index) -> None:
    rows = clustered(600, 20, seed=5)
    index.add([f"v{i}" for i in range(600)], rows)
    index.search(rows[0], k=1)
    index.add(["v3", "v5", "new"], [rows[100], rows[101], rows[102]])
    current = np.concatenate([np.delete(rows, [3, 5], axis=0), rows[100:103]])
    ids = [f"v{i}" for i in range(600) if i not in (3, 5)] + ["v3", "v5", "new"]
    wanted = brute_force(current, np.arange(601), 0.97, np.zeros(601, np.int64))
    found = {
        (group.keep.item, frozenset(other.item for other in group.others))
        for group in index.duplicates(0.97)
    }
    assert found == {(ids[one.first], frozenset(ids[i] for i in one.others)) for one in wanted}


def test_an_empty_index(index: bareclip.Index) -> None:
    index.add([], [])
    assert list(index.duplicates()) == []


@needs_posix
def test_the_command(copies: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    db, page = tmp_path / "photos.db", tmp_path / "out.html"
    evil = copies / "<img src=x onerror=alert(1)>.jpg"
    evil.write_bytes((copies / "00.jpg").read_bytes())
    run("index", copies, "--db", db, "--bundle", bundles["tiny"])
    before = sorted(copies.rglob("*"))
    options = ["--threshold", "0.99999"]
    table = run("duplicates", db, *options, "--html", page).stdout.splitlines()
    assert table[0].split() == ["group", "similarity", "pixels", "size", "item"]
    assert any("same file" in line and "50x40" in line for line in table)
    assert table[-1].split()[1] == "groups;"
    text = page.read_text()
    assert "<img src=x" not in text
    assert "&lt;img src=x onerror=alert(1)&gt;.jpg" in text
    groups = json.loads(run("duplicates", db, *options, "--json").stdout)
    same = next(one for one in groups if one["keep"]["sha256"] == one["others"][0]["sha256"])
    assert {"item", "similarity", "width", "height", "size", "sha256"} == set(same["keep"])
    assert text.count("data:image/jpeg") == sum(1 + len(one["others"]) for one in groups)
    assert run("duplicates", db, "--under", copies / "a" / "no").stdout == (
        "no two photos are so similar\n"
    )
    assert sorted(copies.rglob("*")) == before
    assert "cannot write" in complaint("duplicates", db, "--html", tmp_path / "x.png")
