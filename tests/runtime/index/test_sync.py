"""What a sync does with a folder that changes, and with whatever lies in it."""

import os
import shutil
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import StoreError
from bareclip.index import inspection
from bareclip.index import scan as scan_module
from bareclip.index import sync as sync_module
from bareclip.index.sync import SyncProgress, SyncReport
from bareclip.inference.session import Tower
from tests.machine import needs_any_name, needs_posix
from tests.variants import picture

from .conftest import names


def counts(report: SyncReport) -> tuple[int, int, int, int, int]:
    return (report.added, report.changed, report.renamed, report.removed, report.unchanged)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for each picture that a sync decodes."""
    found: list[int] = []
    inner = inspection.opened_pixels

    def counted(*given: Any, max_pixels: int) -> Any:
        found.append(1)
        return inner(*given, max_pixels=max_pixels)

    monkeypatch.setattr(inspection, "opened_pixels", counted)
    return found


def test_vectors_are_the_models(index: bareclip.Index, photos: Path, clip: bareclip.Clip) -> None:
    assert counts(index.sync(photos)) == (12, 0, 0, 0, 0)
    for path in sorted(photos.rglob("*.jpg")):
        first, *_ = index.search(clip.embed_images([path])[0], k=1)
        assert first.item == str(path)
        assert first.similarity == pytest.approx(1, abs=1e-5)
        assert first.metadata is None


def test_unchanged_files_are_not_decoded(
    index: bareclip.Index, photos: Path, decoded: list[int]
) -> None:
    index.sync(photos)
    assert len(decoded) == 12
    assert counts(index.sync(photos)) == (0, 0, 0, 0, 12)
    os.utime(photos / "00.jpg", (1, 1))
    assert counts(index.sync(photos)) == (0, 0, 0, 0, 12)
    assert len(decoded) == 12


def test_changed_vanished_and_renamed_files(
    index: bareclip.Index, photos: Path, decoded: list[int]
) -> None:
    index.sync(photos)
    picture(90, 40, seed=99).save(photos / "00.jpg")
    (photos / "03.jpg").unlink()
    (photos / "new").mkdir()
    (photos / "06.jpg").rename(photos / "new" / "six.jpg")
    shutil.copy(photos / "09.jpg", photos / "copy.jpg")
    ids = {path: id_ for id_, path, _ in index._store.items.each()}
    assert counts(index.sync(photos)) == (1, 1, 1, 1, 9)
    assert len(decoded) == 13
    after = {path: id_ for id_, path, _ in index._store.items.each()}
    moved = os.fsencode(photos / "new" / "six.jpg")
    assert after[moved] == ids[os.fsencode(photos / "06.jpg")]
    assert after[os.fsencode(photos / "00.jpg")] > max(ids.values())
    assert names(index) >= {"six.jpg", "copy.jpg"}
    assert not names(index) & {"03.jpg", "06.jpg"}
    assert [hit.similarity for hit in index.search(photos / "copy.jpg", k=1)] == pytest.approx([1])


def test_two_files_change_places(index: bareclip.Index, photos: Path, clip: bareclip.Clip) -> None:
    index.sync(photos)
    first, second = photos / "00.jpg", photos / "03.jpg"
    first.rename(photos / "x")
    second.rename(first)
    (photos / "x").rename(second)
    os.utime(first, (1, 1))
    os.utime(second, (1, 1))
    index.sync(photos)
    for path in (first, second):
        assert index.search(clip.embed_images([path])[0], k=1)[0].item == str(path)


def test_what_changed_is_embedded_again_if_its_twin_did_too(
    index: bareclip.Index, photos: Path, clip: bareclip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "_BATCH", 1)
    index.sync(photos)
    before = (photos / "00.jpg").read_bytes()
    picture(90, 40, seed=99).save(photos / "00.jpg")
    (photos / "03.jpg").write_bytes(before)
    assert counts(index.sync(photos)) == (0, 2, 0, 0, 10)
    for name in ("00.jpg", "03.jpg"):
        vector = clip.embed_images([photos / name])[0]
        assert index.search(vector, k=1)[0].item == str(photos / name)


def test_only_the_folder_synced_loses_files(index: bareclip.Index, photos: Path) -> None:
    index.sync(photos)
    (photos / "00.jpg").unlink()
    (photos / "a" / "01.jpg").unlink()
    assert counts(index.sync(photos / "a")) == (0, 0, 0, 1, 7)
    assert "00.jpg" in names(index)
    # A folder whose name begins with the other's is another folder.
    shutil.copytree(photos / "a", photos / "ab")
    index.sync(photos / "ab")
    shutil.rmtree(photos / "ab" / "b")
    assert index.sync(photos / "a").removed == 0


def test_one_folder_by_several_names(
    index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.sync(photos / "a" / "..")
    monkeypatch.chdir(photos / "a")
    assert counts(index.sync("..")) == (0, 0, 0, 0, 12)
    (photos / "00.jpg").unlink()
    assert index.sync(photos).removed == 1
    link = photos.with_name("link")
    link.symlink_to(photos, target_is_directory=True)
    assert counts(index.sync(link)) == (0, 0, 0, 0, 11)
    (photos / "03.jpg").unlink()
    assert index.sync(link).removed == 1
    assert index.sync(photos).removed == 0


def test_a_missing_or_empty_folder_loses_nothing(index: bareclip.Index, photos: Path) -> None:
    index.sync(photos)
    away = photos.with_name("away")
    photos.rename(away)
    with pytest.raises(StoreError, match="No such file or directory; to remove the 12 files"):
        index.sync(photos)
    photos.mkdir()
    with pytest.raises(StoreError, match=r"is empty; is its disk mounted\?.*--prune"):
        index.sync(photos)
    assert len(names(index)) == 12
    assert index.sync(photos, prune=True).removed == 12
    photos.rmdir()
    away.rename(photos)
    assert index.sync(photos).added == 12
    shutil.rmtree(photos)
    assert index.sync(photos, prune=True).removed == 12
    with pytest.raises(StoreError, match="No such file"):
        index.sync(photos)


def test_a_disk_below_the_folder_that_is_away(
    index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = os.stat

    def stat(path: Any, **options: Any) -> Any:
        status = inner(path, **options)
        if b"mounted" not in os.fsencode(path) or away:
            return status
        values = list(status)
        values[2] += 1
        times = {"st_mtime_ns": status.st_mtime_ns}
        return os.stat_result(values, times)

    away = False
    disk = photos / "mounted"
    disk.mkdir()
    picture(70, 40, seed=70).save(disk / "70.jpg")
    monkeypatch.setattr(os, "stat", stat)
    index.sync(photos)
    (disk / "70.jpg").unlink()
    away = True
    report = index.sync(photos)
    assert (report.removed, report.kept) == (0, 1)
    assert "70.jpg" in names(index)
    away = False
    assert index.sync(photos).removed == 1


def test_an_unreadable_folder_is_named_and_its_photos_kept(
    index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.sync(photos)
    inner = os.scandir

    def scandir(path: Any) -> Any:
        if os.fsencode(path).endswith(b"/a"):
            raise PermissionError(13, "Permission denied", path)
        return inner(path)

    monkeypatch.setattr(scan_module.os, "scandir", scandir)
    report = index.sync(photos)
    [failure] = report.unreadable
    assert (failure.path, failure.reason) == (str(photos / "a"), "Permission denied")
    assert (report.removed, report.kept, len(names(index))) == (0, 8, 12)
    with pytest.raises(StoreError, match="cannot read folder .*: Permission denied"):
        index.sync(photos / "a")


def test_links_lead_to_a_photo_once(index: bareclip.Index, photos: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    picture(70, 40, seed=70).save(outside / "70.jpg")
    (photos / "0 link.jpg").symlink_to(outside / "70.jpg")
    (photos / "1 link.jpg").symlink_to(outside / "70.jpg")
    (photos / "0 twin.jpg").symlink_to(photos / "00.jpg")
    (photos / "0 again").symlink_to(photos / "a", target_is_directory=True)
    (photos / "a" / "up").symlink_to(photos, target_is_directory=True)
    (photos / "self.jpg").symlink_to(photos / "self.jpg")
    (photos / "gone.jpg").symlink_to(tmp_path / "nothing")
    report = index.sync(photos)
    assert report.added == 13
    assert {Path(failure.path).name for failure in report.failures} == {"self.jpg", "gone.jpg"}
    assert len({f.reason for f in report.failures}) == 2
    assert "0 link.jpg" in names(index)
    assert "0 twin.jpg" not in names(index)
    # Found under the folder of the link, so gone with it.
    (photos / "0 link.jpg").unlink()
    assert index.sync(photos).removed == 0
    assert "1 link.jpg" in names(index)
    (photos / "1 link.jpg").unlink()
    assert index.sync(photos).removed == 1


def test_a_photo_of_two_folders_is_one(index: bareclip.Index, photos: Path, tmp_path: Path) -> None:
    album = tmp_path / "album"
    album.mkdir()
    (album / "best.jpg").symlink_to(photos / "00.jpg")
    assert counts(index.sync(album)) == (1, 0, 0, 0, 0)
    assert counts(index.sync(photos)) == (11, 0, 0, 0, 1)
    assert "00.jpg" in names(index)
    (album / "best.jpg").unlink()
    index.sync(album)
    assert len(names(index)) == 12


@needs_posix
def test_special_files_are_never_opened(index: bareclip.Index, photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(photos)  # a socket's path is short
        server.bind("socket.jpg")
        os.chdir(here)
        report = index.sync(photos)
    assert {f.reason for f in report.failures} == {"it is a pipe, a socket or a device"}
    assert (report.added, len(report.failures)) == (12, 2)


@needs_any_name
def test_odd_files(index: bareclip.Index, photos: Path, clip: bareclip.Clip) -> None:
    (photos / "empty.jpg").touch()
    (photos / "notes.txt").write_text("hello")
    (photos / "text.png").write_text("hello")
    with (photos / "sparse.jpg").open("wb") as file:
        file.truncate(1 << 42)
    with (photos / "video.mov").open("wb") as file:
        file.truncate(1 << 42)
    shutil.copy(photos / "00.jpg", photos / "wrong.png")
    picture(61, 40, seed=61).save(photos / "no ending", "PNG")
    raw = os.fsencode(photos) + b"/caf\xe9.jpg"
    picture(62, 40, seed=62).save(os.fsdecode(raw))
    report = index.sync(photos)
    assert report.added == 15
    reasons = {Path(failure.path).name: failure.reason for failure in report.failures}
    assert reasons == {
        "empty.jpg": "it is empty",
        "text.png": "it is in no image format that Pillow reads, or it is cut short",
        "sparse.jpg": "it has 4,398,046,511,104 bytes, more than 1,073,741,824",
    }
    status = index.status()
    assert (status.photos, status.other, len(status.failures)) == (15, 2, 3)
    [hit] = index.search(clip.embed_images([os.fsdecode(raw)])[0], k=1)
    assert os.fsencode(hit.item) == raw
    again = index.sync(photos)
    assert (again.unchanged, again.failures) == (20, [])


def test_unreadable_files_are_tried_again(
    index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = os.open

    def refuse(path: Any, *rest: Any) -> Any:
        if os.fsencode(path).endswith(b"/00.jpg"):
            raise PermissionError(13, "Permission denied")
        return inner(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        [failure] = index.sync(photos).failures
    assert failure.reason == "Permission denied"
    assert index.sync(photos).changed == 1
    assert index.status().failures == []


@pytest.mark.parametrize(
    "error", [MemoryError(), RecursionError("x"), SyntaxError("y"), KeyError()]
)
def test_whatever_a_decoder_raises_is_that_files_failure(
    index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object, max_pixels: int) -> None:
        raise error

    monkeypatch.setattr(inspection, "opened_pixels", fail)
    report = index.sync(photos)
    assert (report.added, len(report.failures)) == (0, 12)


def test_the_store_may_lie_in_the_folder(clip: bareclip.Clip, photos: Path) -> None:
    with bareclip.Index.open(photos / "photos.db", clip) as index:
        (photos / "photos.db.01234567.part-journal").touch()
        (photos / "photos.db.vectors.89abcdef.part").touch()
        index.sync(photos)
        assert index.status().other == 0
        assert list(photos.glob("*.part*")) == []
        (photos / "photos.db.txt").touch()
        index.sync(photos)
        assert index.status().other == 1


def test_progress_is_reported(index: bareclip.Index, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    steps: list[SyncProgress] = []
    index.sync(photos, report=steps.append)
    assert steps[0] == SyncProgress(0, 13, 0)
    assert steps[-1] == SyncProgress(13, 13, 1)
    assert [step.done for step in steps] == sorted(step.done for step in steps)


def test_an_interrupt_keeps_the_work(
    index: bareclip.Index, photos: Path, decoded: list[int]
) -> None:
    def stop(progress: SyncProgress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.sync(photos, report=stop)
    assert len(names(index)) == 8
    assert index.sync(photos).added == 4


def test_a_second_writer_is_told(index: bareclip.Index, photos: Path, clip: bareclip.Clip) -> None:
    index.sync(photos / "a" / "b")
    with bareclip.Index.open(index.path, clip) as second:

        def meanwhile(progress: SyncProgress) -> None:
            with pytest.raises(StoreError, match="is being written by another process; wait"):
                second.sync(photos)
            with pytest.raises(StoreError, match="is being written by another process"):
                second.add(["x"], np.ones((1, 20)))
            # A reader sees what was committed, as it comes.
            assert len(second.search("a cat", k=20)) == 4 + progress.done

        index.sync(photos, report=meanwhile)
        assert len(second.search("a cat", k=20)) == 12
        second.sync(photos)


def test_a_second_process_is_told(index: bareclip.Index, photos: Path) -> None:
    code = f"""
