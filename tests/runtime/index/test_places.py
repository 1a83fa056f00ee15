"""Where an index lies, and what may lie there: read-only places, odd times, equal inodes."""

import dataclasses
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import StoreError
from bareclip.bundle import Bundle
from bareclip.index import database, inspection, opening
from bareclip.index.item_rows import ItemRows
from tests.machine import needs_posix
from tests.variants import picture

from .conftest import names

YEARS = {
    "2262": 2**63,
    "2262, almost": 2**63 - 1,
    "2446, ext4's last": 15_032_385_535 * 10**9,
    "1677": -(2**63) - 1,
    "1969": -1,
    "as far as 64 bits of seconds go": (2**63 - 1) * 10**9,
    "as long ago": -(2**63) * 10**9,
}


def with_status(change: Callable[[bytes, list[int], dict[str, int]], None]) -> Callable[..., Any]:
    """``os.stat``, whose answers ``change`` changes."""
    inner = os.stat

    def stat(path: Any, **options: Any) -> Any:
        status = inner(path, **options)
        values, more = list(status), {"st_mtime_ns": status.st_mtime_ns}
        if not isinstance(path, int):
            change(os.fsencode(path), values, more)
        return os.stat_result(values, more)

    return stat


@pytest.mark.parametrize("when", YEARS.values(), ids=YEARS)
def test_no_time_ends_a_sync(
    index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch, when: int
) -> None:
    def odd(path: bytes, values: list[int], more: dict[str, int]) -> None:
        if path.endswith(b"00.jpg"):
            more["st_mtime_ns"] = when

    monkeypatch.setattr(os, "stat", with_status(odd))
    assert index.sync(photos).added == 12
    assert index.sync(photos).unchanged == 12
    # Another photo in its place, of as many bytes: the times differ, and so they do as stored.
    size = (photos / "00.jpg").stat().st_size
    picture(90, 30, seed=5).save(photos / "00.jpg", quality=20)
    with (photos / "00.jpg").open("ab") as file:
        file.write(bytes(size - file.tell()))
    when += 10**9
    assert index.sync(photos).changed == 1


