"""The index as a program uses it: opening, adding, asking; and files derived from it."""

import dataclasses
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import StoreError, VectorError
from bareclip.index import vectors_file as matrices
from bareclip.scoring.vectors import normalize
from tests.variants import picture


def unit(count: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = np.random.default_rng(seed).standard_normal((count, 20))
    return normalize(rows).astype(np.float32)


def found(index: bareclip.Index, query: Any, k: int = 10, **options: Any) -> list[str]:
    return [hit.item for hit in index.search(query, k=k, **options)]


def test_vectors_from_elsewhere(index: bareclip.Index) -> None:
    rows = unit(5)
    index.add(list("abcde"), rows, [{"n": i} for i in range(5)])
    hits = index.search(rows[2], k=2)
    assert (hits[0].item, hits[0].metadata) == ("c", {"n": 2})
    assert hits[0].similarity == pytest.approx(1)
    assert len(index.search("a cat", k=50)) == 5
    index.add(["c", "f"], -3 * rows[[2, 3]])
    assert found(index, -rows[2].astype(np.float64), 1) == ["c"]
    assert index.search(-rows[2], k=1)[0].metadata is None
    assert index.status().added == 6
    assert index.search("x", k=0) == []


def test_equal_vectors_come_in_the_order_they_were_added(index: bareclip.Index) -> None:
    rows = unit(3)
    index.add([f"{i:02}" for i in range(60)], np.tile(rows, (20, 1)))
    assert found(index, rows[1], 25)[:20] == [f"{i:02}" for i in range(1, 60, 3)]


@pytest.mark.parametrize(
    ("ids", "vectors", "metadata", "message"),
    [
        (["a"], unit(2), None, "1 ids, 2 vectors"),
        (["a", "a"], unit(2), None, "distinct"),
        (["a", ""], unit(2), None, "not empty"),
        (["a", 1], unit(2), None, "id 1 is no name"),
        ("ab", unit(2), None, "ids are one string; give a list"),
        (["\ud800"], unit(1), None, r"id '\\ud800' holds half of a surrogate pair"),
        # Two spellings of one file name.
        (["\udcc3\udca9", "é"], unit(2), None, "id 'é' is there twice"),
        (["a"], np.ones((1, 21)), None, r"give \(N, 20\)"),
        (["a"], np.ones(20), None, r"give \(N, 20\)"),
        (["a"], np.zeros((1, 20)), None, "zero or not finite"),
        (["a"], np.full((1, 20), np.nan), None, "zero or not finite"),
        (["a"], unit(1), [{"x": object()}], "that JSON can hold"),
        (["a"], unit(1), ["text"], "that JSON can hold"),
        (["a"], unit(1), [], "0 metadata"),
        (["a"], unit(1), {"n": 1}, "metadata are {'n': 1}; give a list of objects"),
        (["a"], unit(1), "text", "metadata are one string"),
        (["a"], unit(1), [{"x": float("nan")}], "that JSON can hold"),
        ({"a": 1}, unit(1), None, "ids are {'a': 1}; give a list"),
        (5, unit(1), None, "ids are 5; give a list"),
        (["a"], [["x"] * 20], None, "give .N, 20. numbers"),
        (["a"], "text", None, "give .N, 20. numbers"),
        (["a"], [[1.0, 2.0], [3.0]], None, "no numbers"),
        (["a"], [{}], None, "give .N, 20. numbers"),
        (["x" * 1000 + "\ud800"], unit(1), None, r"^id 'x{37}\.\.\.' holds half"),
    ],
)
def test_what_cannot_be_added_costs_nothing(
    index: bareclip.Index, ids: Any, vectors: Any, metadata: Any, message: str
) -> None:
    index.add(["kept"], unit(1))
    with pytest.raises(VectorError, match=message):
        index.add(ids, vectors, metadata)
    assert index.status().added == 1


WAYS: dict[str, Callable[[list[Any]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": lambda given: (one for one in given),
    "array": np.asarray,
    "keys": lambda given: dict.fromkeys(given).keys(),
    "Series": lambda given: pandas().Series(given, index=[7, 3, 5, 0, 1]),
    "Index": lambda given: pandas().Index(given),
}


def pandas() -> Any:
    return pytest.importorskip("pandas", reason="to hold things in a Series")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_several_things_come_in_any_iterable_in_its_order(
    index: bareclip.Index, way: Callable[[list[Any]], Any]
) -> None:
    rows, names = unit(5), ["d", "b", "e", "a", "c"]
    index.add(way(names), rows, (x for x in [{"n": i} for i in range(5)]))
    index.add(names, (row for row in rows))
    index.add(names, [*rows], {i: {"n": i} for i in range(5)}.values())
    hits = index.search_many(list(rows), k=1)
    assert [(h[0].item, h[0].metadata) for h in hits] == [
        (name, {"n": i}) for i, name in enumerate(names)
    ]
    texts = ["a cat", "a dog", "a red circle", "", "fish"]
    assert index.search_many(way(texts), k=2) == [index.search(text, k=2) for text in texts]
    assert index.search_many(rows, k=1) == hits


@pytest.mark.parametrize(
    "one", ["a cat", Path("cat.jpg"), b"bytes", unit(1)[0], np.zeros((4, 4, 3), np.uint8), 7, {}]
)
def test_one_query_is_not_several(index: bareclip.Index, one: Any) -> None:
    index.add(["a"], unit(1))
    with pytest.raises(VectorError, match=r"queries must be several; for one, here .*\[query\]"):
        index.search_many(one)


def test_queries_of_every_kind(index: bareclip.Index, photos: Path, clip: bareclip.Clip) -> None:
    index.sync(photos)
    one = photos / "00.jpg"
    vector = clip.embed_images([one])[0]
    image = picture(50, 40)
    queries = ["a cat", one.read_bytes(), image, np.asarray(image), vector]
    many = index.search_many(queries, k=3)
    for query, hits in zip(queries, many, strict=True):
        alone = index.search(query, k=3)
        assert [hit.item for hit in hits] == [hit.item for hit in alone]
        assert [h.similarity for h in hits] == pytest.approx([h.similarity for h in alone])
    cosines = clip.similarity(
        clip.embed_texts(["a cat"]), clip.embed_images(sorted(photos.rglob("*.jpg")))
    )
    assert many[0][0].similarity == pytest.approx(cosines.max(), abs=1e-4)
    assert index.search_many([]) == []


def test_the_query_image_itself_is_left_out(index: bareclip.Index, photos: Path) -> None:
    index.sync(photos)
    one = photos / "00.jpg"
    (photos / "link.jpg").symlink_to(one)
    for query in (one, photos / "a" / ".." / "00.jpg", photos / "link.jpg"):
        hits = found(index, query, 11)
        assert len(hits) == 11
        assert str(one) not in hits
    assert found(index, one.read_bytes(), 1) == [str(one)]


def test_filters(index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index.sync(photos)
    index.add(["photos/x", "other"], unit(2))
    everything = index.search("a cat", k=20)
    below = [h for h in everything if h.item.startswith(str(photos / "a"))]
    assert index.search("a cat", k=20, under=photos / "a") == below
    assert index.search("a cat", k=2, under=f"{photos}/a/") == below[:2]
    assert index.search("a cat", k=20, under=f"{photos}/a/b", approximate=True) == [
        h for h in everything if "/a/b/" in h.item
    ]
    monkeypatch.chdir(photos)
    assert index.search("a cat", k=20, under="a/b") == [h for h in everything if "/a/b/" in h.item]
    assert found(index, "a cat", 20, under="photos/") == ["photos/x"]
    assert found(index, "a cat", 20, under="/nowhere") == []
    least = everything[4].similarity
    assert index.search("a cat", k=20, min_similarity=least) == everything[:5]


def test_bad_queries(index: bareclip.Index, tmp_path: Path) -> None:
    index.add(["a"], unit(1))
    with pytest.raises(VectorError, match=r"give \(20,\) finite numbers"):
        index.search(np.ones(21))
    with pytest.raises(VectorError, match="finite"):
        index.search(np.full(20, np.inf))
    with pytest.raises(VectorError, match="k is -1"):
        index.search("x", k=-1)
    with pytest.raises(bareclip.ImageError, match="does not exist"):
        index.search(tmp_path / "none.jpg")


def test_without_a_model_an_index_is_looked_at(index: bareclip.Index, photos: Path) -> None:
    index.sync(photos)
    with bareclip.Index.open(index.path) as other:
        assert other.status() == index.status()
        assert len(other.search(unit(1)[0], k=50)) == 12
        with pytest.raises(StoreError, match="asked by vector only; open it with one"):
            other.search("a cat")
        with pytest.raises(StoreError, match="opened without a model"):
            other.sync(photos)
    with pytest.raises(StoreError, match="there is no index at .*bareclip index FOLDER --db"):
        bareclip.Index.open(photos / "none.db")
    with pytest.raises(StoreError, match="is not a folder"):
        bareclip.Index.open(photos / "none" / "photos.db", index._clip)


def test_another_model_is_refused_by_name(
    index: bareclip.Index,
    bundles: dict[str, Path],
    clip: bareclip.Clip,
    photos: Path,
    tmp_path: Path,
) -> None:
    index.add(["a"], unit(1))
    odd = bareclip.load(bundles["odd"])
    with pytest.raises(StoreError, match="was made with tiny .*has model 'odd' where it has"):
        bareclip.Index.open(index.path, odd)
    stored = bareclip.load(bundles["tiny"], reading="as_stored")
    with pytest.raises(StoreError, match="reading 'as_stored' where it has 'as_seen'"):
        bareclip.Index.open(index.path, stored)
    with pytest.raises(StoreError, match="decoding 'exact' where it has 'scaled'"):
        bareclip.Index.open(index.path, clip, exact=True)
    for part, name in (("vision", "vision"), ("text", "text")):
        bundle = clip.bundle
        files = bundle.precisions["fp32"][part]
        changed = {f: dataclasses.replace(r, sha256="0" * 64) for f, r in files.files.items()}
        towers = bundle.precisions["fp32"] | {part: dataclasses.replace(files, files=changed)}
        other = dataclasses.replace(bundle, precisions={"fp32": towers})
        twin = bareclip.load(bundles["tiny"])
        twin.bundle = other
        with pytest.raises(StoreError, match=f"has another {name}, though of the same name"):
            bareclip.Index.open(index.path, twin)
    # The same bundle elsewhere is the same model.
    copy = bareclip.load(shutil.copytree(bundles["tiny"], tmp_path / "copy"))
    index.sync(photos)
    with bareclip.Index.open(index.path, copy) as again:
        again.search("a cat")
        assert again.bundle == index.bundle == str(bundles["tiny"])
        # What writes is remembered.
        again.sync(photos)
        assert again.bundle == index.bundle == str(tmp_path / "copy")


def test_exact_decoding_stays_as_it_was(clip: bareclip.Clip, tmp_path: Path) -> None:
    for exact in (True, False):
        path = tmp_path / f"{exact}.db"
        with bareclip.Index.open(path, clip, exact=exact) as index:
            index.add(["a"], unit(1))
        with bareclip.Index.open(path, clip) as index:
            assert index.made_by.decoding == ("exact" if exact else "scaled")


def test_large_jpegs_are_decoded_small_and_nearly_alike(
    clip: bareclip.Clip, tmp_path: Path
) -> None:
    (tmp_path / "large").mkdir()
    large = tmp_path / "large" / "1.jpg"
    picture(64, 48).resize((1280, 960)).save(large, quality=90)
    whole = clip.embed_images([large])[0]
    for exact in (True, False):
        with bareclip.Index.open(tmp_path / f"{exact}.db", clip, exact=exact) as index:
            index.sync(tmp_path / "large")
            [hit] = index.search(whole)
            assert hit.similarity > 0.999
            assert (hit.similarity > 1 - 1e-6) == exact
            [row] = index._store._db.execute("SELECT width, height FROM items").fetchall()
            assert row == (1280, 960)


def test_other_files_are_no_index(clip: bareclip.Clip, tmp_path: Path) -> None:
    text, other = tmp_path / "a.txt", tmp_path / "b.db"
    text.write_text("hello, this is a text file and no database at all" * 100)
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE t (x)")
    db.close()
    for path in (text, other):
        before = path.read_bytes()
        with pytest.raises(StoreError, match="not a database|not a photo index"):
            bareclip.Index.open(path, clip)
        assert path.read_bytes() == before


def test_a_newer_format_is_refused(index: bareclip.Index, clip: bareclip.Clip) -> None:
    index.add(["a"], unit(1))
    index._store._db.execute("PRAGMA user_version = 3")
    with pytest.raises(StoreError, match="format version 3; this bareclip reads 1 and 2: update"):
        bareclip.Index.open(index.path, clip)


def test_one_index_in_many_threads(index: bareclip.Index, photos: Path) -> None:
    index.sync(photos)
    wanted = index.search("a cat")
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda: answers.append(index.search("a cat"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [wanted] * 8


def vectors_file(index: bareclip.Index) -> Path:
    return index.path.with_name("photos.db.vectors")


def test_a_derived_file_is_never_behind(
    index: bareclip.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    rows = unit(400)
    held: dict[str, Any] = {}
    queries = unit(5, seed=9)
    for _ in range(25):
        monkeypatch.setattr(matrices, "_BEHIND", float(rng.choice([0, 0.02, 0.2, 10])))
        ids = [str(i) for i in rng.choice(400, rng.integers(1, 12), replace=False)]
        chosen = rng.integers(0, 400, len(ids))
        index.add(ids, rows[chosen])
        held |= {name: rows[i] for name, i in zip(ids, chosen, strict=True)}
        with bareclip.Index.open(index.path) as fresh:
            for opened in (index, fresh):
                for query in queries:
                    hits = opened.search(query, k=500)
                    assert {hit.item for hit in hits} == set(held)
                    for hit in hits:
                        assert hit.similarity == pytest.approx(
                            float(held[hit.item] @ query), abs=1e-6
                        )


@pytest.mark.parametrize("damage", ["gone", "short", "empty", "header", "another"])
def test_a_damaged_derived_file_is_made_again(index: bareclip.Index, damage: str) -> None:
    rows = unit(30)
    index.add([str(i) for i in range(30)], rows)
    wanted = index.search(rows[3])
    path = vectors_file(index)
    data = path.read_bytes()
    if damage == "gone":
        path.unlink()
    elif damage == "another":
        path.write_bytes(data[:32] + b"0123456789abcdef" + data[48:])
    else:
        path.write_bytes({"short": data[:-1], "empty": b"", "header": b"x" + data[1:]}[damage])
    with bareclip.Index.open(index.path) as other:
        assert other.search(rows[3]) == wanted
    assert path.read_bytes() == data


def test_where_nothing_can_be_written_memory_does(
    index: bareclip.Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(matrices, "replacing", full)
    rows = unit(30)
    index.add([str(i) for i in range(30)], rows)
    assert found(index, rows[7], 1) == ["7"]
    assert not vectors_file(index).exists()


def test_a_new_store_at_an_old_ones_place(clip: bareclip.Clip, tmp_path: Path) -> None:
    rows = unit(20)
    for turn in (rows, rows[::-1]):
        with bareclip.Index.open(tmp_path / "photos.db", clip) as index:
            index.add([str(i) for i in range(20)], turn)
            assert found(index, turn[4], 1) == ["4"]
            assert found(index, turn[4], 1, approximate=True) == ["4"]
        (tmp_path / "photos.db").unlink()
