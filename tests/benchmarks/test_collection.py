import json
import sys

import pytest
from benchmarks import collection


def test_it_runs_and_finds_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["collection", "--vectors", "3000", "--rounds", "1"])
    collection.main()
    found = json.loads(capsys.readouterr().out)
    assert found["duplicates"]["equal_to_brute_force"] is True
    assert found["duplicates"]["groups"] > 100
    assert found["questions"]["mix_of_three_ms"] > 0
