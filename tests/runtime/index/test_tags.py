"""An index that is tagged: what classify would say of each vector, kept up to date."""

import contextlib
import json
import os
import shutil
import sqlite3
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip import ClassifierError, StoreError
from bareclip.bundle import Scoring
from bareclip.index.sidecars import sidecar, write_sidecar
from bareclip.scoring.heads import Head
from bareclip.scoring.vectors import normalize
from bareclip.scoring.zero_shot import LabelMatrix
from tests.machine import needs_any_name, needs_posix
from tests.runtime.test_cli import complaint, run
from tests.variants import picture

LABELS = ["cat", "dog", "two red circles", "a <b>&\u202e\x1b[31m"]


def tags(index: bareclip.Index) -> dict[str, dict[str, float]]:
    """By file name or id."""
    return {
        Path(one.item).name: {tag.label: tag.probability for tag in one.tags}
        for one in index.tags()
    }


def classifier(clip: bareclip.Clip, function: str = "softmax") -> bareclip.Classifier:
    """Of random directions, which spread the photos over the labels."""
    rows = normalize(np.random.default_rng(0).standard_normal((1, 4, 20))).astype(np.float32)
    scoring = Scoring(function, 3.0, 0.0)  # type: ignore[arg-type]
    return bareclip.Classifier(Head(LabelMatrix(tuple(LABELS), rows), scoring), clip.fingerprint)


@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("function", ["softmax", "sigmoid"])
def test_tags_are_what_the_classifier_says(
    index: bareclip.Index, photos: Path, clip: bareclip.Clip, threshold: float, function: str
) -> None:
    index.sync(photos)
    chosen = classifier(clip, function=function)
    report = index.tag(chosen, threshold=threshold)
    found = tags(index)
    wanted = {}
    for one in index.tags():
        row = chosen.probabilities(clip.embed_images([one.item]))[0]
        wanted[Path(one.item).name] = {
            label: p for label, p in zip(LABELS, row, strict=True) if p >= threshold
        }
        shares = [tag.probability for tag in one.tags]
        assert shares == sorted(shares, reverse=True)
    assert found.keys() == wanted.keys()
    assert len(found) == report.items == 12
    for name, given in found.items():
        assert given == pytest.approx(wanted[name], abs=1e-5)
    assert report.tags == sum(map(len, wanted.values()))
    assert report.tagged == sum(map(bool, wanted.values()))


def test_of_many_labels_the_ten_most_probable_are_tags(
    index: bareclip.Index, clip: bareclip.Clip
) -> None:
    rows = np.random.default_rng(1).standard_normal((30, 20))
    index.add(map(str, range(30)), rows)
    labels = tuple(f"label {i}" for i in range(25))
    directions = normalize(np.random.default_rng(2).standard_normal((1, 25, 20)))
    head = Head(LabelMatrix(labels, directions.astype(np.float32)), Scoring("sigmoid", 0.1, 0.0))
    chosen = bareclip.Classifier(head, clip.fingerprint)
    assert index.tag(chosen, threshold=0.0).tags == 300
    for one, row in zip(index.tags(), chosen.probabilities(rows), strict=True):
        best = np.argsort(-row)[:10]
        assert [tag.label for tag in one.tags] == [labels[i] for i in best]


def test_the_next_sync_brings_tags_up_to_date(
    index: bareclip.Index, photos: Path, clip: bareclip.Clip
) -> None:
    index.sync(photos)
    chosen = classifier(clip)
    index.tag(chosen, threshold=0.2)
    before = tags(index)
    (photos / "00.jpg").rename(photos / "moved.jpg")
    (photos / "03.jpg").unlink()
    picture(70, 40, seed=77).save(photos / "new.jpg")
    picture(71, 40, seed=78).save(photos / "06.jpg")
    shutil.copy(photos / "09.jpg", photos / "copy.jpg")
    with bareclip.Index.open(index.path, clip) as other:  # the classifier is in the file
        other.sync(photos)
    with bareclip.Index.open(index.path, clip) as other:
        other.add(["added"], np.eye(1, 20))
    after = tags(index)
    assert after["moved.jpg"] == before["00.jpg"]
    assert "03.jpg" not in after
    assert after["copy.jpg"] == after["09.jpg"] == before["09.jpg"]
    with bareclip.Index.open(index.path.with_name("fresh.db"), clip) as fresh:
        fresh.sync(photos)
        fresh.add(["added"], np.eye(1, 20))
        fresh.tag(chosen, threshold=0.2)
        assert tags(fresh) == after
    # And again, whole, with what is kept.
    index.tag()
    assert tags(index) == after
    index.tag(threshold=0.9)
    assert max(map(len, tags(index).values())) == 1