import bareclip
from bareclip.index.database import only_writer
from pathlib import Path
try:
    with only_writer(Path({str(index.path)!r})):
        print("got it")
except bareclip.StoreError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    index.add(["x"], np.ones((1, 20)))
    with index._store.writing():
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "is being written by another process" in told
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told == "got it\n"


def test_a_full_disk_is_one_line_and_keeps_the_work(
    clip: bareclip.Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_module, "_BATCH", 8)
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(400):
        (folder / f"{'x' * 200}{i}.jpg").write_bytes(b"no")
    with bareclip.Index.open(tmp_path / "photos.db", clip) as index:
        index.add(["x"], np.ones((1, 20)))
        [pages] = index._store._db.execute("PRAGMA page_count").fetchone()
        index._store._db.execute(f"PRAGMA max_page_count = {pages + 4}")
        with pytest.raises(StoreError, match="no room left to write .*so far is kept") as caught:
            index.sync(folder)
        assert isinstance(caught.value.__cause__, sqlite3.OperationalError)
        kept = len(index.status().failures)
        assert 0 < kept < 400
        index._store._db.execute("PRAGMA max_page_count = 100000")
        assert len(index.sync(folder).failures) == 400 - kept


@pytest.mark.parametrize("value", [np.nan, 0.0, 1e30])
def test_what_a_broken_graph_gives_is_not_indexed(
    index: bareclip.Index, photos: Path, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    index.sync(photos / "a" / "b")
    inner = Tower.run

    def run(tower: Tower, *inputs: Any) -> Any:
        return np.full_like(inner(tower, *inputs), value)

    with monkeypatch.context() as patch:
        patch.setattr(Tower, "run", run)
        with pytest.raises(bareclip.BareclipError, match="NaN"):
            index.sync(photos)
    assert len(index.search(np.ones(20), k=20)) == 4
    assert index.sync(photos).added == 8
