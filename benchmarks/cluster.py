"""Shards on many machines: a discrete-event simulation, held against runs, then on paper.

    python -m benchmarks.cluster                 # measures 1, 2 and 4 workers; four minutes
    python -m benchmarks.cluster --only paper    # a hundred GPUs and a billion pictures; seconds

Measured are the engine on Ray and ``run_shard``, with an encoder and a decoder that sleep: four
workers on two cores are then four, which says how well work is handed out, and nothing about the
speed of any model. The simulation is told what a shard costs one worker by itself, measured with
decoding and encoding apart, and when each worker had loaded its model, and no more of the runs.
"""

import argparse
import functools
import heapq
import io
import itertools
import json
import math
import os
import random
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

import bareclip


@dataclass(frozen=True)
class Work:
    """What is to be done.

    Attributes:
        shards: How many.
        rows: Pictures of each.
        decode: Seconds of one core for a picture.
        encode: Seconds of one worker's encoder for a picture.
        fixed: Seconds of a shard beside its pictures: read its plan, fill the pipeline, write.
        factors: How much longer than the mean shards took that were measured; drawn from.
    """

    shards: int
    rows: int
    decode: float
    encode: float
    fixed: float
    factors: Sequence[float] = (1.0,)


@dataclass(frozen=True)
class Fleet:
    """Who does it.

    Attributes:
        workers: How many.
        cores: Of each, for decoding.
        load: Seconds from a process to its first shard.
        ready: The same of the first workers, each its own, where that was measured.
        boot: Seconds until a machine that was taken away is replaced.
        life: Mean seconds until a machine is taken away, which may be at any moment.
        driver_life: Likewise of the driver, with which all workers end.
        driver_boot: Seconds until it is started again.
        price: Of a worker's hour, from its first boot to the end.
    """

    workers: int
    cores: int
    load: float = 0.0
    ready: Sequence[float] = ()
    boot: float = 0.0
    life: float = math.inf
    driver_life: float = math.inf
    driver_boot: float = 0.0
    price: float = 0.0


@dataclass(frozen=True)
class Result:
    """What came of it.

    Attributes:
        seconds: From the first boot to the last part.
        busy: Seconds of workers that ended in a part.
        wasted: Seconds of workers on shards that were lost under them.
        lost: How many shards that were.
        paid: Seconds of all machines, those that boot among them.
    """

    seconds: float
    busy: float
    wasted: float
    lost: int
    paid: float

    @property
    def efficiency(self) -> float:
        return self.busy / self.paid


def simulate(work: Work, fleet: Fleet, seed: int = 0) -> Result:
    """Plays a run: shards are taken in turn, and what is lost is done again.

    From its third time on a shard's pictures are decoded one after another, as by ``run_shard``.

    Args:
        work, fleet: The run.
        seed: Of when machines are taken away.
    """
    rng = random.Random(seed)
    waiting = deque(range(work.shards))
    begun: dict[int, int] = {}
    doing: dict[int, tuple[int, float]] = {}
    life = [0] * fleet.workers  # what a worker had planned before it was lost does not happen
    idle: set[int] = set()
    order = itertools.count()
    events: list[tuple[float, int, str, int, int]] = []
    busy = wasted = now = 0.0
    lost = done = 0

    def plan(at: float, what: str, worker: int = -1) -> None:
        number = life[worker] if worker >= 0 else 0
        heapq.heappush(events, (at, next(order), what, worker, number))

    def begin(worker: int) -> None:
        if not waiting:
            idle.add(worker)
            return
        shard = waiting.popleft()
        begun[shard] = begun.get(shard, 0) + 1
        cores = fleet.cores if begun[shard] < 3 else 1
        each = max(work.decode / cores, work.encode)
        doing[worker] = shard, now
        seconds = (work.fixed + work.rows * each) * rng.choice(work.factors)
        plan(now + seconds, "done", worker)

    def lose(worker: int) -> None:
        nonlocal wasted, lost
        life[worker] += 1
        idle.discard(worker)
        if worker in doing:
            shard, since = doing.pop(worker)
            waiting.appendleft(shard)
            wasted += now - since
            lost += 1

    def gone(mean: float) -> float:
        return now + rng.expovariate(1 / mean) if mean < math.inf else math.inf

    for worker in range(fleet.workers):
        plan(fleet.ready[worker] if fleet.ready else fleet.load, "ready", worker)
        plan(gone(fleet.life), "taken", worker)
    plan(gone(fleet.driver_life), "driver lost")
    while done < work.shards:
        now, _, what, worker, number = heapq.heappop(events)
        if worker >= 0 and number != life[worker]:
            continue
        if what == "ready":
            begin(worker)
        elif what == "done":
            busy += now - doing.pop(worker)[1]
            done += 1
            begin(worker)
        elif what == "taken":
            lose(worker)
            plan(now + fleet.boot + fleet.load, "ready", worker)
            plan(gone(fleet.life) + fleet.boot, "taken", worker)
        else:
            for each in range(fleet.workers):
                lose(each)
                plan(now + fleet.driver_boot + fleet.load, "ready", each)
                plan(gone(fleet.life), "taken", each)
            plan(gone(fleet.driver_life) + fleet.driver_boot, "driver lost")
        for other in sorted(idle) if waiting else ():
            idle.discard(other)
            begin(other)
    return Result(now, busy, wasted, lost, now * fleet.workers)