def test_a_search_keeps_to_a_tag(index: bareclip.Index, photos: Path, clip: bareclip.Clip) -> None:
    index.sync(photos)
    index.tag(classifier(clip), threshold=0.0)
    index.tag(threshold=float(np.median([hit.similarity for hit in index.tagged("cat", k=12)])))
    having = {
        label: sorted(
            ((one.tags[i].probability, one.item) for one in index.tags()
             for i in range(len(one.tags)) if one.tags[i].label == label), reverse=True)
        for label in LABELS
    }  # fmt: skip
    label = "cat"
    assert len(having[label]) == 6
    hits = index.tagged(label, k=100)
    assert [(hit.similarity, hit.item) for hit in hits] == having[label]
    assert len(index.tagged(label, k=1)) == 1
    items = {item for _, item in having[label]}
    everything = index.search("a cat", k=12)
    wanted = [hit for hit in everything if hit.item in items]
    assert index.search("a cat", k=12, tag=label) == wanted
    assert index.search_many(["a cat"], k=12, tag=label, approximate=False) == [wanted]
    below = [hit for hit in wanted if hit.item.startswith(str(photos / "a"))]
    assert index.search("a cat", k=12, tag=label, under=photos / "a") == below
    with pytest.raises(StoreError, match="has no tag 'bird': its 4 tags are 'cat', 'dog', "):
        index.search("a cat", tag="bird")


