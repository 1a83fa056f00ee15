"""Encoders: what they yield, in which order, how far ahead they work, and that they stop."""

import gc
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import BareclipError, BundleError, Failure, ImageError, TextError
from bareclip.bundle import Bundle
from bareclip.encoders import ImageEncoder, Options, TextEncoder
from tests.variants import TEXTS, picture


class Taken:
    """An iterable that counts what was taken from it."""

    def __init__(self, items: Any) -> None:
        self.items = items
        self.count = 0

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            self.count += 1
            yield item


def test_a_stream_of_images_yields_what_embed_gives(clip: bareclip.Clip) -> None:
    images: list[Any] = [picture(20 + i, 30, seed=i) for i in range(21)]
    wanted = clip.embed_images(images)
    images[3:3] = [b"no picture"]
    images[11:11] = [Path("nowhere.jpg")]
    found = [*clip.images.stream(iter(images))]
    assert [place for place, one in enumerate(found) if isinstance(one, Failure)] == [3, 11]
    failures = [one for one in found if isinstance(one, Failure)]
    assert [(f.index, f.name) for f in failures] == [(3, "10 bytes"), (11, "nowhere.jpg")]
    assert "does not exist" in failures[1].reason
    vectors = np.stack([one for one in found if not isinstance(one, Failure)])
    np.testing.assert_array_equal(vectors, wanted)


def test_a_stream_of_texts_yields_what_embed_gives(clip: bareclip.Clip) -> None:
    texts: list[Any] = [f"{text} {number}" for number in range(90) for text in TEXTS]
    wanted = clip.embed_texts(texts)
    texts[40:40] = [None]
    texts[500:500] = ["\ud83d"]
    found = [*clip.texts.stream(iter(texts))]
    failures = [one for one in found if isinstance(one, Failure)]
    assert [(f.index, f.name) for f in failures] == [(40, "None"), (500, "'\\ud83d'")]
    vectors = np.stack([one for one in found if not isinstance(one, Failure)])
    np.testing.assert_array_equal(vectors, wanted)


@pytest.mark.parametrize("batch_size", [None, 1, 5])
def test_streams_take_no_more_than_they_need(clip: bareclip.Clip, batch_size: int | None) -> None:
    images = Taken(itertools.repeat(picture(8, 8)))
    stream = clip.images.stream(images, batch_size=batch_size)
    next(stream)
    assert images.count <= 32
    texts = Taken(itertools.repeat("a cat"))
    next(clip.texts.stream(texts, batch_size=batch_size))
    assert texts.count < 100


def test_a_closed_stream_stops_the_work(bundles: dict[str, Path]) -> None:
    clip = bareclip.load(bundles["tiny"], threads=2)
    read: list[int] = []
    hold = threading.Event()

    class File:
        def __init__(self, number: int) -> None:
            self.number = number

        def seekable(self) -> bool:
            return False

        def read(self) -> bytes:
            read.append(self.number)
            if self.number >= 8:
                hold.wait(2)
            return b"no picture"

    stream = clip.images.stream(File(number) for number in range(1000))
    assert isinstance(next(stream), Failure)
    stream.close()  # type: ignore[attr-defined]
    hold.set()
    assert clip.embed_images([picture(9, 9)]).shape == (1, 20)  # its pool is still of use
    assert max(read) <= 8 + 2  # what was being read, and no more


def test_leaving_a_loop_is_closing(clip: bareclip.Clip) -> None:
    images = Taken(picture(8, 8) for _ in range(1000))
    for _ in clip.images.stream(images):
        break
    gc.collect()
    assert images.count <= 32


def test_failures_that_never_end_are_yielded_as_they_come(clip: bareclip.Clip) -> None:
    images = Taken(itertools.repeat(b"no picture"))
    stream = clip.images.stream(images)
    assert all(isinstance(next(stream), Failure) for _ in range(500))
    assert images.count < 500 + 200


def test_streams_of_one_clip_may_be_interleaved(clip: bareclip.Clip) -> None:
    images = [picture(20 + i, 20, seed=i) for i in range(30)]
    wanted = clip.embed_images(images)
    left, right = clip.images.stream(images), clip.images.stream(images[::-1])
    for place, (a, b) in enumerate(zip(left, right, strict=True)):
        np.testing.assert_array_equal(a, wanted[place])
        np.testing.assert_array_equal(b, wanted[-1 - place])


def test_sizes_types_and_errors(clip: bareclip.Clip) -> None:
    images, texts = [picture(20 + i, 20) for i in range(5)], ["a cat", "a dog"]
    half = clip.images.embed(images, dtype="float16", batch_size=2)
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, clip.embed_images(images).astype(np.float16))
    assert clip.texts.embed(texts, dtype="float16").dtype == np.float16
    assert clip.images.embed([], dtype="float16").shape == (0, 20)
    partial = clip.texts.embed(["a cat", 7, "a dog"], on_error="skip")  # type: ignore[list-item]
    assert partial.kept == [0, 2]
    np.testing.assert_array_equal(partial.vectors, clip.embed_texts(texts))
    assert partial.failures == [Failure(1, "7", "a text must be a string, not int: 7")]
    for wrong in (0, -1, 1.5, "8"):
        with pytest.raises(BareclipError, match=r"batch_size is .*; it must be at least 1"):
            clip.images.embed(images, batch_size=wrong)  # type: ignore[call-overload]
        with pytest.raises(BareclipError, match=r"batch_size is .*; it must be at least 1"):
            clip.texts.stream(texts, batch_size=wrong)  # type: ignore[arg-type]
    with pytest.raises(BareclipError, match="dtype 'float64' is unknown"):
        clip.texts.embed(texts, dtype="float64")  # type: ignore[call-overload]
    with pytest.raises(ImageError, match="must be a list; for one image"):
        clip.images.stream("cat.jpg")
    with pytest.raises(TextError, match="must be a list; for one text"):
        clip.texts.stream("a cat")


