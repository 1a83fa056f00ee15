"""The graph cache: towers as this machine's runtime wants them, kept for later processes.

Such a copy is optimised and packed already and is mapped into memory where it lies, so that a
process starts in a fraction of the time and shares the weights' pages with all others. It
holds for one version of ONNX Runtime, or OpenVINO, and one kind of CPU, which are part of its
name.

An entry is made of bytes whose checksums are the manifest's, so that no bundle is answered from
what another claimed to be; it is looked through itself where it is not the very files that were
written. The cache costs disk only: whatever goes wrong with it (no room, no permission, a
damaged entry, another process at the same work), the bundle's own graph is loaded instead.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import TowerFiles, file_record
from ..bundle.graph_file import check_graph
from ..errors import BundleError, DeviceError
from ..files import replacing
from ..files.user_cache import alone_in, cache_folder, usable_cache
from .device import Device
from .installation import import_onnxruntime
from .session import make_session
from .threads import Threads

_log = logging.getLogger("bareclip")

# Most that the cache may hold; what was used longest ago goes first.
LIMIT_BYTES = 8 * 1024**3
# Smaller towers load in no time as they are.
SMALLEST_BYTES = 16 * 1024**2

_RECORD = "entry.json"
_ENTRY = r"[0-9a-f]{40}"
_PARTIAL = r"\.[0-9a-f]{40}\.[0-9a-f]{8}\.partial"
# Files up to this size are looked through whenever they are loaded: graphs without weights.
_ALWAYS_CHECKED = 4 * 1024**2
_ABANDONED_SECONDS = 3600
# What reading a record raises, whatever it holds.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)
_CPU = Device("cpu", required=True)


@dataclass(frozen=True)
class Entry:
    """A tower that is kept.

    Attributes:
        folder: Where it lies.
        graph: What it was made from.
        onnxruntime: The version it is for, or OpenVINO's.
        size: Bytes.
        used: When it was last loaded, in seconds since 1970.
    """

    folder: Path
    graph: str
    onnxruntime: str
    size: int
    used: float


@dataclass(frozen=True)
class Engine:
    """What makes sessions of graphs, and of what it keeps.

    Attributes:
        name: All that what it keeps depends on but the graph and the kind of CPU: its version.
        make: (graph, threads, where to keep it or None) -> a session; raises ``BundleError`` or
            ``DeviceError``.
        open: (what was kept, threads) -> a session; raises ``BundleError`` or ``ValueError``.
    """

    name: str
    make: Callable[[Path, Threads, Path | None], Any]
    open: Callable[[Path, Threads], Any]


def onnxruntime_engine() -> Engine:
    """ONNX Runtime on the CPU; raises ``DeviceError`` where it is not installed."""
    return Engine(
        import_onnxruntime().__version__,
        lambda graph, threads, save_to: make_session(graph, _CPU, threads, save_to=save_to),
        lambda kept, threads: make_session(kept, _CPU, threads, optimize=False),
    )


def cached_session(
    folder: Path, tower: TowerFiles, threads: Threads, engine: Engine
) -> tuple[Any, Path]:
    """A session on the CPU, from the cache where it has one; else puts one there too.

    Args:
        folder: The bundle's.
        tower: Its files.
        threads: The session's.
        engine: What makes it.

    Returns:
        The session, and the graph that it was made from.

    Raises:
        BundleError, DeviceError: The engine cannot load the graph, or the bundle's files are not
            those of its manifest.
    """
    graph = folder / tower.graph
    size = sum(record.size for record in tower.files.values())
    cache = usable_cache() if size >= SMALLEST_BYTES else None
    if cache is None:
        check_graph(folder, tower)
        return engine.make(graph, threads, None), graph
    place = cache / _key(tower, engine.name)
    session = _open(place, graph.name, threads, engine)
    if session is not None:
        return session, place / graph.name
    check_graph(folder, tower)
    with alone_in(cache) as alone:
        if alone:
            session = _keep(cache, place, folder, tower, threads, engine)
            if session is not None:
                _log.info("kept %s in the graph cache, for the next process", graph)
    return session or engine.make(graph, threads, None), graph


def entries() -> list[Entry]:
    """All that are kept, the last used first."""
    cache = cache_folder()
    found = []
    for place in _named(cache, _ENTRY):
        with contextlib.suppress(*_DAMAGED):
            record = place / _RECORD
            data = json.loads(record.read_text(encoding="utf-8"))
            size = sum(int(file["size"]) for file in data["files"].values())
            used = record.stat().st_mtime
            about = str(data["graph"]), str(data["onnxruntime"])
            found.append(Entry(place, *about, size, used))
    return sorted(found, key=lambda entry: -entry.used)


def clear() -> int:
    """Removes every one, whole or not; returns how many bytes that freed."""
    freed = 0
    for entry in entries():
        freed += entry.size
        _remove(entry.folder)
    cache = cache_folder()
    # Of killed processes; one that is at work does without, as on a full disk.
    for left in _named(cache, _PARTIAL):
        with contextlib.suppress(OSError):
            freed += sum(path.stat().st_size for path in left.iterdir())
        shutil.rmtree(left, ignore_errors=True)
    return freed


def _named(cache: Path | None, pattern: str) -> list[Path]:
    """Folders of the cache that are its own by their names, and no links to elsewhere."""
    try:
        paths = [] if cache is None else sorted(cache.iterdir())
    except OSError:
        return []
    return [p for p in paths if re.fullmatch(pattern, p.name) and p.is_dir() and not p.is_symlink()]


def _key(tower: TowerFiles, engine: str) -> str:
    """Named for all that it depends on."""
    parts = [engine, cpu_kind(), *(f"{n} {r.sha256}" for n, r in sorted(tower.files.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def cpu_kind() -> str:
    """The kind of CPU: weights are packed for its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kept = ("model name", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.startswith(kept))


