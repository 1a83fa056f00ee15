"""The examples in the docstrings of bareclip.shards run, on the demo model."""

import doctest
import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip.cli.demo import PICTURES

pytest.importorskip("pyarrow", reason="needs bareclip[parquet]")

from bareclip import shards
from bareclip.shards import distinct, tars

NAMED = {name: getattr(shards, name) for name in shards.__all__}
CALLS = {name: thing for name, thing in NAMED.items() if ">>>" in (inspect.getdoc(thing) or "")}
CALLS |= {"twice": distinct.twice, "split_name": tars.split_name}


def test_every_call_has_one() -> None:
    functions = {name for name, thing in NAMED.items() if inspect.isfunction(thing)}
    assert functions <= CALLS.keys()
    assert shards.__all__ == sorted(shards.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(PICTURES, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    names = {"bareclip": bareclip, "np": np, "shards": shards, name: CALLS[name]}
    text = inspect.getdoc(CALLS[name]) or ""
    example = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    said: list[str] = []
    assert runner.run(example, out=said.append).failed == 0, "".join(said)
