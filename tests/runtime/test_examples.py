"""Every public call has an example in its docstring, and the examples run, on the demo model."""

import doctest
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.cli.demo import PICTURES

# Made by calls that have examples, or by Python.
EXEMPT = {"ImageEncoder.batch_size", "Classifier.classify"}
# Of an extra.
NEEDS = {"Clip.teach": "scipy"}


def public_calls() -> Iterator[tuple[str, Any]]:
    for name in bareclip.__all__:
        thing = getattr(bareclip, name)
        if inspect.isfunction(thing):
            yield name, thing
        elif inspect.isclass(thing) and thing.__module__.startswith("bareclip"):
            if issubclass(thing, Exception) or hasattr(thing, "__dataclass_fields__"):
                continue
            yield name, thing
            for member, value in inspect.getmembers(thing):
                if not member.startswith("_") and inspect.isroutine(value):
                    yield f"{name}.{member}", value


CALLS = dict(public_calls())


@pytest.mark.parametrize("name", CALLS)
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    call = CALLS[name]
    text = inspect.getdoc(call) or ""
    assert text, f"{name} has no docstring"
    if ">>>" not in text:
        assert name in EXEMPT or "As ``" in text or len(inspect.signature(call).parameters) <= 1, (
            f"{name} has no example"
        )
        return
    shutil.copytree(PICTURES, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    photos = [tmp_path / "photos" / f"{animal}.png" for animal in ("cat", "dog")]
    folder = tmp_path / "empty"
    folder.mkdir()
    names = {"bareclip": bareclip, "np": np, "photos": photos, "folder": folder}
    example = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    said: list[str] = []
    assert runner.run(example, out=said.append).failed == 0, "".join(said)
