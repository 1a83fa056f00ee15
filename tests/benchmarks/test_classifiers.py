"""The benchmarks of classifiers run, small, and say what they measured."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks import tagging

from tests.demo_model.font import needs_font


def test_tagging(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["tagging", "--quick", "--width", "64"]
    monkeypatch.setattr(sys, "argv", arguments)
    tagging.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["items"], found["labels"], found["width"]) == (3000, 1000, 64)
    assert 0 < found["tagged"] <= found["tags"]
    assert found["seconds"]["tag"] > 0


@needs_font
def test_few_shot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("scipy", reason="needs bareclip[teach]")
    from benchmarks import few_shot

    page = tmp_path / "page.md"
    page.write_text(f"before\n{few_shot.BEGIN}\nold\n{few_shot.END}\nafter\n")
    monkeypatch.setattr(few_shot, "other_font", lambda: None)
    monkeypatch.setattr(sys, "argv", ["few_shot", "--quick", "--page", str(page)])
    few_shot.main()
    lines = page.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("before", "after")
    assert "old" not in lines
    assert len([line for line in lines if line.startswith("| held-out")]) == 4
    assert "| linear |" in capsys.readouterr().out