def sleeping(decode: float, encode: float, threads: int, note: Path | None = None) -> bareclip.Clip:
    """The demo model, which also sleeps.

    Args:
        decode, encode: Seconds per picture, in the thread that decodes it and before the encoder.
        threads: That decode.
        note: A folder, in which a file is left that is as old as the model is loaded.
    """
    from bareclip.shards import work

    clip = bareclip.load(threads=threads)
    tower: Any = clip.images._tower
    real_map, real_decoded = tower.map, work.decoded

    def slow_map(batches: Any) -> Any:
        def paced() -> Iterator[Any]:
            for tag, batch in batches:
                time.sleep(0 if batch is None else encode * len(batch))
                yield tag, batch

        return real_map(paced())

    def slow_decoded(*arguments: Any) -> Any:
        time.sleep(decode)
        return real_decoded(*arguments)

    tower.map, work.decoded = slow_map, slow_decoded
    clip.images.preload()
    if note is not None:
        (note / f"ready-{os.getpid()}").touch()
    return clip


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (200, 30, 60)).save(file, "JPEG")
    for number in range(count):
        (folder / f"{number:06}.jpg").write_bytes(file.getvalue())
    return folder


def shard_seconds(decode: float, encode: float, threads: int, rows: int, count: int) -> list[float]:
    """What shards cost one worker by itself, in this process."""
    from bareclip import shards
    from bareclip.shards import work

    real = work.decoded
    with tempfile.TemporaryDirectory() as folder:
        plan = shards.plan(pictures(Path(folder) / "in", rows * count), f"{folder}/OUT", rows=rows)
        try:
            clip = sleeping(decode, encode, threads)
            clip.preload()
            return [event.footer.seconds for event in shards.run(plan, clip)]
        finally:
            work.decoded = real


def measured_work(decode: float, encode: float, threads: int, rows: int, count: int) -> Work:
    """``Work`` as a worker by itself does it, decoding and encoding measured apart.

    Seconds per picture are the slope between shards of two sizes, so that what a shard costs
    beside its pictures is the rest.
    """

    def slope(*how: float) -> float:
        small, large = (min(shard_seconds(*how, 1, size, 3)[1:]) for size in (rows, 2 * rows))
        return (large - small) / rows

    decoding, encoding = slope(decode, 0.0), slope(0.0, encode)
    whole = shard_seconds(decode, encode, threads, rows, 4)[1:]
    mean = sum(whole) / len(whole)
    fixed = mean - rows * max(decoding / threads, encoding)
    factors = [seconds / mean for seconds in whole]
    return Work(count, rows, decoding, encoding, fixed, factors)


