"""Indexing stands on the encoder: its batches, its overlap, its threads, and none besides."""

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.encoders import image_encoder
from bareclip.index.sync import SyncProgress
from tests.runtime import fake_cuda
from tests.runtime.fake_cuda import FakeCuda
from tests.variants import picture

BATCH, PICTURES = 16, 64


class Device:
    """One GPU with two workers, which tells what each run was given."""

    def __init__(self) -> None:
        self.batches: list[str] = []
        # The first run ends when a second one has begun.
        self.two_at_once = threading.Barrier(2)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    FakeCuda().install(monkeypatch)
    monkeypatch.setattr(image_encoder, "CUDA_IMAGE_BATCH", BATCH)
    found = Device()
    inner = fake_cuda._Session._compute

    def compute(session: Any, binding: Any, how: str) -> None:
        [value] = binding.inputs.values()
        found.batches.append(hashlib.sha256(value.array.tobytes()).hexdigest())
        if len(found.batches) <= 2:
            found.two_at_once.wait(timeout=60)
        inner(session, binding, how)

    monkeypatch.setattr(fake_cuda._Session, "_compute", compute)
    return found


@pytest.fixture
def on_gpu(device: Device, bundles: dict[str, Path]) -> Iterator[bareclip.Clip]:
    with bareclip.load(bundles["tiny"], device="cuda") as clip:
        yield clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures, and among them some files that are none."""
    place = tmp_path / "photos"
    place.mkdir()
    for i in range(PICTURES):
        picture(40 + i, 36, seed=i).save(place / f"{i:02}.png")
        if i % 9 == 4:
            (place / f"{i:02} broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
            (place / f"{i:02}.txt").write_text("no picture")
    return place


def test_a_sync_runs_the_batches_of_embed_images_two_at_a_time(
    device: Device, on_gpu: bareclip.Clip, folder: Path, tmp_path: Path
) -> None:
    paths = sorted(folder.glob("*.png"))
    alone = on_gpu.embed_images(paths, on_error="skip")
    assert not device.two_at_once.broken
    wanted, device.batches = device.batches, []
    assert len(wanted) == PICTURES // BATCH
    with bareclip.Index.open(tmp_path / "photos.db", on_gpu) as index:
        report = index.sync(folder)
        assert not device.two_at_once.broken
        assert (report.added, len(report.failures)) == (PICTURES, len(alone.failures))
        assert sorted(device.batches) == sorted(wanted)
        with index._store.reading():
            names = [os.fsdecode(path) for _, path, _ in index._store.items.each()]
            vectors = np.concatenate([*index._store.vectors.chunks(0)])
    assert names == [str(paths[place]) for place in alone.kept]
    np.testing.assert_array_equal(vectors, alone.vectors)


def test_an_interrupted_sync_leaves_no_work_and_no_thread_behind(
    device: Device, on_gpu: bareclip.Clip, folder: Path, tmp_path: Path
) -> None:
    before = set(threading.enumerate())
    on_gpu.embed_images(sorted(folder.glob("*[0-9].png"))[: 2 * BATCH])
    own = set(threading.enumerate()) - before

    def stop(progress: SyncProgress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with bareclip.Index.open(tmp_path / "photos.db", on_gpu) as index:
        with pytest.raises(KeyboardInterrupt):
            index.sync(folder, report=stop)
        assert set(threading.enumerate()) <= before | own
        kept = index.status().photos
        assert kept == BATCH
        assert index.sync(folder).added == PICTURES - kept
        assert len(index.search("a cat", k=100)) == PICTURES
    on_gpu.close()
    assert own
    for thread in own:
        thread.join(timeout=60)
        assert not thread.is_alive()
