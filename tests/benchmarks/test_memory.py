"""The benchmark of memory runs, and sees a large photo and a second tower."""

import re
import sys
from pathlib import Path

import pytest
from benchmarks import memory

from tests.machine import needs_proc


@needs_proc
def test_large_photos_take_more_and_so_do_both_towers(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["memory.py", str(bundles["tiny"])])
    memory.main()
    header, _, row = capsys.readouterr().out.splitlines()
    assert header.count("|") == row.count("|")
    small, large, texts, both, both_large = map(int, re.findall(r"(\d+) MB", row))
    # Two photos of 12 megapixels are decoded at a time, at three bytes a pixel.
    assert large - small > 36
    assert both_large - both > 36
    assert texts < both < 500