def _open(place: Path, name: str, threads: Threads, engine: Engine) -> Any | None:
    """A session on an entry that is whole; None where there is none, or it is damaged."""
    if not os.path.lexists(place):
        return None
    try:
        if place.is_symlink() or not _is_whole(place):
            raise ValueError("not what was written")
        session = engine.open(place / name, threads)
        with contextlib.suppress(OSError):  # a read-only cache is still of use
            os.utime(place / _RECORD)
        return session
    except (*_DAMAGED, BundleError) as error:
        _log.info("%s of the graph cache is made anew: %s", place.name, error)
        _remove(place)
    return None


def _is_whole(place: Path) -> bool:
    """Whether an entry's files are those that were written.

    Their checksums are computed where the system does not say that they are the same files,
    unchanged, as when a backup was restored; and those of graphs always, which are small.
    """
    record = place / _RECORD
    data = json.loads(record.read_text(encoding="utf-8"))
    files = data["files"]
    for name, file in files.items():
        path = place / name
        if name != Path(name).name or path.is_symlink():
            return False
        status = path.stat()
        known = file["seen"] == _seen(status) and status.st_size > _ALWAYS_CHECKED
        if not known and dataclasses.asdict(file_record(path)) != {
            "size": file["size"],
            "sha256": file["sha256"],
        }:
            return False
        file["seen"] = _seen(path.stat())
    if data != json.loads(record.read_text(encoding="utf-8")):
        with contextlib.suppress(OSError), replacing(record) as out:
            out.write(json.dumps(data).encode())
    return True


def _seen(status: os.stat_result) -> list[int]:
    """What changes when a file is written to, or is another of its name."""
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _keep(
    cache: Path, place: Path, folder: Path, tower: TowerFiles, threads: Threads, engine: Engine
) -> Any | None:
    """Makes a session and, from it, the entry; None where the entry cannot be written.

    Raises:
        BundleError: The bundle's files are not those of its manifest.
    """
    graph = folder / tower.graph
    size = sum(record.size for record in tower.files.values())
    scratch = cache / f".{place.name}.{secrets.token_hex(4)}.partial"
    try:
        if place.exists() or shutil.disk_usage(cache).free <= 4 * size:
            return None
        # Whole towers are read here once, and once for all processes.
        damaged = [n for n, record in tower.files.items() if file_record(folder / n) != record]
        if damaged:
            raise BundleError(
                f"{folder} is damaged, its checksums differ: {', '.join(damaged)}; "
                "copy or export it again"
            )
        scratch.mkdir(mode=0o700)
        try:
            session = engine.make(graph, threads, scratch / graph.name)
        except (BundleError, DeviceError):
            return None  # it may load without being saved
        files = {}
        for path in sorted(scratch.iterdir()):
            with path.open("r+b") as file:  # Windows syncs no file that is open for reading
                os.fsync(file.fileno())  # or a power cut could leave a whole size of zeros
            files[path.name] = dataclasses.asdict(file_record(path)) | {"seen": _seen(path.stat())}
        record = {
            "graph": str(graph),
            "onnxruntime": engine.name,
            "files": files,
        }
        (scratch / _RECORD).write_text(json.dumps(record), encoding="utf-8")
        scratch.rename(place)
        _make_room(cache, place)
    except OSError:
        return None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return session


def _make_room(cache: Path, newest: Path) -> None:
    total = 0
    for entry in entries():
        total += entry.size
        if total > LIMIT_BYTES and entry.folder != newest:
            _remove(entry.folder)
    for left in _named(cache, _PARTIAL):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _remove(place: Path) -> None:
    """Takes an entry away in one move: no process sees half of it."""
    gone = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    with contextlib.suppress(OSError):
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)
