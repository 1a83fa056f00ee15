"""The benchmark of the index still runs; what it finds at these sizes means little."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def test_the_search_benchmark_runs(bundles: dict[str, Path]) -> None:
    pytest.importorskip("usearch", reason="needs bareclip[ann]")
    command = [sys.executable, "-m", "benchmarks.search", "--quick", "--json", "--bundle"]
    found = subprocess.run(
        [*command, str(bundles["tiny"])], capture_output=True, text=True, cwd=ROOT
    )
    assert found.returncode == 0, found.stderr
    figures = json.loads(found.stdout)
    assert figures["decoding"]["min_cosine"] > 0.99
    assert figures["indexing"]["share"] > 0
    assert figures["search"]["equal_to_float64_full_sort"]
    assert figures["search"]["recall_at_10"] > 0.5
