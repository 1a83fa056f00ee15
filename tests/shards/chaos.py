"""A Ray cluster on this machine, and runs on it while workers, nodes and drivers are killed.

What is killed after how many finished shards is drawn from a seed, so that it falls into the run
however fast the machine is.
"""

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from ray.cluster_utils import Cluster

_KILLER = Path(__file__).parents[1] / "runtime" / "shards" / "killer"
_NODES = 3
# Of an object store: Ray's least.
_STORE = 80 * 1024 * 1024
# Seconds that a run may take on a busy machine.
_PATIENCE = 300


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        killed: After how many finished shards, and what.
        drivers: How often the command was started.
        deaths: How often the picture that kills has killed.
        redone: Parts that were there when a driver was killed, and were written again.
        seconds: How long it took.
    """

    killed: list[tuple[int, str]] = field(default_factory=list)
    drivers: int = 0
    deaths: int = 0
    redone: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Chaos:
    """A head without cores and three nodes of one core, in processes of their own.

    Args:
        folder: For what it writes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._deaths = folder / "deaths"
        self._deaths.touch()
        head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": _STORE}
        self._cluster = Cluster(initialize_head=True, head_node_args=head)
        for _ in range(_NODES):
            self._add_node()

    def close(self) -> None:
        self._cluster.shutdown()

    def run(self, out: Path, seed: int, shards: int) -> Outcome:
        """Runs the plan in ``out``, three workers, a node and a driver dying meanwhile.

        Args:
            out: Holds a plan.
            seed: Of the schedule.
            shards: How many it has.
        """
        rng = random.Random(seed)
        # The last shards are left alone: so long there is a run to disturb.
        schedule = [
            (rng.randrange(shards - 4), what)
            for what in ("worker", "worker", "worker", "node", "driver")
        ]
        schedule.sort()
        outcome = Outcome(drivers=1)
        deaths = self._deaths.stat().st_size
        there: dict[str, tuple[int, int]] = {}
        started = time.monotonic()
        driver = self._start(out)
        try:
            while driver.poll() is None:
                done = len(_parts(out))
                if schedule and done >= schedule[0][0]:
                    what = schedule[0][1]
                    time.sleep(rng.uniform(0, 0.2))  # into the middle of a shard
                    if what == "driver":
                        there = _parts(out)
                        driver.kill()
                        driver.wait()
                        driver = self._start(out)
                        outcome.drivers += 1
                    elif not (self._kill_node(rng) if what == "node" else self._kill_worker(rng)):
                        continue
                    outcome.killed.append((done, what))
                    del schedule[0]
                assert time.monotonic() - started < _PATIENCE, f"{seed}: {schedule} is left"
                time.sleep(0.02)
        finally:
            driver.kill()
            driver.wait()
        said = (self._folder / "driver.log").read_text()
        assert driver.returncode == 0, f"{seed}: {outcome} {said}"
        assert not schedule, f"{seed}: it ended before {schedule}"
        after = _parts(out)
        outcome.redone = [name for name, file in there.items() if after[name] != file]
        outcome.deaths = self._deaths.stat().st_size - deaths
        outcome.seconds = time.monotonic() - started
        return outcome

    def run_undisturbed(self, out: Path) -> None:
        """The same in one process, begun again when the picture has killed it."""
        for _ in range(3):
            if self._start(out, "local").wait() == 0:
                return
        raise AssertionError((self._folder / "driver.log").read_text())

    @contextmanager
    def environment(self) -> Iterator[None]:
        """What processes need to be killed by the picture; nodes give it to their workers."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(_KILLER), prepend=os.pathsep)
            patch.setenv("KILLER_COUNTS", str(self._deaths))
            yield

    def _start(self, out: Path, engine: str = "ray") -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "bareclip", "shards", "run", str(out)]
        command += ["--engine", engine, "--threads", "1"]
        if engine == "ray":
            command += ["--address", self._cluster.address]
        with self.environment(), (self._folder / "driver.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log)

    def _add_node(self) -> None:
        with self.environment():
            self._cluster.add_node(num_cpus=1, object_store_memory=_STORE)

    def _kill_worker(self, rng: random.Random) -> bool:
        """Kills one that works for the run; False if there is none just now."""
        workers = []
        for node in self._cluster.worker_nodes:
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            for child in raylet.children():
                try:
                    if child.cmdline()[0].startswith("ray::_Worker"):
                        workers.append(child)
                except (psutil.NoSuchProcess, psutil.ZombieProcess, IndexError):
                    continue
        if workers:
            rng.choice(workers).kill()
        return bool(workers)

    def _kill_node(self, rng: random.Random) -> bool:
        """Kills one with all that runs on it; another joins."""
        nodes = sorted(self._cluster.worker_nodes, key=lambda node: node.node_id)
        self._cluster.remove_node(rng.choice(nodes), allow_graceful=False)
        self._add_node()
        return True


def _parts(out: Path) -> dict[str, tuple[int, int]]:
    """Names of parts with what changes when one is written again."""
    found = {}
    for path in (out / "parts").glob("*.parquet"):
        about = path.stat()
        found[path.name] = about.st_ino, about.st_mtime_ns
    return found