def test_a_real_file_of_the_year_2262(index: bareclip.Index, photos: Path) -> None:
    for name, when in (("00.jpg", 2**63), ("03.jpg", -(2**62))):
        os.utime(photos / name, ns=(when, when))
    assert index.sync(photos).added == 12
    assert index.sync(photos).unchanged == 12


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 10**30, -1])
def test_no_size_ends_a_sync(
    index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    def odd(path: bytes, values: list[int], more: dict[str, int]) -> None:
        if path.endswith(b"00.jpg"):
            values[6] = size

    monkeypatch.setattr(os, "stat", with_status(odd))
    report = index.sync(photos)
    assert report.added + len(report.failures) == 12
    assert report.added >= 11


def collide(path: bytes, values: list[int], more: dict[str, int]) -> None:
    values[1], values[2] = 4711, 42  # inode and device


def test_folders_and_files_of_one_inode_number_are_different(
    index: bareclip.Index, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    picture(70, 40, seed=70).save(outside / "70.jpg")
    (photos / "out").symlink_to(outside, target_is_directory=True)
    (photos / "a" / "up").symlink_to(photos, target_is_directory=True)
    (photos / "a" / "b" / "round").symlink_to("../../a", target_is_directory=True)
    (photos / "again").symlink_to("a/b", target_is_directory=True)
    (photos / "one").symlink_to("two", target_is_directory=True)
    (photos / "two").symlink_to("one", target_is_directory=True)
    report = index.sync(photos)
    assert (report.added, len(report.failures)) == (13, 2)
    monkeypatch.setattr(os, "stat", with_status(collide))
    report = index.sync(photos)
    assert (report.unchanged, report.removed, report.added) == (13, 0, 0)
    with bareclip.Index.open(tmp_path / "new.db", index._clip) as new:
        assert new.sync(photos).added == 13
        assert names(new) == names(index)


@pytest.fixture
def read_only(index: bareclip.Index, photos: Path) -> Path:
    """The file of an index where nothing may be written; for root, SQLite says so."""
    index.sync(photos)
    index.close()
    for path in index.path.parent.glob("photos.db.lock"):
        path.unlink()
    return index.path


# Uses an index; and again as nobody, whom a folder's permissions stop, and root's imports too.
_AS_NOBODY = """
import os, sys
import bareclip, numpy as np
def use(db, out):
    with bareclip.Index.open(db) as index:
        print(index.status().photos)
        print(len(index.search(np.ones(20), k=20)))
        print(index.export_to(out + "/v.npy"))
        try:
            index.search(np.ones(20), k=1, approximate=True)
        except bareclip.StoreError as error:
            assert "usearch" in str(error)
db, out, first = sys.argv[1:]
use(first, os.path.dirname(first))
if os.geteuid() == 0:
    os.setegid(65534)
    os.seteuid(65534)
use(db, out)
"""


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs permissions")
def test_a_folder_that_cannot_be_written_is_searched(
    read_only: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # Below /tmp's own folders, of which pytest's are closed to others.
    place = Path(os.path.realpath(tmp_path_factory.mktemp("x"))).parents[2] / f"ro-{os.getpid()}"
    out = place.with_name(f"{place.name}-out")
    shutil.copytree(read_only.parent, place, ignore=shutil.ignore_patterns("photos"))
    try:
        out.mkdir()
        out.chmod(0o777)
        for path in place.iterdir():
            path.chmod(0o444)
        place.chmod(0o555)
        before = sorted(path.name for path in place.iterdir())
        places = [str(place / "photos.db"), str(out), str(read_only)]
        command = [sys.executable, "-c", _AS_NOBODY, *places]
        environment = os.environ | {"BARECLIP_CACHE": "off"}
        told = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert told.returncode == 0, told.stderr
        assert told.stdout.split() == ["12"] * 6
        assert sorted(path.name for path in place.iterdir()) == before
    finally:
        place.chmod(0o755)
        shutil.rmtree(place)
        shutil.rmtree(out, ignore_errors=True)


class Refusing:
    """sqlite3, where nothing may be written: as SQLite answers on a read-only mount."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(sqlite3, name)

    def connect(self, name: str, **options: Any) -> sqlite3.Connection:
        self.opened.append(name)
        if "immutable" not in name:
            raise sqlite3.OperationalError("unable to open database file")
        return sqlite3.connect(name, **options)


@pytest.fixture
def mount(read_only: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as on a read-only mount."""
    monkeypatch.setattr(opening, "sqlite3", Refusing())
    return read_only


def test_what_is_written_by_others_meanwhile_is_seen(
    mount: Path, clip: bareclip.Clip, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bareclip.Index.open(mount, clip) as reader:
        assert len(reader.search("a cat", k=20)) == 12
        with monkeypatch.context() as patch:
            patch.setattr(opening, "sqlite3", sqlite3)
            with bareclip.Index.open(mount, clip) as writer:
                writer.add(["new"], np.ones((1, 20)))
        assert len(reader.search("a cat", k=20)) == 13
        assert reader.search(np.ones(20), k=1)[0].item == "new"


def test_what_is_written_while_it_is_read_is_not_answered_from(
    mount: Path, clip: bareclip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(opening, "sqlite3", sqlite3)
            with bareclip.Index.open(mount, clip) as writer:
                writer.add(["new"], np.ones((1, 20)))

    inner = ItemRows.counts
    monkeypatch.setattr(ItemRows, "counts", lambda rows: (inner(rows), write())[0])
    with bareclip.Index.open(mount, clip) as reader:
        with pytest.raises(StoreError, match="was written while it was read; ask again"):
            reader.status()
        monkeypatch.setattr(ItemRows, "counts", inner)
        assert reader.status().added == 1


def test_another_index_in_its_place_is_told(
    mount: Path, bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bareclip.Index.open(mount) as reader:
        with monkeypatch.context() as patch:
            patch.setattr(opening, "sqlite3", sqlite3)
            with bareclip.Index.open(tmp_path / "odd.db", bareclip.load(bundles["odd"])) as odd:
                odd.add(["a"], np.ones((1, 12)))
        shutil.copy(tmp_path / "odd.db", mount)
        with pytest.raises(StoreError, match="is another index than it was; open it again"):
            reader.status()


def test_what_a_killed_writer_left_cannot_be_read_there(mount: Path) -> None:
    mount.with_name("photos.db-wal").write_bytes(b"x" * 100)
    with pytest.raises(StoreError, match=r"photos\.db-wal, which cannot be read .* copy both"):
        bareclip.Index.open(mount)
    mount.with_name("photos.db-wal").write_bytes(b"")
    bareclip.Index.open(mount).close()


def test_writing_where_nothing_may_be_written_is_one_line(
    mount: Path, clip: bareclip.Clip, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing = Refusing()
    monkeypatch.setattr(database, "sqlite3", refusing)
    with bareclip.Index.open(mount, clip) as index:
        for use in (lambda: index.sync(photos), lambda: index.add(["a"], np.ones((1, 20)))):
            with pytest.raises(StoreError, match="cannot write .*; searching works without"):
                use()
        assert len(index.search("a cat", k=20)) == 12


def test_a_disk_without_locks_is_named(
    index: bareclip.Index, photos: Path, clip: bareclip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoLocks(Refusing):
        def connect(self, name: str, **options: Any) -> sqlite3.Connection:
            raise sqlite3.OperationalError("database is locked")

    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    index.sync(photos)
    fcntl = pytest.importorskip("fcntl")
    for module in (opening, database):
        monkeypatch.setattr(module, "sqlite3", NoLocks())
    with pytest.raises(StoreError, match="is being written by another process"):
        index.sync(photos)
    monkeypatch.setattr(fcntl, "lockf", refuse)
    with pytest.raises(StoreError, match="has no file locks .No locks available.*local disk"):
        index.sync(photos)
    with pytest.raises(StoreError, match="has no file locks"):
        bareclip.Index.open(index.path.with_name("new.db"), clip).add(["a"], np.ones((1, 20)))
    assert not [*index.path.parent.glob("*.part")]


def test_a_mistyped_path_makes_no_index(
    clip: bareclip.Clip, photos: Path, tmp_path: Path, bundles: dict[str, Path]
) -> None:
    before = sorted(tmp_path.rglob("*"))
    with bareclip.Index.open(tmp_path / "fotos.db", clip) as index:
        for use in (
            lambda: index.search("a cat"),
            lambda: index.search_many([np.ones(20)]),
            lambda: index.status(),
            lambda: index.export_to(tmp_path / "v.npy"),
        ):
            with pytest.raises(StoreError, match="there is no index at .*fotos.db; make one"):
                use()
        for use in (
            lambda: index.sync(tmp_path / "none"),
            lambda: index.import_from(tmp_path / "none.npy"),
            lambda: index.add(["a"], np.zeros((1, 20))),
        ):
            with pytest.raises(bareclip.BareclipError):
                use()
        assert sorted(tmp_path.rglob("*")) == before
        assert index.bundle is None
        # What another has made meanwhile is there.
        with bareclip.Index.open(tmp_path / "fotos.db", clip) as other:
            other.sync(photos)
        assert index.search("a cat", k=1) == other_hits(tmp_path / "fotos.db", clip)
        assert index.bundle == str(bundles["tiny"])


def other_hits(db: Path, clip: bareclip.Clip) -> list[bareclip.IndexHit]:
    with bareclip.Index.open(db, clip) as index:
        return index.search("a cat", k=1)


@pytest.mark.parametrize("path", ["a\0b", "x" * 300, "loop/photos.db", "file/photos.db", "/"])
def test_paths_that_cannot_be(
    clip: bareclip.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    for model in (clip, None):
        with pytest.raises(StoreError):
            bareclip.Index.open(path, model)
    with bareclip.Index.open("photos.db", clip) as index:
        for _ in range(2):  # of an index that is not there yet, and of one that is
            with pytest.raises(StoreError, match="cannot read folder"):
                index.sync(f"{path}/none")
            index.add(["a"], np.ones((1, 20)))


def test_hits_say_what_was_indexed(index: bareclip.Index, photos: Path) -> None:
    index.sync(photos)
    index.add([str(photos / "00.jpg")], np.ones((1, 20)))
    hits = index.search(np.ones(20), k=20)
    assert hits[0].sha256 is None
    for hit in hits[1:]:
        assert hit.sha256 == hashlib.sha256(Path(hit.item).read_bytes()).hexdigest()


def test_only_what_writes_changes_the_file(
    index: bareclip.Index, photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    index.sync(photos)
    index.close()
    before = index.path.read_bytes()
    copy = bareclip.load(shutil.copytree(bundles["tiny"], tmp_path / "copy"))
    with bareclip.Index.open(index.path, copy) as again:
        again.search("a cat")
        again.status()
    assert index.path.read_bytes() == before


def test_a_clip_for_texts_alone_searches_and_does_not_index(
    index: bareclip.Index, photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    index.sync(photos)
    texts = bareclip.load(bundles["tiny"], towers=("text",))
    with bareclip.Index.open(index.path, texts) as other:
        assert other.search("a cat") == index.search("a cat")
        for use in (lambda: other.sync(photos), lambda: other.search(photos / "00.jpg")):
            with pytest.raises(bareclip.BundleError, match="vision"):
                use()
    new = bareclip.Index.open(tmp_path / "new.db", texts)
    for use in (lambda: new.sync(photos), lambda: new.add(["a"], np.ones((1, 20)))):
        with pytest.raises(bareclip.BundleError, match="vision"):
            use()
    assert not (tmp_path / "new.db").exists()


def test_a_bundle_of_texts_alone_is_refused(
    index: bareclip.Index, bundles: dict[str, Path], photos: Path
) -> None:
    index.sync(photos)
    whole = Bundle.read(bundles["tiny"])
    texts = {name: {"text": towers["text"]} for name, towers in whole.precisions.items()}
    bundle = dataclasses.replace(whole, precisions=texts, image=None)
    for path in (index.path, photos / "new.db"):
        with pytest.raises(bareclip.BundleError, match="has a text tower only"):
            bareclip.Index.open(path, bareclip.Clip(bundle))


def test_a_disk_that_was_taken_away(mount: Path) -> None:
    with bareclip.Index.open(mount) as index:
        mount.unlink()
        with pytest.raises(StoreError, match="is not there any more: No such file"):
            index.status()


def test_an_index_of_older_reading_rules_is_told_apart(
    index: bareclip.Index, clip: bareclip.Clip, photos: Path
) -> None:
    index.sync(photos)
    index._store._db.execute(
        "UPDATE meta SET value = replace(value, ', \"reading_version\": 2', '')"
        " WHERE name = 'fingerprint'"
    )
    index.close()
    with pytest.raises(StoreError, match="older rules of reading pictures .orientation.*new file"):
        bareclip.Index.open(index.path, clip)
    with bareclip.Index.open(index.path) as old:
        assert old.made_by.reading_version == 1
        assert len(old.search(np.ones(20), k=20)) == 12


@needs_posix
def test_a_file_that_became_a_pipe_after_the_scan_is_not_waited_for(
    index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = inspection._opened

    def late(path: bytes) -> Any:
        place = Path(os.fsdecode(path))
        if place.name in ("00.jpg", "03.jpg"):
            place.unlink()
            os.mkfifo(place) if place.name == "00.jpg" else place.symlink_to("/dev/zero")
        return inner(path)

    monkeypatch.setattr(inspection, "_opened", late)
    report = index.sync(photos)
    assert report.added == 10
    assert {failure.reason for failure in report.failures} == {"it is a pipe, a socket or a device"}
