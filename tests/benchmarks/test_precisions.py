"""The benchmark runs, on a small bundle, in seconds."""

import sys
from pathlib import Path

import pytest
from benchmarks import precisions

from tests.variants import picture


def test_the_comparison_of_precisions_runs(
    bundles: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for label in ("cat", "dog"):
        (tmp_path / "tree" / label).mkdir(parents=True)
        for number in range(4):
            picture(40, 40, number).save(tmp_path / "tree" / label / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    given = ["--calibrate", str(tmp_path / "tree"), "--tree", str(tmp_path / "tree")]
    monkeypatch.setattr(sys, "argv", ["precisions.py", str(bundles["tiny"]), *given])
    precisions.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "tiny, on 4 photos and 32 built-in texts"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + 8
    assert len({line.count("|") for line in table}) == 1
    before = {path.name for path in bundles["tiny"].iterdir()}
    assert before == {"bundle.json", "tokenizer.json", "fp32"}
