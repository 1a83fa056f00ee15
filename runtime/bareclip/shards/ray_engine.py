"""The engine on Ray: actors on any number of machines that take numbers of shards.

Ray places workers and says when one is lost. It carries numbers and footers; pictures and vectors
go from the store to the worker and back. A lost worker's shard goes to another; how often a shard
was begun is counted in the run's folder, as with every engine.
"""

import math
import os
import re
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..clip import Clip
from ..errors import BareclipError
from ..inference.threads import default_threads
from .engines import Event, Refused, outcome, unfinished
from .model import claim_model
from .plans import Plan

try:
    import ray
    from ray.exceptions import RayError, RayTaskError
except ImportError as error:
    raise BareclipError(
        f"the engine ray needs Ray ({error}): pip install 'bareclip[cpu,parquet,ray]'"
    ) from error

# Seconds between two looks at which nodes there are.
_LOOK = 2.0
# Workers that are lost in a row, none of which has ended a shard, before a run gives up.
_PATIENCE = 20
# How often one shard's worker may be lost in a run; what kills it is found at the third attempt.
_LOSSES = 10
# Seconds that workers are given to put their shards down when a run is interrupted.
_GRACE = 5.0
# Bytes of the object store of a Ray that is started here; no picture ever lies in it. Its least.
_STORE = 80 * 1024 * 1024


def run(
    plan: Plan,
    clip: Clip | Callable[[], Clip],
    shards: Iterable[int] | None = None,
    *,
    address: str | None = None,
    workers: int | None = None,
    cpus: int = 1,
    gpus: float = 0,
) -> Iterator[Event]:
    """Does shards on a Ray cluster, or on this machine's cores by a Ray of its own.

    Run it again where it has ended for whatever reason: it does what is left.

    Args:
        plan: The run's; its folder and its sources must be seen from all machines.
        clip: What loads the model, called in each worker, as
            ``functools.partial(bareclip.load, "clip-b32", threads=4)``; or a ``Clip``, whose folder
            then lies at the same place on all machines. A Ray worker sees all of its machine's
            cores, so give ``threads``, as many as ``cpus``.
        shards: Their numbers; None is all that have no part yet.
        address: Of a cluster's head, as ``"10.0.0.1:6379"``, or ``"auto"`` on a machine of it;
            None is the Ray that this process is connected to, the one that ``RAY_ADDRESS`` names,
            or one that is started here and ended with the run.
        workers: How many; those that find no room wait for nodes that join. None is as many as
            there is room for, also later.
        cpus, gpus: Of each worker, as Ray counts them.

    Yields:
        What became of each shard, when it has ended, in any order.

    Raises:
        ShardError: Another model than the run's, or its folder cannot be written.
        BareclipError: The model cannot be loaded, the cluster cannot be reached or has no room for
            a worker, or workers die without end.

    Examples:
        >>> load = functools.partial(bareclip.load, "clip-b32", threads=4)
        >>> for event in ray_engine.run(plan, load, address="auto", cpus=4, gpus=1):
        ...     print(event.shard)
    """
    left = unfinished(plan)
    wanted = left if shards is None else sorted(set(left) & set(shards))
    if not wanted:
        return
    cores = max(cpus * (workers or 0), default_threads(), cpus)
    with _connected(address, cores):
        crew = _Crew(plan, clip, wanted, workers, cpus, gpus)
        try:
            yield from crew.work()
        finally:
            crew.dismiss()


class _Worker:
    """What lives in a process of Ray's."""

    def __init__(self, plan: Plan, clip: Clip | Callable[[], Clip]) -> None:
        self._plan, self._given = plan, clip
        self._clip: Clip | None = None
        self._stopped = threading.Event()

    def prepare(self) -> None:
        """Loads the model; raises what that raises."""
        pa.set_memory_pool(pa.system_memory_pool())  # Arrow's own would keep more of a large part
        self._clip = self._given if isinstance(self._given, Clip) else self._given()
        claim_model(self._plan, self._clip)
        self._clip.images.preload()

    def run(self, index: int) -> Event:
        assert self._clip is not None
        return outcome(self._plan, index, self._clip, self._check)

    def stop(self) -> None:
        """Ends a shard in order, so that it counts as no attempt; called beside ``run``."""
        self._stopped.set()

    def _check(self, done: int, failed: int) -> None:
        if self._stopped.is_set():
            raise _StoppedError


class _StoppedError(Exception):
    """The run was interrupted."""


