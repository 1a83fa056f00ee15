"""The engine without HTTP: the library's vectors, and who is let in."""

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import bareclip
from bareclip.errors import TextError
from bareclip.serve.engine import Engine
from bareclip.serve.problems import PictureProblem, Problem
from bareclip.serve.settings import Limits, Settings
from tests.variants import picture


@pytest.fixture
def engine(library: bareclip.Clip) -> Iterator[Engine]:
    made = Engine(library, Settings(limits=Limits(wait=0.5)))
    made.warm_up()
    yield made
    made.close()


def png(seed: int) -> bytes:
    file = io.BytesIO()
    picture(60, 50, seed).save(file, "PNG")
    return file.getvalue()


def test_vectors_are_the_librarys(engine: Engine, library: bareclip.Clip) -> None:
    files = [png(seed) for seed in range(20)]
    jobs = [engine.pictures(files[:7]), engine.pictures(files[7:])]
    found = [row for job in jobs for row in job.future.result(30)]
    assert np.array_equal(found, library.embed_images(files))
    texts = ["a cat", "", "a dog " * 30]
    job = engine.texts(texts)
    assert np.array_equal(job.future.result(30), library.embed_texts(texts))
    assert job.tokens == sum(map(len, library.texts.tokenizer.encode(texts, truncate=True)))
    assert engine.pictures([]).future.result(30) == engine.texts([]).future.result(30) == []


def test_a_bad_item_is_an_error_in_its_place(engine: Engine) -> None:
    rows = engine.pictures([png(1), b"none", png(2)]).future.result(30)
    assert [type(row) for row in rows] == [np.ndarray, PictureProblem, np.ndarray]
    rows = engine.texts(["a", "\ud800", "a " * 99], truncate=False).future.result(30)
    assert [type(row) for row in rows] == [np.ndarray, TextError, TextError]


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_tower_that_is_not_there(bundles: dict[str, Path], tower: str) -> None:
    with bareclip.load(bundles["tiny"], towers=[tower]) as clip:
        engine = Engine(clip, Settings())
        engine.warm_up()
        with pytest.raises(Problem, match="embeds no"):
            engine.texts(["a"]) if tower == "vision" else engine.pictures([png(1)])
        assert engine.healthy()
        engine.close()


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_who_would_wait_too_long_is_not_let_in(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, tower: str
) -> None:
    """Also while a stage before it has nothing to do."""
    go, pictures = threading.Event(), tower == "vision"
    encoder = engine.clip.images if pictures else engine.clip.texts
    name = "embed_pixels" if pictures else "embed_tokens"
    real = getattr(encoder, name)

    def slow(batch: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        assert go.wait(30)
        time.sleep(0.02)
        return real(batch)  # type: ignore[no-any-return]

    monkeypatch.setattr(encoder, name, slow)
    ask = (lambda: engine.pictures([png(1)])) if pictures else (lambda: engine.texts(["a b c"]))
    wanted = {"pictures": 1, "texts": 0} if pictures else {"pictures": 0, "texts": 1}
    go.set()
    for _ in range(30):
        ask().future.result(30)
    go.clear()
    engine.refuse_when_full(**wanted)
    jobs = []
    [*_, stage] = [one for one in engine.stages if one.name == tower]
    while stage.wait(time.monotonic() + 1000) <= 0.6:
        jobs.append(ask())
    # Until the stages before it have nothing left to do.
    while any(one.waiting for one in engine.stages if one is not stage):
        time.sleep(0.01)
    with pytest.raises(Problem) as caught:
        engine.refuse_when_full(**wanted)
    assert caught.value.status == 429
    assert caught.value.retry_after is not None
    for job in jobs:
        job.abandon()
    engine.refuse_when_full(**wanted)
    go.set()
