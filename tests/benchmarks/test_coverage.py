"""Which models are taken: what was taken once stays so, and what is refused says why."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks import coverage


def test_coverage_counts_every_model_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["coverage.py", "--json", str(tmp_path / "c.json")])
    coverage.main()
    lines = capsys.readouterr().out.splitlines()
    groups = json.loads((tmp_path / "c.json").read_text())
    assert [len(refused) for refused in groups.values()] == [144, 169, 59]
    taken = [sum(reason is None for reason in refused.values()) for refused in groups.values()]
    assert all(now >= once for now, once in zip(taken, (119, 150, 58), strict=True))
    assert lines[0] == f"OpenCLIP's configurations: {taken[0]} of 144"
    configurations = groups["OpenCLIP's configurations"]
    for name in ("ViT-B-32", "RN50x64", "ViT-gopt-16-SigLIP2-384", "ViT-H-14-worldwide"):
        assert configurations[name] is None
    assert "CoCa" in configurations["coca_ViT-B-32"]
    assert "ls_init_value" in configurations["ViT-M-16-alt"]
    # What a published weight's own activation and preprocessing need is read too.
    weights = groups["OpenCLIP's published weights"]
    assert weights["ViT-H-14__dfn5b"] is None
    assert "timm model" in weights["ViTamin-S__datacomp1b"]
    for name in ("EVA02-E-14-plus", "PE-Core-bigG-14-448", "ViT-bigG-14-CLIPA-336"):
        assert configurations[name] is None
    assert groups["immich's models"]["XLM-Roberta-Large-Vit-B-32"] is None
    assert groups["immich's models"]["fg-clip2-base"] == "we author no FG-CLIP 2"
