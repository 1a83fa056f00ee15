import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource")
def test_memory_does_not_grow_with_a_stream(bundles: dict[str, Path]) -> None:
    command = [sys.executable, "-m", "benchmarks.streaming", "--bundle", str(bundles["tiny"])]
    command += ["--images", "4000", "--texts", "20000"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    found = json.loads(told)
    for work, count in (("images", 4000), ("texts", 20_000)):
        assert found[work]["count"] == count
        assert found[work]["taken"] < 100
        assert found[work]["grown_mb"] < 60