def test_any_batch_size_gives_the_same_vectors(clip: bareclip.Clip) -> None:
    images = [picture(20 + i, 30, seed=i) for i in range(13)]
    wanted = clip.embed_images(images), clip.embed_texts(TEXTS)
    for size in (1, 2, 7, 32):
        np.testing.assert_array_equal(clip.images.embed(images, batch_size=size), wanted[0])
        np.testing.assert_array_equal(clip.texts.embed(TEXTS, batch_size=size), wanted[1])


def test_pixels_are_what_the_model_is_shown(clip: bareclip.Clip) -> None:
    images = [picture(20 + i, 30, seed=i) for i in range(11)]
    shown = [*clip.images.pixels([*images, b"no picture"])]
    assert isinstance(shown.pop(), Failure)
    vectors = clip.images.embed_pixels(np.stack(shown))
    np.testing.assert_array_equal(vectors, clip.embed_images(images))
    with pytest.raises(ImageError, match=r"pixels are float32 of shape \(1, 32, 32, 3\); this mod"):
        clip.images.embed_pixels(np.zeros((1, 32, 32, 3), np.float32))
    assert clip.images.embed_pixels(np.zeros((0, 32, 32, 3), np.uint8)).shape == (0, 20)


def test_each_tower_is_loaded_when_it_is_asked_for(bundles: dict[str, Path]) -> None:
    clip = bareclip.load(bundles["tiny"])
    assert not clip.images.loaded
    assert not clip.texts.loaded
    clip.embed_images([])
    assert not clip.images.loaded
    clip.embed_texts(["a cat"])
    assert clip.texts.loaded
    assert not clip.images.loaded
    assert bareclip.load(bundles["tiny"], preload=True).images.loaded
    both = bareclip.load(bundles["tiny"])
    both.classify(picture(9, 9), ["cat", "dog"])
    assert both.images.loaded
    assert both.texts.loaded


def test_one_tower_alone(bundles: dict[str, Path]) -> None:
    clip = bareclip.load(bundles["tiny"], towers=("text",), precision={"text": "fp32"})
    assert clip.precision == {"text": "fp32"}
    assert clip.embed_texts(["a cat"]).shape == (1, 20)
    with pytest.raises(BundleError, match="loaded without its vision tower, so it embeds no im"):
        clip.embed_images([picture(9, 9)])
    for wrong in ((), ("audio",), "audio"):
        with pytest.raises(BareclipError, match="they are some of vision, text"):
            bareclip.load(bundles["tiny"], towers=wrong)


def test_a_tower_is_loaded_once_by_many_threads(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from bareclip.inference import towers

    clip = bareclip.load(bundles["tiny"], cache=False)
    inner, loads = towers.load_tower, []

    def slow(*given: Any) -> Any:
        loads.append(given)
        time.sleep(0.05)
        return inner(*given)

    monkeypatch.setattr(towers, "load_tower", slow)
    threads = [threading.Thread(target=clip.embed_texts, args=(["a cat"],)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(loads) == 1


def test_a_closed_clip_answers_nothing(bundles: dict[str, Path]) -> None:
    with bareclip.load(bundles["tiny"]) as clip:
        clip.embed_images([picture(9, 9)])
        clip.embed_texts(["a cat"])
    for call in (lambda: clip.embed_images([picture(9, 9)]), lambda: clip.embed_texts(["a cat"])):
        with pytest.raises(BareclipError, match="was closed; load the bundle again"):
            call()
    clip.close()


def test_threads_stay_with_their_encoder(bundles: dict[str, Path]) -> None:
    clip = bareclip.load(bundles["tiny"], threads=2)

    def decoding() -> set[threading.Thread]:
        return {t for t in threading.enumerate() if t.name.startswith("bareclip-decode")}

    before = decoding()
    clip.embed_images([picture(9, 9)] * 40)
    mine = decoding() - before
    assert 0 < len(mine) <= 2
    clip.embed_images([picture(9, 9)] * 40)
    assert decoding() - before == mine
    clip.close()
    for thread in mine:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_an_encoder_needs_no_clip(bundles: dict[str, Path]) -> None:
    bundle = Bundle.read(bundles["tiny"])
    clip = bareclip.load(bundles["tiny"])
    images, texts = ImageEncoder(bundle, Options()), TextEncoder(bundle, Options(threads=1))
    shown = [picture(20, 30)]
    np.testing.assert_array_equal(images.embed(shown), clip.embed_images(shown))
    np.testing.assert_array_equal(texts.embed(TEXTS), clip.embed_texts(TEXTS))
    assert (texts.threads, texts.device, texts.precision) == (1, "cpu", "fp32")
    batches = [*texts.batches(TEXTS, batch_size=2)]
    assert sorted(place for places, _ in batches for place in places) == [*range(len(TEXTS))]
    vectors = np.concatenate([texts.embed_tokens(ids) for _, ids in batches])
    order = [place for places, _ in batches for place in places]
    np.testing.assert_array_equal(vectors, clip.embed_texts(TEXTS)[order])