def ray_run(
    decode: float, encode: float, threads: int, rows: int, count: int, workers: int
) -> tuple[float, list[float]]:
    """A run on a Ray of this machine.

    Returns:
        Seconds from the first worker's being ready to the last part, and when each was ready.
    """
    from bareclip import shards
    from bareclip.shards import ray_engine

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = shards.plan(pictures(folder / "in", rows * count), folder / "OUT", rows=rows)
        load = functools.partial(sleeping, decode, encode, threads, folder)
        for event in ray_engine.run(plan, load, workers=workers):
            if isinstance(event, shards.Refused):
                raise SystemExit(f"shard {event.shard}: {event.reason}")
        footers = [plan.part(index).footer() for index in range(count)]
        ready = sorted(path.stat().st_mtime for path in folder.glob("ready-*"))
        end = max(footer.started + footer.seconds for footer in footers)
        return end - ready[0], [one - ready[0] for one in ready]


def measure(rows: int = 16, count: int = 24, threads: int = 2) -> list[dict[str, Any]]:
    """Runs and simulations of them, bound by the encoder and bound by decoding.

    Sleeps are long against what the demo model itself takes, a few milliseconds of a core.
    """
    found = []
    for name, decode, encode in (("encoder", 0.036, 0.060), ("decoding", 0.120, 0.020)):
        work = measured_work(decode, encode, threads, rows, count)
        for workers in (1, 2, 4):
            real, ready = ray_run(decode, encode, threads, rows, count, workers)
            played = simulate(work, Fleet(workers, threads, ready=ready)).seconds
            row = {
                "bound_by": name,
                "workers": workers,
                "measured": real,
                "simulated": played,
                "off": played / real - 1,
            }
            print(
                f"bound by {name:8}  {workers} workers  measured {real:6.2f} s  "
                f"simulated {played:6.2f} s  {row['off']:+.1%}",
                flush=True,
            )
            found.append(row)
    return found


# Seconds of one core for a photo of some 0.3 megapixels to the pixels of a model of 224.
DECODE = 1 / 143
# What others have measured; see docs/shards.md.
PAPER = {
    "ViT-L/14, H100 class, 942 a second": (1 / 942, 16, 2.5),
    "ViT-L/14, A100, 312 a second": (1 / 312, 16, 1.5),
    "ViT-B/32, H100 class, bound by 16 cores": (1 / 14_061, 16, 2.5),
    "ViT-B/32 int8, CPUs alone, two cores each": (1 / 59, 2, 0.06),
}


def paper(pictures: int = 1_000_000_000, rows: int = 10_000, workers: int = 100) -> list[Any]:
    """A billion pictures on a hundred machines, on demand and as they are taken away."""
    found = []
    for name, (encode, cores, price) in PAPER.items():
        # The CPU's rate has decoding in it.
        decode = DECODE if "int8" not in name else 0.0
        work = Work(pictures // rows, rows, decode, encode, 0.5, (0.9, 1.0, 1.1))
        calm = Fleet(workers, cores, load=30, price=price)
        for what, fleet in (
            ("on demand", calm),
            (
                "taken away every 3 h, back in 150 s; a driver every 24 h",
                Fleet(workers, cores, 30, (), 150, 3 * 3600, 24 * 3600, 120, price),
            ),
            (
                "taken away every 30 min, back in 300 s; a driver every 6 h",
                Fleet(workers, cores, 30, (), 300, 1800, 6 * 3600, 120, price),
            ),
        ):
            runs = [simulate(work, fleet, seed) for seed in range(3)]
            result = sorted(runs, key=lambda run: run.seconds)[1]
            cost = result.paid / 3600 * fleet.price
            found.append(
                {
                    "what": name,
                    "machines": what,
                    "hours": result.seconds / 3600,
                    "efficiency": result.efficiency,
                    "lost": result.lost,
                    "wasted": result.wasted / result.paid,
                    "cost": cost,
                }
            )
            print(
                f"{name:42} {what:58} {result.seconds / 3600:7.2f} h  "
                f"{result.efficiency:6.1%} busy  {result.lost:5} shards lost  ${cost:7,.0f}"
            )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=["measured", "paper"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: dict[str, Any] = {}
    if arguments.only != "paper":
        found["measured"] = measure()
    if arguments.only != "measured":
        found["paper"] = paper()
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
