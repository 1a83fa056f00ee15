"""What shards cost: pictures per second beside a plain stream, memory by size, a finished run.

    python -m benchmarks.one_shard --bundle clip-b32

Tars of 320x240 JPEGs are made in a temporary folder. The stream reads the same tar with tarfile
and decodes as a shard does not: whole, which at this size is the same. Each figure is of a process
of its own; memory is its largest.
"""

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import bareclip

SIZES = (100, 1000, 10_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", help="a folder; the demo model where none is given")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="pictures of a shard")
    parser.add_argument("--shards", type=int, default=1000, help="of the run that is finished")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        work, path = arguments.child
        print(json.dumps(WORK[work](Path(path), arguments.bundle)))
        return
    report: dict[str, Any] = {"shard": {}, "stream": {}}
    with tempfile.TemporaryDirectory() as place:
        for size in arguments.sizes:
            path = Path(place, f"{size}.tar")
            write_tar(path, size)
            report["shard"][size] = child("shard", path, arguments.bundle)
        report["stream"][size] = child("stream", path, arguments.bundle)
        many = Path(place, "many")
        write_folder(many, arguments.shards)
        report["finished"] = child("finished", many, arguments.bundle)
    print(json.dumps(report, indent=2))


def child(work: str, path: Path, bundle: str | None) -> Any:
    command = [sys.executable, "-m", "benchmarks.one_shard", "--child", work, str(path)]
    command += ["--bundle", bundle] if bundle else []
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def shard(path: Path, bundle: str | None) -> dict[str, float]:
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")  # as `bareclip shards run` does
    from bareclip import shards

    plan, clip = shards.plan(path, path.with_suffix(".out")), warm(bundle)
    started = time.perf_counter()
    rows = shards.run_shard(plan, 0, clip).rows
    seconds = time.perf_counter() - started
    return {"per_second": rows / seconds, "largest_mb": largest()}


def stream(path: Path, bundle: str | None) -> dict[str, float]:
    def pictures() -> Iterator[bytes]:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member)
                assert file is not None
                yield file.read()

    clip = warm(bundle)
    started = time.perf_counter()
    rows = sum(1 for _ in clip.images.stream(pictures()))
    return {"per_second": rows / (time.perf_counter() - started), "largest_mb": largest()}


def finished(folder: Path, bundle: str | None) -> dict[str, float]:
    """Seconds of whole commands, on a run that is done."""
    from bareclip import shards

    plan = shards.plan(folder, folder / "OUT", rows=1)
    for _ in shards.run(plan, bareclip.load(bundle)):
        pass
    found = {}
    for verb in ("run", "status", "verify"):
        command = [sys.executable, "-m", "bareclip", "shards", verb, plan.out]
        command += ["--bundle", bundle] if bundle and verb == "run" else []
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found[verb] = time.perf_counter() - started
    return found


def warm(bundle: str | None) -> bareclip.Clip:
    clip = bareclip.load(bundle)
    size = clip.images.recipe.size
    clip.images.embed([np.zeros((size, size, 3), np.uint8)] * 16)
    return clip


def largest() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def jpeg(rng: np.random.Generator) -> bytes:
    file = io.BytesIO()
    pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((320, 240)).save(file, "JPEG")
    return file.getvalue()


def write_tar(path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for i in range(count):
            data = jpeg(rng)
            member = tarfile.TarInfo(f"{i:09}.jpg")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def write_folder(folder: Path, count: int) -> None:
    folder.mkdir()
    data = jpeg(np.random.default_rng(0))
    for i in range(count):
        (folder / f"{i:06}.jpg").write_bytes(data)


WORK = {"shard": shard, "stream": stream, "finished": finished}

if __name__ == "__main__":
    main()
