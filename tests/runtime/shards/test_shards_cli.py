"""bareclip shards, and bareclip search over a run, in processes of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import bareclip
from tests.runtime.shards import making
from tests.runtime.test_cli import complaint, run

pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")

from bareclip import shards


def test_a_run_from_plan_to_search(mixed: Path, tmp_path: Path, bundles: dict[str, Path]) -> None:
    out, bundle = tmp_path / "OUT", str(bundles["tiny"])
    planned = run("shards", "plan", mixed, "-o", out).stdout
    assert planned.startswith(f"{out}: 2 shards, ")
    told = json.loads(run("shards", "status", out, "--json").stdout)
    assert (told["shards"], told["done"], told["model"]) == (2, 0, None)
    missing = run("shards", "verify", out, code=1)
    assert missing.stdout.count("it has no part") == 2
    assert missing.stderr == f"bareclip: 2 problems; {out} is not whole\n"
    ran = run("shards", "run", out, "--bundle", bundle)
    assert ran.stdout == "2 shards, 11 pictures: 8 embedded, 3 failed\n"
    assert "shard 0: 6 pictures, 3 failed; 1 of 2, " in ran.stderr
    again = run("shards", "run", out, "--bundle", bundle)
    assert again.stdout.startswith("all 2 shards are done; count them with: bareclip shards verify")
    told = json.loads(run("shards", "status", out, "--json").stdout)
    assert (told["done"], told["rows"], told["embedded"], told["failed"]) == (2, 11, 8, 3)
    assert sum(told["failures"].values()) == 3
    shown = run("shards", "status", out).stdout
    assert "shards     2 of 2 done, 0 begun" in shown
    assert "1       its key occurs a second time in its shard" in shown
    assert run("shards", "verify", out).stdout == "2 shards, 11 pictures: 8 embedded, 3 failed\n"
    found = json.loads(run("search", out, "a cat", "-k", "3", "--json", "--bundle", bundle).stdout)
    wanted = shards.search(out, ["a cat"], bareclip.load(bundle), k=3)[0]
    assert [hit["item"] for hit in found[0]["hits"]] == [hit.item for hit in wanted]
    least = wanted[1].similarity
    few = run("search", out, "a cat", "--min-similarity", str(least), "--bundle", bundle).stdout
    assert [line.split()[-1] for line in few.splitlines()[2:]] == [hit.item for hit in wanted[:2]]


def test_tasks_do_each_shard_once(mixed: Path, tmp_path: Path, bundles: dict[str, Path]) -> None:
    out = tmp_path / "OUT"
    photos = making.write_folder(tmp_path / "photos", 6)
    run("shards", "plan", mixed, photos, "-o", out, "--rows", "2", "--vectors", "float32")
    task = ["shards", "run", out, "--bundle", str(bundles["tiny"]), "--engine", "task", "--task"]
    done = [json.loads(run(*task, f"{i}/3", "--json").stdout) for i in range(3)]
    assert [one["shards"] for one in done] == [2, 2, 1]
    assert shards.verify(out).problems == ()
    assert json.loads(run(*task, "0/3", "--json").stdout)["before"] == 2


def test_what_is_wrong_is_one_line(mixed: Path, tmp_path: Path, bundles: dict[str, Path]) -> None:
    out, bundle = tmp_path / "OUT", ["--bundle", str(bundles["tiny"])]
    assert "holds no run" in complaint("shards", "run", out, *bundle)
    assert "holds no run" in complaint("shards", "status", out)
    run("shards", "plan", mixed, "-o", out)
    assert "plans are written once" in complaint("shards", "plan", mixed, "-o", out)
    assert "go together" in complaint("shards", "run", out, "--task", "0/2", code=2)
    assert "go together" in complaint("shards", "run", out, "--engine", "task", code=2)
    for task in ("2/2", "1", "a/b", "-1/2"):
        message = complaint("shards", "run", out, "--engine", "task", f"--task={task}", *bundle)
        assert f"task {task!r} is none" in message
    assert "holds no vectors yet" in complaint("search", out, "a cat", *bundle)
    (mixed / "00001.tar").unlink()
    refused = run("shards", "run", out, *bundle, code=1)
    assert refused.stdout == "1 shards, 6 pictures: 3 embedded, 3 failed\n"
    assert refused.stderr.splitlines()[-1].startswith(
        "bareclip: 1 shards could not be done, first shard 1: "
    )
    other = ["--bundle", str(bundles["odd"])]
    assert "model 'odd' where it has 'tiny'" in complaint("shards", "run", out, *other)
    assert "model 'odd' where it has 'tiny'" in complaint("search", out, "a cat", *other)
    assert "give --bundle" in complaint("search", out, "a cat")
    assert "DB is a run" in complaint("search", out, "a cat", "--approximate", *bundle, code=2)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_leaves_nothing_half_done(
    tmp_path: Path, bundles: dict[str, Path], clip: bareclip.Clip, number: signal.Signals
) -> None:
    data = [making.jpeg(i) for i in range(20)]
    for i in range(2):
        members = [(f"{i}-{k:05}.jpg", data[k % 20]) for k in range(4000 if i else 10)]
        making.write_tar(tmp_path / "in" / f"{i}.tar", members)
    plan = shards.plan(tmp_path / "in", tmp_path / "OUT")
    command = [sys.executable, "-m", "bareclip", "shards", "run", plan.out]
    command += ["--bundle", str(bundles["tiny"])]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ) as process:
        while not list((tmp_path / "OUT").glob("attempts/000001-1-*")):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(number)
        assert process.stderr is not None
        said = process.stderr.read().decode().splitlines()
        assert process.wait(60) == 130
    assert said[-1] == "bareclip: interrupted"
    assert shards.unfinished(plan) == [1]
    assert list((tmp_path / "OUT" / "attempts").iterdir()) == []
    assert [event.shard for event in shards.run(plan, clip)] == [1]
    assert shards.verify(plan).problems == ()