class _Crew:
    """Workers, what each of them does, and the shards that wait for one."""

    def __init__(
        self,
        plan: Plan,
        clip: Clip | Callable[[], Clip],
        wanted: list[int],
        workers: int | None,
        cpus: int,
        gpus: float,
    ) -> None:
        self._plan, self._clip = plan, clip
        self._waiting = deque(wanted)
        self._most, self._cpus, self._gpus = workers, cpus, gpus
        # No restarts and no retries by Ray: it would begin a shard again that kills its process,
        # for ever, and uncounted. Two threads, so that stop() is heard while run() works.
        self._class = ray.remote(_Worker).options(
            num_cpus=cpus, num_gpus=gpus, max_restarts=0, max_task_retries=0, max_concurrency=2
        )
        self._busy: dict[Any, tuple[Any, int | None]] = {}  # None: it loads the model
        self._idle: list[Any] = []
        self._losses: dict[int, int] = {}
        self._any_ended, self._lost_in_a_row = False, 0
        self._looked = -math.inf
        self._room = 0

    def work(self) -> Iterator[Event]:
        self._look()
        if self._most is None and not self._room:
            raise BareclipError(
                f"no node of this Ray cluster has {self._cpus} CPUs and {self._gpus:g} GPUs for a "
                "worker; ask for less, or give --workers N to wait for nodes that join"
            )
        while self._waiting or any(index is not None for _, index in self._busy.values()):
            self._hire()
            while self._idle and self._waiting:
                self._hand_out(self._idle.pop())
            done, _ = ray.wait(list(self._busy), num_returns=1, timeout=_LOOK)
            for answer in done:
                event = self._ended(answer)
                if event is not None:
                    yield event

    def dismiss(self) -> None:
        """Ends all workers; those in the middle of a shard put it down first."""
        if not ray.is_initialized():  # Python ends, and Ray has; a call would start it anew
            return
        begun = [(answer, w) for answer, (w, index) in self._busy.items() if index is not None]
        with suppress(RayError):
            for _, worker in begun:
                worker.stop.remote()
            if begun:
                answers = [answer for answer, _ in begun]
                ray.wait(answers, num_returns=len(answers), timeout=_GRACE)
        for worker in [*self._idle, *(worker for worker, _ in self._busy.values())]:
            with suppress(RayError):
                ray.kill(worker)

    def _hire(self) -> None:
        self._look()
        shards = sum(index is not None for _, index in self._busy.values())
        # One at least: a worker that waits for room is also what has a cluster start a node.
        wanted = min(self._most or max(self._room, 1), shards + len(self._waiting))
        for _ in range(wanted - len(self._busy) - len(self._idle)):
            worker = self._class.remote(self._plan, self._clip)
            self._busy[worker.prepare.remote()] = worker, None

    def _look(self) -> None:
        """Counts the workers that the nodes of now have room for."""
        if time.monotonic() - self._looked < _LOOK:
            return
        self._looked = time.monotonic()
        self._room = 0
        for node in ray.nodes():
            if node["Alive"]:
                room = int(node["Resources"].get("CPU", 0) // self._cpus)
                if self._gpus:
                    room = min(room, int(node["Resources"].get("GPU", 0) / self._gpus))
                self._room += room

    def _hand_out(self, worker: Any) -> None:
        index = self._waiting.popleft()
        self._busy[worker.run.remote(index)] = worker, index

    def _ended(self, answer: Any) -> Event | None:
        worker, index = self._busy.pop(answer)
        try:
            event: Event | None = ray.get(answer)
        except RayTaskError as error:  # raised in the worker, and wrapped
            if index is None and self._any_ended:
                return self._lost(index, error)  # one bad machine among good ones
            if isinstance(error.cause, BareclipError):
                raise error.cause from None
            raise
        except RayError as error:
            with suppress(RayError):
                ray.kill(worker)  # unreachable is not dead
            return self._lost(index, error)
        self._idle.append(worker)
        if index is not None:
            self._any_ended, self._lost_in_a_row = True, 0
        return event

    def _lost(self, index: int | None, error: Exception) -> Event | None:
        self._lost_in_a_row += 1
        if self._lost_in_a_row >= _PATIENCE:
            raise BareclipError(
                f"{_PATIENCE} workers in a row were lost before they had ended a shard, the last: "
                f"{_line(error)}"
            )
        if index is None:
            return None
        self._losses[index] = self._losses.get(index, 0) + 1
        if self._losses[index] >= _LOSSES:
            return Refused(index, f"its worker was lost {_LOSSES} times, at last: {_line(error)}")
        self._waiting.appendleft(index)
        return None


@contextmanager
def _connected(address: str | None, cores: int) -> Iterator[None]:
    """Ray, as it is; else of a cluster, or one that is started here; undone what was done."""
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    _check_address(address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's sockets lie below this folder, and names of sockets are short.
    short = "/tmp" if Path("/tmp").is_dir() else None
    with (
        nullcontext("")
        if address
        else tempfile.TemporaryDirectory("", "bareclip-ray-", short, ignore_cleanup_errors=True)
    ) as folder:
        here = {
            "num_cpus": cores,
            "object_store_memory": _STORE,
            "include_dashboard": False,
            "_temp_dir": folder,
        }
        try:
            ray.init(
                address=address or "local",
                logging_level="ERROR",
                log_to_driver=False,
                **({} if address else here),
            )
        except (RayError, ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise BareclipError(f"cannot use Ray: {_line(error)}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _check_address(address: str | None) -> None:
    """Ray would try for minutes to reach a head that is not there."""
    found = re.fullmatch(r"([^/:]+):(\d{1,5})", address or "")
    if found is None:  # "auto", or of another kind, which Ray looks at
        return
    try:
        socket.create_connection((found[1], int(found[2])), _GRACE).close()
    except (OSError, OverflowError) as error:
        raise BareclipError(
            f"there is no Ray at {address} ({_line(error)}); on a machine of the cluster, "
            "--address auto finds it"
        ) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
