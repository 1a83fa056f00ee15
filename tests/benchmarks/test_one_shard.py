import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource")
def test_the_benchmark_of_shards_runs(bundles: dict[str, Path]) -> None:
    pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")
    command = [sys.executable, "-m", "benchmarks.one_shard", "--bundle", str(bundles["tiny"])]
    command += ["--sizes", "20", "400", "--shards", "5"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    found = json.loads(told)
    assert found["shard"]["400"]["per_second"] > 0
    assert found["shard"]["400"]["largest_mb"] < 1.3 * found["shard"]["20"]["largest_mb"]
    assert set(found["finished"]) == {"run", "status", "verify"}
