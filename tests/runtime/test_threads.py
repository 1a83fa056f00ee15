import os
from pathlib import Path

import pytest

from bareclip.inference.threads import default_threads


@pytest.fixture
def cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)


def write(root: Path, name: str, text: str) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text + "\n")


@pytest.mark.usefixtures("cpus")
def test_affinity_counts_where_nothing_else_is_known(tmp_path: Path) -> None:
    assert default_threads(tmp_path) == 4


@pytest.mark.usefixtures("cpus")
def test_smt_siblings_count_once(tmp_path: Path) -> None:
    for cpu in range(4):
        name = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        write(tmp_path, name, "0,2" if cpu % 2 == 0 else "1,3")
    assert default_threads(tmp_path) == 2


@pytest.mark.usefixtures("cpus")
@pytest.mark.parametrize(
    ("limit", "threads"),
    [("max 100000", 4), ("150000 100000", 2), ("50000 100000", 1), ("900000 100000", 4)],
)
def test_container_quota_v2(tmp_path: Path, limit: str, threads: int) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/")
    write(tmp_path, "sys/fs/cgroup/cpu.max", limit)
    assert default_threads(tmp_path) == threads


@pytest.mark.usefixtures("cpus")
def test_the_tightest_quota_above_counts(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "0::/slice/job")
    write(tmp_path, "sys/fs/cgroup/slice/cpu.max", "100000 100000")
    write(tmp_path, "sys/fs/cgroup/slice/job/cpu.max", "300000 100000")
    assert default_threads(tmp_path) == 1


@pytest.mark.usefixtures("cpus")
def test_container_quota_v1(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/cgroup", "5:memory:/x\n4:cpu,cpuacct:/docker/abc")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "250000")
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    assert default_threads(tmp_path) == 3
    write(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1")
    assert default_threads(tmp_path) == 4
