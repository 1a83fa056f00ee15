"""Threads that sleep and threads that spin: on an idle machine, beside neighbours, within a quota.

    python benchmarks/threads.py BUNDLE --photos photos/ --json threads.json

Each setting runs in a process of its own; processes take turns. Neighbours are loops that keep
a core busy. A quota is a control group's, as containers have it; setting one needs root and
Linux, and is left out elsewhere.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bareclip.bundle import Bundle
from bareclip.images.folders import image_files
from bareclip.inference.threads import default_threads
from bareclip.measure.speed import machine

CHILD = """
import sys, time
import bareclip
from bareclip.measure.samples import drawn_pixels, unlike_texts
bundle, precision, threads, spinning, *photos = sys.argv[1:]
clip = bareclip.load(
    bundle, precision=precision, device="cpu", threads=int(threads), spinning=spinning == "True"
)
pixels = drawn_pixels(clip.bundle.image_recipe().size, 8)
[text] = unlike_texts(1)
works = {
    "one image": (4, lambda: [clip.images.embed_pixels(pixels[:1]) for _ in range(4)]),
    "8 images, each": (8, lambda: clip.images.embed_pixels(pixels)),
    "photos from disk, each": (len(photos), lambda: clip.embed_images(photos)),
    "one text": (8, lambda: [clip.embed_texts([text]) for _ in range(8)]),
}
for _, work in works.values():
    work()
print(*works, sep="|", flush=True)
for line in sys.stdin:
    count, work = works[line.rstrip("\\n")]
    started = time.perf_counter()
    work()
    print(1000 * (time.perf_counter() - started) / count, flush=True)
"""

SETTINGS = {
    "{n} threads, sleeping": (None, False),
    "{n} threads, spinning": (None, True),
    "1 thread": (1, False),
}
NEIGHBOUR = "while True: pass"
GROUPS = Path("/sys/fs/cgroup")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    bundle = Bundle.read(arguments.bundle)
    photos = [str(path) for path in image_files(arguments.photos)[:24]]
    cores = default_threads()
    conditions = {"idle": (0, None), "a neighbour on one core": (1, None)}
    if cores > 1:
        conditions["neighbours on all cores"] = (cores, None)
    if quota_can_be_set():
        conditions |= {f"a quota of {cpus} CPU": (0, cpus) for cpus in (1.0, 1.5)}
    report: dict[str, Any] = {
        "machine": machine(),
        "bundle": bundle.name,
        "rounds": arguments.rounds,
        "precisions": {},
    }
    for precision in (p for p in bundle.precisions if p != "fp16"):
        cases = report["precisions"][precision] = {}
        for name, (neighbours, cpus) in conditions.items():
            print(f"{precision}, {name}", file=sys.stderr)
            with busy(neighbours), quota(cpus) as group:
                given = [str(arguments.bundle), precision]
                cases[name] = measured(given, photos, group, arguments.rounds, cores)
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    lines = []
    for precision, conditions in report["precisions"].items():
        works = next(iter(next(iter(conditions.values())).values()))
        lines += [f"| {precision}, ms | threads | {' | '.join(works)} |"]
        lines += [f"|{' --- |' * (2 + len(works))}"]
        for condition, settings in conditions.items():
            for setting, times in settings.items():
                cells = " | ".join(f"{value:.1f}" for value in times.values())
                lines.append(f"| {condition} | {setting} | {cells} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def measured(
    given: list[str], photos: list[str], group: Path | None, rounds: int, cores: int
) -> dict[str, dict[str, float]]:
    """Setting -> work -> median milliseconds."""
    processes = {}
    for name, (threads, spinning) in SETTINGS.items():
        command = [sys.executable, "-c", CHILD, *given, str(threads or cores), str(spinning)]
        process = subprocess.Popen(
            [*command, *photos], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        if group is not None:
            (group / "cgroup.procs").write_text(str(process.pid))
        processes[name.format(n=cores)] = process
    ready = [_answer(process) for process in processes.values()]
    works = ready[0].split("|")
    times: dict[str, dict[str, list[float]]] = {
        name: {work: [] for work in works} for name in processes
    }
    for _ in range(rounds):
        for work in works:
            for name, process in processes.items():
                process.stdin.write(f"{work}\n")  # type: ignore[union-attr]
                process.stdin.flush()  # type: ignore[union-attr]
                times[name][work].append(float(_answer(process)))
    for process in processes.values():
        process.communicate()
    return {
        name: {work: median(several) for work, several in each.items()}
        for name, each in times.items()
    }


def _answer(process: "subprocess.Popen[str]") -> str:
    answer = process.stdout.readline().rstrip("\n")  # type: ignore[union-attr]
    if not answer:
        raise SystemExit("a process that measures ended; its own message is above")
    return answer


@contextmanager
def busy(count: int) -> Iterator[None]:
    """Keeps that many cores busy."""
    neighbours = [subprocess.Popen([sys.executable, "-c", NEIGHBOUR]) for _ in range(count)]
    try:
        yield
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()


@contextmanager
def quota(cpus: float | None) -> Iterator[Path | None]:
    """A control group that may use so many CPUs; None where no quota is wanted."""
    if cpus is None:
        yield None
        return
    first, second = GROUPS / "cpu", GROUPS
    group = (first if first.is_dir() else second) / f"bareclip-{os.getpid()}"
    group.mkdir()
    try:
        limit = str(int(cpus * 100_000))
        if first.is_dir():
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(limit)
        else:
            (group / "cpu.max").write_text(f"{limit} 100000")
        yield group
    finally:
        group.rmdir()


def quota_can_be_set() -> bool:
    """Whether control groups are there and writable."""
    try:
        with quota(1.0):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()