def test_what_cannot_be_tagged(
    index: bareclip.Index, clip: bareclip.Clip, bundles: dict[str, Path]
) -> None:
    index.add(["x"], np.eye(1, 20))
    with pytest.raises(StoreError, match="was not tagged yet; give labels or a classifier"):
        index.tag()
    with pytest.raises(StoreError, match="has no tag 'cat': it has none; to tag it: bareclip tag"):
        index.tagged("cat")
    assert list(index.tags()) == []
    with pytest.raises(ClassifierError, match="made with odd"):
        index.tag(bareclip.load(bundles["odd"]).classifier(["cat"]))
    with pytest.raises(StoreError, match="threshold is 1.5"):
        index.tag(classifier(clip), threshold=1.5)
    # None of that made it an index that earlier versions do not read.
    with contextlib.closing(sqlite3.connect(index.path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 1
    index.tag(classifier(clip))
    with contextlib.closing(sqlite3.connect(index.path)) as db:
        assert db.execute("PRAGMA user_version").fetchone()[0] == 2
    before = tags(index)
    with pytest.raises(ClassifierError, match="made with odd"):
        index.tag(bareclip.load(bundles["odd"]).classifier(["cat"]))
    assert tags(index) == before


def test_exports_have_the_tags_and_imports_take_them_anew(
    index: bareclip.Index, clip: bareclip.Clip, tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = np.random.default_rng(0).standard_normal((7, 20))
    index.add(map(str, range(7)), rows)
    index.export_to(tmp_path / "plain.npy")
    assert "tags" not in json.loads((tmp_path / "plain.json").read_text())
    index.tag(classifier(clip), threshold=0.3)
    index.export_to(tmp_path / "v.npy")
    index.export_to(tmp_path / "v.parquet")
    wanted = [
        [{"label": tag.label, "probability": tag.probability} for tag in one.tags]
        for one in index.tags()
    ]
    assert any(wanted)
    assert json.loads((tmp_path / "v.json").read_text())["tags"] == wanted
    assert parquet.read_table(tmp_path / "v.parquet")["tags"].to_pylist() == wanted
    for name in ("v.npy", "v.parquet"):
        with bareclip.Index.open(tmp_path / f"{name}.db", clip) as other:
            assert other.import_from(tmp_path / name) == 7
            assert list(other.tags()) == []
            other.tag(classifier(clip), threshold=0.3)
            assert tags(other) == tags(index)


def untrusted(db: Path, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("PRAGMA ignore_check_constraints = ON")
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tagger SET classifier = x'00'",
        "UPDATE tagger SET classifier = 'text'",
        "UPDATE tagger SET classifier = zeroblob(1000000)",
        "UPDATE tagger SET threshold = 'x'",
        "UPDATE tagger SET threshold = 7.0",
        "UPDATE tagger SET last = 'x'",
        "DELETE FROM tagger",
        "UPDATE labels SET label = x'00'",
        "UPDATE labels SET label = ''",
        "DELETE FROM labels",
        "UPDATE tags SET probability = 'x'",
        "UPDATE tags SET probability = 1e300",
        "UPDATE tags SET label = 99 + label",
        "CREATE TABLE more (x)",
        "DROP INDEX tags_by_label",
        "PRAGMA user_version = 1",
    ],
)
def test_a_hostile_one_is_answered_from_or_refused_in_a_line(
    index: bareclip.Index, photos: Path, clip: bareclip.Clip, tmp_path: Path, statement: str
) -> None:
    index.sync(photos)
    index.tag(classifier(clip), threshold=0.0)
    index.close()
    untrusted(index.path, statement)
    (photos / "00.jpg").unlink()
    picture(70, 40, seed=77).save(photos / "new.jpg")
    uses: list[Callable[[bareclip.Index], object]] = [
        lambda opened: list(opened.tags()),
        lambda opened: opened.tagged("cat"),
        lambda opened: opened.search("a cat", tag="cat"),
        lambda opened: opened.export_to(tmp_path / "v.npy"),
        lambda opened: opened.tag(),
        lambda opened: opened.sync(photos),
    ]
    said = []
    for use in uses:
        try:
            with bareclip.Index.open(index.path, clip) as opened:
                use(opened)
        except bareclip.BareclipError as error:
            said.append(str(error))
    assert said
    assert not any("\n" in line for line in said)
    if "user_version" in statement or "more" in statement or "DROP" in statement:
        assert len(said) == len(uses)
        return
    # Tagged again, it is as good as new.
    with bareclip.Index.open(index.path, clip) as opened:
        opened.tag(classifier(clip), threshold=0.3)
        opened.sync(photos)
        assert len(tags(opened)) == 12


@needs_any_name
def test_sidecars_say_the_labels_and_leave_others_alone(tmp_path: Path) -> None:
    photo = tmp_path / "a photo & <more>.jpg"
    picture(40, 30).save(photo)
    place = Path(f"{photo}.xmp")
    assert write_sidecar(str(photo), LABELS) == "written"
    root = ElementTree.parse(place).getroot()
    items = [item.text for item in root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")]
    assert items == ["cat", "dog", "two red circles", "a <b>&\ufffd\ufffd[31m"]
    assert write_sidecar(str(photo), LABELS) == "unchanged"
    assert write_sidecar(str(photo), ["</rdf:li>'\""]) == "written"
    assert write_sidecar(str(photo), []) == "removed"
    assert not place.exists()
    assert write_sidecar(str(photo), []) == "unchanged"
    ours = sidecar(["cat"])
    foreign = [
        ours + b"\n",
        ours.replace(b"cat", b"cat</rdf:li>\n     <rdf:li lang='de'>Katze"),
        ours.replace(b'x:xmptk="bareclip"', b'x:xmptk="XMP Core 4.4.0-Exiv2"'),
        b"",
        b"\xff",
        b"<!DOCTYPE x [<!ENTITY a 'aaaa'>]>",
        bytes(2 << 20),
    ]
    for data in foreign:
        place.write_bytes(data)
        assert write_sidecar(str(photo), LABELS) == "foreign"
        assert write_sidecar(str(photo), []) == "foreign"
        assert place.read_bytes() == data
    place.unlink()
    (tmp_path / "elsewhere.xmp").write_bytes(ours)
    place.symlink_to(tmp_path / "elsewhere.xmp")
    assert write_sidecar(str(photo), LABELS) == "foreign"
    assert (tmp_path / "elsewhere.xmp").read_bytes() == ours
    place.unlink()
    place.mkdir()
    assert write_sidecar(str(photo), LABELS) == "foreign"
    nowhere = str(tmp_path / "no.jpg")
    for missing in (nowhere, "relative.jpg", str(tmp_path), "/x\0y", "/" + "x" * 5000):
        assert write_sidecar(missing, LABELS) == "gone"
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.jpg")
    shutil.copy(photo, odd)
    assert write_sidecar(odd, LABELS) == "written"


def test_the_command(photos: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    db = tmp_path / "photos.db"
    bundle = bundles["tiny"]
    run("index", photos, "--db", db, "--bundle", bundle)
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    said = run("tag", db, "--labels", tmp_path / "labels.txt", "--threshold", "0").stdout
    assert said == "12 photos and vectors: 12 tagged, with 24 tags\n"
    found = json.loads(run("tag", db, "--json").stdout)
    assert len(found) == 12
    assert {tag["label"] for tag in found[0]["tags"]} == {"cat", "dog"}
    clip = bareclip.load(bundle)
    wanted = clip.classifier(["cat", "dog"])
    wanted.save(tmp_path / "pets.npz")
    [row] = wanted.probabilities(clip.embed_images([found[0]["item"]]))
    by_label = {tag["label"]: tag["probability"] for tag in found[0]["tags"]}
    assert [by_label["cat"], by_label["dog"]] == pytest.approx(row.tolist(), abs=1e-5)
    # No model is needed for a file, nor to ask for a tag.
    moved = bundle.rename(bundle.with_name("away"))
    try:
        run("tag", db, "--classifier", tmp_path / "pets.npz", "--threshold", "0")
        assert json.loads(run("tag", db, "--json").stdout) == found
        table = run("search", db, "--tag", "cat", "-k", "3").stdout.splitlines()
        told = json.loads(run("search", db, "--tag", "cat", "-k", "3", "--json").stdout)
    finally:
        moved.rename(bundle)
    assert table[0].split() == ["rank", "probability", "item"]
    shares = [hit["probability"] for hit in told[0]["hits"]]
    assert shares == sorted(shares, reverse=True)
    assert len(shares) == len(table) - 2 == 3
    assert "has no tag 'bird'" in complaint("search", db, "--tag", "bird")
    alone = ("search", db, "--tag", "cat")
    assert "no place for --diverse" in complaint(*alone, "--diverse", "0.3", code=2)
    assert run(*alone, "--under", tmp_path / "nowhere").stdout == "nothing found\n"
    hits = json.loads(run("search", db, "a cat", "--tag", "dog", "-k", "2", "--json").stdout)
    assert len(hits[0]["hits"]) == 2
    assert "not both" in complaint("tag", db, "--labels", "x", "--classifier", "y", code=2)
    assert "no place for --templates" in complaint("tag", db, "--templates", "five", code=2)
    other = _of_another(bundles, tmp_path)
    assert "made with tiny" in complaint("tag", other, "--classifier", tmp_path / "pets.npz")


def _of_another(bundles: dict[str, Path], tmp_path: Path) -> Path:
    other = tmp_path / "other.db"
    with bareclip.Index.open(other, bareclip.load(bundles["odd"])) as index:
        index.add(["x"], np.eye(1, index.made_by.width))
    return other


@needs_posix
def test_sidecars_by_the_command(photos: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    db = tmp_path / "photos.db"
    run("index", photos, "--db", db, "--bundle", bundles["tiny"])
    (photos / "00.jpg.xmp").write_text("<x/>")
    said = run("tag", db, "--labels", "cat,dog", "--threshold", "0.5", "--xmp")
    assert f"kept: {photos}/00.jpg.xmp, which another program wrote" in said.stderr
    assert (
        "sidecars: 11 written, 0 removed, 0 as they were, 1 of other programs kept" in said.stderr
    )
    assert (photos / "00.jpg.xmp").read_text() == "<x/>"
    assert len([*photos.rglob("*.xmp")]) == 12
    assert "0 written, 0 removed, 11 as they were" in run("tag", db, "--xmp").stderr
    assert "11 removed" in run("tag", db, "--threshold", "1", "--xmp").stderr
    assert run("index", photos, "--db", db).stdout == "0 added, 12 unchanged\n"
    db.chmod(0o666)
    assert "is not yours alone" in complaint("tag", db, "--xmp")


@pytest.mark.filterwarnings("ignore:label")
def test_a_label_that_there_is_twice_is_one_tag(
    index: bareclip.Index, photos: Path, clip: bareclip.Clip
) -> None:
    index.sync(photos)
    index.tag(clip.classifier(["cat", "dog", "cat"]), threshold=0.0)
    assert all(sorted(names) == ["cat", "dog"] for names in tags(index).values())
    found = index.tagged("cat", k=100)
    assert len({hit.item for hit in found}) == len(found) == 12
    with pytest.raises(bareclip.VectorError, match="k is -1"):
        index.tagged("cat", k=-1)


def test_no_sidecar_beside_what_was_only_named(
    photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    named = tmp_path / "secrets.txt"
    named.write_text("mine")
    clip = bareclip.load(bundles["tiny"])
    with bareclip.Index.open(tmp_path / "photos.db", clip) as index:
        index.sync(photos)
        index.add([str(named)], clip.embed_texts(["a cat"]))
    options = ("--bundle", bundles["tiny"], "--labels", "cat,dog", "--xmp")
    run("tag", tmp_path / "photos.db", *options)
    assert not named.with_name("secrets.txt.xmp").exists()
    assert len([*photos.rglob("*.xmp")]) == 12


def test_examples_count_in_what_is_held_at_once(
    index: bareclip.Index, clip: bareclip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bareclip.index import tagging
    from bareclip.scoring import heads

    rows = normalize(np.random.default_rng(1).standard_normal((400, 20))).astype(np.float32)
    index.add([str(i) for i in range(400)], rows)
    plain = classifier(clip)
    lookup = heads.Lookup(rows[:200], np.arange(200) % 4, 1.0, 5.5)
    taught = bareclip.Classifier(
        Head(plain.head.matrix, plain.head.scoring, lookup), clip.fingerprint
    )
    most = []
    evidence = heads.evidence
    monkeypatch.setattr(tagging, "_CELLS", 204 * 16)
    monkeypatch.setattr(
        heads, "evidence", lambda *given: (most.append(len(given[2])), evidence(*given))[1]
    )
    index.tag(taught, threshold=0.3)
    assert max(most) == 16
