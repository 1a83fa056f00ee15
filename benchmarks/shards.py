"""What shards promise: Ray as fast as one process, pictures in no object store, flat memory.

    python -m benchmarks.shards                        # three minutes; --bundle for another model

Rates are those of commands as a user gives them, from the first shard's begin to the last part, in
turns, the best of each. Memory is the largest that a worker on Ray ever had.
"""

import argparse
import functools
import io
import json
import re
import subprocess
import sys
import tarfile
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import bareclip

CORES = 2
ENGINES = {
    "local": ["--engine", "local", "--threads", str(CORES)],
    "ray, 1 worker of 2 cores": ["--engine", "ray", "--workers", "1", "--cpus-per-worker", "2"],
    "ray, 2 workers of 1 core": ["--engine", "ray", "--workers", "2", "--cpus-per-worker", "1"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", help="a folder; the demo model where none is given")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shards", type=int, default=12)
    parser.add_argument("--rows", type=int, default=500, help="of a shard")
    parser.add_argument("--largest", type=int, default=10_000, help="shard whose memory is taken")
    parser.add_argument("--only", choices=["engines", "store", "memory"])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        room = Path(folder)
        if given.only in {None, "engines"}:
            found["engines"] = engines(room, given.bundle, given.rounds, given.shards, given.rows)
        if given.only in {None, "store"}:
            found["store"] = store(room, given.bundle, given.shards, given.rows)
        if given.only in {None, "memory"}:
            found["memory"] = memory(room, given.bundle, given.largest)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n")


def engines(room: Path, bundle: str | None, rounds: int, shards: int, rows: int) -> Any:
    """Pictures a second of each engine on the same cores, in turns."""
    source = tars(room / "engines", shards, rows, (320, 240))
    rates: dict[str, list[float]] = {name: [] for name in ENGINES}
    for turn in range(rounds):
        for name, options in ENGINES.items():
            out = room / f"{turn}-{name.replace(' ', '')}"
            rates[name].append(rate(source, out, bundle, options))
    best = {name: max(turns) for name, turns in rates.items()}
    print(f"{'engine':28}{'a second':>10}{'of local':>10}   turns")
    for name, turns in rates.items():
        ratio = best[name] / best["local"]
        print(f"{name:28}{best[name]:>10.1f}{ratio:>10.1%}   {[round(turn) for turn in turns]}")
    return {name: {"turns": turns, "best": best[name]} for name, turns in rates.items()}


def rate(source: Path, out: Path, bundle: str | None, options: list[str]) -> float:
    from bareclip import shards

    plan = shards.plan(source, out)
    command = [sys.executable, "-m", "bareclip", "shards", "run", str(out), *options]
    command += [] if bundle is None else ["--bundle", bundle]
    subprocess.run(command, check=True, capture_output=True)
    footers = [plan.part(index).footer() for index in range(len(plan))]
    first = min(footer.started for footer in footers)
    last = max(footer.started + footer.seconds for footer in footers)
    return sum(footer.embedded for footer in footers) / (last - first)


def store(room: Path, bundle: str | None, shards: int, rows: int) -> Any:
    """What of Ray's object store was ever used in a run; then with 20 MB put into it."""
    import ray
    from ray._private import worker

    from bareclip.shards import plan, ray_engine

    source = tars(room / "store", shards, rows, (320, 240))
    ray.init("local", num_cpus=CORES, include_dashboard=False, log_to_driver=False)
    try:
        raylet = worker._global_node.all_processes["raylet"][0].process.pid
        load = functools.partial(bareclip.load, bundle, threads=1)
        events = ray_engine.run(plan(source, room / "store-out"), load, workers=CORES)
        embedded = sum(event.footer.embedded for event in events)
        used = touched(raylet)
        kept = ray.put(np.ones(20_000_000, np.uint8))
        put = touched(raylet)
        del kept
    finally:
        ray.shutdown()
    size = sum(path.stat().st_size for path in source.iterdir())
    print(
        f"object store: {used / 1e6:.2f} MB were ever used while {embedded} pictures of "
        f"{size / 1e6:.0f} MB were embedded; {put / 1e6:.2f} MB once 20 MB are put into it"
    )
    return {"used": used, "with_20_mb": put, "pictures": embedded, "bytes": size}


def touched(raylet: int) -> int:
    """Bytes of the object store that were ever written: blocks of the files it keeps in memory."""
    files = {}
    for path in Path(f"/proc/{raylet}/fd").iterdir():
        if "plasma" in str(path.readlink()) and path.is_file():
            about = path.stat()
            files[about.st_ino] = about.st_blocks * 512
    assert files, "the object store has no file"
    return sum(files.values())


def memory(room: Path, bundle: str | None, largest: int) -> Any:
    """The most memory of a worker, by how many pictures a shard has."""
    found = []
    print(f"{'pictures of a shard':>20}{'peak MB':>10}{'of the first':>14}")
    rows = [count for count in (100, 300, 1000, 3000, 10_000, 30_000) if count <= largest]
    for count in rows:
        source = tars(room / f"memory-{count}", 1, count, (64, 48))
        with peak_of_workers() as peak:
            options = ["--engine", "ray", "--workers", "1"]
            rate(source, room / f"memory-out-{count}", bundle, options)
        found.append({"rows": count, "peak_mb": peak[0] / 1024})
        print(f"{count:>20}{peak[0] / 1024:>10.1f}{peak[0] / 1024 / found[0]['peak_mb']:>14.1%}")
    return found


@contextmanager
def peak_of_workers() -> Iterator[list[int]]:
    """The largest memory, in KiB, of any worker on Ray that runs meanwhile on this machine."""
    peak, over = [0], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            for path in Path("/proc").glob("[0-9]*"):
                try:
                    if (path / "cmdline").read_bytes().startswith(b"ray::_Worker"):
                        said = (path / "status").read_text()
                        # VmHWM is what it ever had, so that nothing falls between two looks.
                        peak[0] = max(peak[0], int(re.findall(r"VmHWM:\s+(\d+)", said)[0]))
                except (OSError, IndexError):
                    continue

    watch = threading.Thread(target=look)
    watch.start()
    try:
        yield peak
    finally:
        over.set()
        watch.join()


def tars(folder: Path, count: int, rows: int, size: tuple[int, int]) -> Path:
    """Makes WebDataset tars of photos that differ."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (100, 6, 8, 3), dtype=np.uint8)
    files = []
    for pixels in noise:
        file = io.BytesIO()
        Image.fromarray(pixels).resize(size).save(file, "JPEG")
        files.append(file.getvalue())
    for number in range(count):
        with tarfile.open(folder / f"{number:05}.tar", "w") as archive:
            for i in range(rows):
                member = tarfile.TarInfo(f"{number:05}{i:06}.jpg")
                member.size = len(files[i % len(files)])
                archive.addfile(member, io.BytesIO(files[i % len(files)]))
    return folder


if __name__ == "__main__":
    main()
