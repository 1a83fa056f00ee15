"""How many threads this process may use: affinity, container quota, physical cores.

ONNX Runtime's own default is every physical core, whatever a container is allowed.
"""

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import BareclipError

MAX_THREADS = 1024


def default_threads(root: Path = Path("/")) -> int:
    """The smaller of the physical cores this process may run on and its CPU quota.

    Args:
        root: Where /proc and /sys are found; tests give another.

    Returns:
        At least 1. Outside of Linux all processors count, on Windows a core's two SMT siblings too.
    """
    if hasattr(os, "sched_getaffinity"):
        cores = _physical_cores(os.sched_getaffinity(0), root)
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota(root)
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def checked_threads(threads: int | None) -> int:
    """How many a user asks for; None is ``default_threads()``.

    Raises:
        BareclipError: Not from 1 to ``MAX_THREADS``.
    """
    if threads is None:
        return default_threads()
    # ONNX Runtime starts as many as it is told, were it a hundred thousand.
    if type(threads) is not int or not 1 <= threads <= MAX_THREADS:
        raise BareclipError(f"threads is {threads!r}; it must be 1 to {MAX_THREADS}, or None")
    return threads


def _physical_cores(cpus: set[int], root: Path) -> int:
    """How many cores ``cpus`` lie on; SMT siblings share one core's arithmetic units."""
    siblings = set()
    for cpu in cpus:
        path = root / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        siblings.add(_read(path) or str(cpu))
    return len(siblings)


def _cgroup_quota(root: Path) -> float | None:
    """CPUs granted by the control group and those above it, None where unlimited."""
    quotas = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, read = root / "sys/fs/cgroup", _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = root / "sys/fs/cgroup/cpu", _quota_v1
        else:
            continue
        # Inside a container the group's path may be the host's; then only the root exists.
        place = base / group.lstrip("/")
        for folder in (place, *place.parents):
            quotas.append(read(folder))
            if folder == base:
                break
    return min((q for q in quotas if q), default=None)


def _quota_v2(folder: Path) -> float | None:
    quota, _, period = (_read(folder / "cpu.max") or "max 100000").partition(" ")
    return None if quota == "max" else int(quota) / int(period)


def _quota_v1(folder: Path) -> float | None:
    quota = int(_read(folder / "cpu.cfs_quota_us") or -1)
    period = int(_read(folder / "cpu.cfs_period_us") or 100000)
    return quota / period if quota > 0 else None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return None


@dataclass(frozen=True)
class Threads:
    """A session's own threads.

    Attributes:
        count: For one operator; operators run one after another.
        spinning: Whether they wait for work in a loop, which takes it up sooner and keeps a core
            from all others meanwhile; benchmarks/threads.py measures both.
        patience: Microseconds for which they look for work before they sleep, where they do not
            spin; none before ONNX Runtime 1.26.
    """

    count: int = field(default_factory=default_threads)
    spinning: bool = False
    patience: int = 0
