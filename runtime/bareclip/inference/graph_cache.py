"""The graph cache: towers as this machine's ONNX Runtime wants them, kept for later processes.

Such a copy is optimised and packed already and is mapped into memory where it lies, so that a
process starts in a fraction of the time and shares the weights' pages with all others. It
holds for one version of ONNX Runtime and one kind of CPU, which are part of its name.

The cache costs disk only: whatever goes wrong with it (no room, no permission, a damaged
entry, another process at the same work), the bundle's own graph is loaded instead.
"""

import contextlib
import hashlib
import json
import logging
import os
import platform
import secrets
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..bundle import TowerFiles
from ..errors import BareclipError, BundleError
from .device import Device
from .installation import import_onnxruntime
from .session import make_session
from .threads import Threads

if TYPE_CHECKING:
    import onnxruntime

_log = logging.getLogger("bareclip")

# Most that the cache may hold; what was used longest ago goes first.
LIMIT_BYTES = 8 * 1024**3
# Smaller towers load in no time as they are.
SMALLEST_BYTES = 16 * 1024**2

_RECORD = "entry.json"
_ABANDONED_SECONDS = 3600
# What reading a record raises, whatever it holds.
_DAMAGED = (OSError, ValueError, KeyError, TypeError, AttributeError)
_CPU = Device("cpu", required=True)
# A file's lock is a process's own; its threads wait for each other here.
_IN_TURN = threading.Lock()


@dataclass(frozen=True)
class Entry:
    """A tower that is kept.

    Attributes:
        folder: Where it lies.
        graph: What it was made from.
        onnxruntime: The version it is for.
        size: Bytes.
        used: When it was last loaded, in seconds since 1970.
    """

    folder: Path
    graph: str
    onnxruntime: str
    size: int
    used: float


def cache_folder() -> Path | None:
    """Where they are kept; None where ``BARECLIP_CACHE`` says ``off``.

    That variable names another folder; else it is the system's place for a user's caches.

    Raises:
        BareclipError: The user has no home folder.
    """
    chosen = os.environ.get("BARECLIP_CACHE", "")
    if chosen == "off":
        return None
    if chosen:
        return Path(chosen).absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or "~/AppData/Local"
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        return Path(base).expanduser() / "bareclip"
    except RuntimeError as error:
        raise BareclipError(
            "there is no home folder to keep a cache in: BARECLIP_CACHE names another, or `off`"
        ) from error


def cached_session(
    folder: Path, tower: TowerFiles, threads: Threads
) -> "tuple[onnxruntime.InferenceSession, Path]":
    """A session on the CPU, from the cache where it has one; else puts one there too.

    Args:
        folder: The bundle's.
        tower: Its files.
        threads: The session's.

    Returns:
        The session, and the graph that it was made from.

    Raises:
        BundleError: ONNX Runtime cannot load the graph.
    """
    graph = folder / tower.graph
    size = sum(record.size for record in tower.files.values())
    cache = _usable_cache() if size >= SMALLEST_BYTES else None
    if cache is None:
        return make_session(graph, _CPU, threads), graph
    place = cache / _key(tower)
    session = _open(place, graph.name, threads)
    if session is not None:
        return session, place / graph.name
    with _alone(cache) as alone:
        if alone:
            session = _keep(cache, place, graph, size, threads)
            if session is not None:
                _log.info("kept %s in the graph cache, for the next process", graph)
    return session or make_session(graph, _CPU, threads), graph


def entries() -> list[Entry]:
    """All that are kept, the last used first."""
    cache = cache_folder()
    found = []
    for record in cache.glob(f"[!.]*/{_RECORD}") if cache else ():
        with contextlib.suppress(*_DAMAGED):
            data = json.loads(record.read_text(encoding="utf-8"))
            size = sum(data["files"].values())
            used = record.stat().st_mtime
            found.append(Entry(record.parent, data["graph"], data["onnxruntime"], size, used))
    return sorted(found, key=lambda entry: -entry.used)


def clear() -> int:
    """Removes every one, whole or not; returns how many bytes that freed."""
    freed = 0
    for entry in entries():
        freed += entry.size
        _remove(entry.folder)
    cache = cache_folder()
    # Of killed processes; one that is at work does without, as on a full disk.
    for left in cache.glob(".*.partial") if cache else ():
        with contextlib.suppress(OSError):
            freed += sum(path.stat().st_size for path in left.iterdir())
        shutil.rmtree(left, ignore_errors=True)
    return freed


def _key(tower: TowerFiles) -> str:
    """Named for all that it depends on."""
    version = import_onnxruntime().__version__
    parts = [version, _cpu(), *(f"{n} {r.sha256}" for n, r in sorted(tower.files.items()))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:40]


def _cpu() -> str:
    """The kind of CPU: weights are packed for its instructions."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kept = ("model name", "flags", "Features", "CPU part")
    return "\n".join(line for line in lines if line.startswith(kept))


def _usable_cache() -> Path | None:
    try:
        cache = cache_folder()
        if cache is not None:
            cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, BareclipError):
        return None
    return cache


def _open(place: Path, name: str, threads: Threads) -> "onnxruntime.InferenceSession | None":
    """A session on an entry that is whole; None where there is none, or it is damaged."""
    try:
        sizes = json.loads((place / _RECORD).read_text(encoding="utf-8"))["files"]
        if all((place / file).stat().st_size == size for file, size in sizes.items()):
            session = make_session(place / name, _CPU, threads, optimize=False)
            with contextlib.suppress(OSError):  # a read-only cache is still of use
                os.utime(place / _RECORD)
            return session
    except (*_DAMAGED, BundleError):
        _remove(place)
    return None


def _keep(
    cache: Path, place: Path, graph: Path, size: int, threads: Threads
) -> "onnxruntime.InferenceSession | None":
    """Makes a session and, from it, the entry; None where the entry cannot be written."""
    scratch = cache / f".{place.name}.{secrets.token_hex(4)}.partial"
    try:
        if place.exists() or shutil.disk_usage(cache).free <= 4 * size:
            return None
        scratch.mkdir()
        session = make_session(graph, _CPU, threads, save_to=scratch / graph.name)
        files = {path.name: path.stat().st_size for path in scratch.iterdir()}
        record = {
            "graph": str(graph),
            "onnxruntime": import_onnxruntime().__version__,
            "files": files,
        }
        (scratch / _RECORD).write_text(json.dumps(record), encoding="utf-8")
        for path in scratch.iterdir():
            with path.open("rb") as file:
                os.fsync(file.fileno())  # or a power cut could leave a whole size of zeros
        scratch.rename(place)
        _make_room(cache, place)
    except (OSError, BundleError):
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
    for left in cache.glob(".*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)


def _remove(place: Path) -> None:
    """Takes an entry away in one move: no process sees half of it."""
    gone = place.with_name(f".{place.name}.{secrets.token_hex(4)}.partial")
    with contextlib.suppress(OSError):
        place.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


@contextlib.contextmanager
def _alone(cache: Path) -> Iterator[bool]:
    """Whether no other process fills the cache: a hundred at once would fill the disk."""
    try:
        import fcntl
    except ImportError:  # Windows: renaming keeps it correct, if wasteful
        yield True
        return
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(_IN_TURN)
            lock = held.enter_context((cache / ".lock").open("a"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError:
            alone = False
        yield alone
