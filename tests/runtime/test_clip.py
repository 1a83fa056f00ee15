import io
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bareclip
from bareclip import ImageError, Prediction, TextError
from bareclip.encoders import IMAGE_BATCH, text_encoder
from bareclip.scoring.vectors import top_k
from tests.variants import SHAPES, TEXTS, VARIANTS, batch, picture

LABELS = ["cat", "dog", "bird"]


def golden_images(variant: str) -> list[Any]:
    return [*batch(VARIANTS[variant].image, 6), *(picture(*shape) for shape in SHAPES)]


def test_embeddings_are_the_models(
    bundles: dict[str, Path], variant: str, goldens: dict[str, Any]
) -> None:
    clip = bareclip.load(bundles[variant], reading="as_stored")
    images, texts = clip.embed_images(golden_images(variant)), clip.embed_texts(TEXTS)
    np.testing.assert_allclose(images, goldens[f"{variant}.images"], atol=1e-5)
    np.testing.assert_allclose(texts, goldens[f"{variant}.texts"], atol=1e-5)
    assert images.dtype == texts.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(images, axis=1), 1, atol=1e-6)


def test_probabilities_are_the_models(
    bundles: dict[str, Path], variant: str, goldens: dict[str, Any]
) -> None:
    clip = bareclip.load(bundles[variant])
    # Labels may not be empty: the reference's softmax without that column.
    columns = [index for index, text in enumerate(TEXTS) if text]
    wanted = goldens[f"{variant}.probabilities"].astype(np.float64)[:, columns]
    wanted /= wanted.sum(axis=1, keepdims=True)
    classifier = clip.classifier([TEXTS[index] for index in columns], templates="{}")
    found = classifier.probabilities(clip.embed_images(golden_images(variant)))
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_classify_equals_the_goldens_softmax(clip: bareclip.Clip, goldens: dict[str, Any]) -> None:
    # Two labels as whole prompts: the reference's softmax over those two columns.
    images = golden_images("tiny")
    wanted = goldens["tiny.probabilities"][:, [0, 2]]
    wanted = wanted / wanted.sum(axis=1, keepdims=True)
    found = clip.classify(images, [TEXTS[0], TEXTS[2]], templates="{}")
    for predictions, row in zip(found, wanted, strict=True):
        by_label = {p.label: p.probability for p in predictions}
        assert by_label[TEXTS[0]] == pytest.approx(row[0], abs=1e-4)
        assert predictions[0].probability >= predictions[1].probability


def test_texts_are_the_same_alone_and_in_any_company(clip: bareclip.Clip) -> None:
    texts = [" ".join(["cat", "dog", "ocean"][: 1 + i % 3] * (1 + i % 5)) for i in range(70)]
    together = clip.embed_texts(texts)
    alone = np.concatenate([clip.embed_texts([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    backwards = clip.embed_texts(texts[::-1])
    np.testing.assert_allclose(backwards[::-1], together, atol=1e-6)


def test_short_texts_do_not_pay_for_long_ones(
    clip: bareclip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[tuple[int, ...]] = []
    tower = clip.texts._tower.get()
    run = tower.run
    monkeypatch.setattr(tower, "run", lambda ids: shapes.append(ids.shape) or run(ids))
    clip.embed_texts(["cat", "cat " * 100] * 10)
    assert shapes == [(10, 4), (10, 24)]
    shapes.clear()
    clip.embed_texts([f"cat {number}" for number in range(3 * text_encoder.TEXT_ROWS)])
    assert len(shapes) > 3
    assert max(texts for texts, _ in shapes) <= text_encoder.TEXT_BATCH


def test_memory_is_bounded_by_batches(clip: bareclip.Clip) -> None:
    taken = 0
    ahead: list[int] = []

    def images() -> Any:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield picture(8, 8)

    run = clip.images._tower.get().run
    seen = 0

    def count(pixels: Any) -> Any:
        nonlocal seen
        seen += len(pixels)
        ahead.append(taken - seen)
        return run(pixels)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clip.images._tower.get(), "run", count)
        assert clip.embed_images(images()).shape == (100, 20)
    assert max(ahead) <= 2 * IMAGE_BATCH


def test_empty_input_gives_no_rows(clip: bareclip.Clip) -> None:
    for empty in (clip.embed_images([]), clip.embed_texts([])):
        assert empty.shape == (0, 20)
        assert empty.dtype == np.float32
    assert clip.classify([], LABELS) == []
    assert clip.search(clip.embed_images([]), [], text="cat") == []


def test_a_broken_image_raises_by_name_or_is_skipped(clip: bareclip.Clip, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    images: list[Any] = [picture(9, 9), broken, picture(12, 9), tmp_path / "none.png"]
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        clip.embed_images(images)
    result = clip.embed_images(images, on_error="skip")
    assert result.kept == [0, 2]
    np.testing.assert_allclose(result.vectors, clip.embed_images([images[0], images[2]]), atol=1e-6)
    assert [(f.index, f.name) for f in result.failures] == [
        (1, str(broken)),
        (3, str(tmp_path / "none.png")),
    ]
    assert "in no image format" in result.failures[0].reason
    assert "does not exist" in result.failures[1].reason


def test_all_images_broken_gives_no_rows(clip: bareclip.Clip) -> None:
    result = clip.embed_images([b"x", b"y"], on_error="skip")
    assert result.vectors.shape == (0, 20)
    assert len(result.failures) == 2


def test_wrong_arguments_are_explained(clip: bareclip.Clip) -> None:
    one = [
        "cat.jpg", Path("cat.jpg"), b"abc", bytearray(b"abc"), io.BytesIO(b"abc"), picture(4, 4),
        np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), 7,
    ]  # fmt: skip
    for image in one:
        with pytest.raises(ImageError, match=r"must be a list; for one image, here .*pass \[image"):
            clip.embed_images(image)  # type: ignore[arg-type]
    with pytest.raises(
        bareclip.BareclipError, match="'ignore' is unknown; it is 'raise' or 'skip'"
    ):
        clip.embed_images([], on_error="ignore")  # type: ignore[call-overload]
    with pytest.raises(TextError, match="25 tokens"):
        clip.embed_texts(["cat " * 23], truncate=False)


def test_as_seen_and_as_stored_differ_where_they_should(bundles: dict[str, Path]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    picture(60, 40).save(file, "JPEG", exif=exif)
    seen, stored = (
        bareclip.load(bundles["tiny"], reading=reading).embed_images([file.getvalue()])
        for reading in ("as_seen", "as_stored")
    )
    assert np.abs(seen - stored).max() > 1e-3


def test_classify_one_and_several(clip: bareclip.Clip) -> None:
    image = picture(40, 30)
    [one] = clip.classify(image, LABELS)
    for same in clip.classify([image, image], LABELS):
        assert [p.label for p in same] == [p.label for p in one]
        assert [p.probability for p in same] == pytest.approx([p.probability for p in one], 1e-4)
    assert sum(p.probability for p in one) == pytest.approx(1)
    assert {p.label for p in one} == set(LABELS)
    assert clip.classify(image, LABELS, top=1) == [one[:1]]
    assert isinstance(one[0], Prediction)


def test_a_classifier_embeds_its_labels_once(
    clip: bareclip.Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier = clip.classifier(LABELS, templates="imagenet", ensemble="probability")
    monkeypatch.setattr(clip.texts._tower.get(), "run", lambda *_: pytest.fail("embedded again"))
    [[best, *_]] = classifier.classify(picture(30, 30))
    assert best.label in LABELS


def test_search_by_text_and_by_image_equals_a_full_sort(clip: bareclip.Clip) -> None:
    images = [picture(20 + i, 30, seed=i) for i in range(40)]
    vectors = clip.embed_images(images)
    names = [f"{i}.png" for i in range(40)]
    text = clip.embed_texts(["a sunset over the ocean"])[0].astype(np.float64)
    wanted = sorted(range(40), key=lambda i: -float(vectors[i].astype(np.float64) @ text))
    hits = clip.search(vectors, names, text="a sunset over the ocean", k=5)
    assert [hit.item for hit in hits] == [names[i] for i in wanted[:5]]
    assert hits[0].similarity == pytest.approx(vectors[wanted[0]] @ text, abs=1e-6)
    assert clip.search(vectors, names, image=images[7], k=1)[0].item == "7.png"
    assert len(clip.search(vectors, names, text="cat", k=99)) == 40


def test_search_wants_a_vector_for_each_item(clip: bareclip.Clip) -> None:
    with pytest.raises(bareclip.VectorError, match=r"vectors are \(3, 20\), items 2"):
        clip.search(np.ones((3, 20)), ["a", "b"], text="cat")
    with pytest.raises(bareclip.VectorError, match=r"vectors are \(2, 19\); give \(N, 20\)"):
        clip.search(np.ones((2, 19)), ["a", "b"], text="cat")
    with pytest.raises(bareclip.VectorError, match="k is -1"):
        clip.search(np.ones((2, 20)), ["a", "b"], text="cat", k=-1)
    for asked in ({}, {"text": "cat", "image": picture(4, 4)}):
        with pytest.raises(bareclip.BareclipError, match="one of text= and image="):
            clip.search(np.ones((2, 20)), ["a", "b"], **asked)


def test_eight_threads_get_what_one_gets(clip: bareclip.Clip) -> None:
    images = [picture(30 + i, 40, seed=i) for i in range(12)]
    texts = [f"{i} red circle" for i in range(12)]
    wanted = clip.embed_images(images), clip.embed_texts(texts)
    barrier = threading.Barrier(8)

    def work(_: int) -> tuple[Any, Any]:
        barrier.wait()
        return clip.embed_images(images), clip.embed_texts(texts)

    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(work, range(8)):
            np.testing.assert_allclose(found[0], wanted[0], atol=1e-6)
            np.testing.assert_allclose(found[1], wanted[1], atol=1e-6)


def test_a_pickled_clip_answers_the_same(bundles: dict[str, Path]) -> None:
    clip = bareclip.load(bundles["tiny"], threads=1, reading="as_stored")
    copy = pickle.loads(pickle.dumps(clip))
    assert (copy.threads, repr(copy)) == (1, repr(clip))
    np.testing.assert_array_equal(copy.embed_texts(TEXTS), clip.embed_texts(TEXTS))


def test_similarity_is_of_rows_with_rows(clip: bareclip.Clip) -> None:
    vectors = clip.embed_texts(TEXTS)
    assert clip.similarity(vectors, vectors[:2]).shape == (len(TEXTS), 2)
    assert top_k(clip.similarity(vectors[:1], vectors)[0], 1).tolist() == [0]


def test_generators_are_as_good_as_lists(clip: bareclip.Clip) -> None:
    np.testing.assert_array_equal(clip.embed_texts(t for t in TEXTS), clip.embed_texts(TEXTS))
    images = [picture(20 + i, 20) for i in range(3)]
    np.testing.assert_array_equal(clip.embed_images(i for i in images), clip.embed_images(images))
    stacked = np.stack([np.asarray(picture(20, 20, seed=i)) for i in range(3)])
    assert clip.embed_images(stacked).shape == (3, 20)


def test_one_lazy_image_or_file_given_many_times(bundles: dict[str, Path], tmp_path: Path) -> None:
    clip = bareclip.load(bundles["tiny"], threads=8)
    picture(400, 300).save(tmp_path / "x.jpg")
    wanted = clip.embed_images([tmp_path / "x.jpg"])
    for _ in range(5):
        with Image.open(tmp_path / "x.jpg") as lazy, (tmp_path / "x.jpg").open("rb") as file:
            found = clip.embed_images([lazy, file] * 8)
        np.testing.assert_allclose(found, np.repeat(wanted, 16, axis=0), atol=1e-6)


def test_a_failing_session_is_our_error(clip: bareclip.Clip) -> None:
    with pytest.raises(bareclip.BareclipError, match=r"ONNX Runtime failed on inputs of"):
        clip.texts._tower.get().run(np.full((1, 3), 10**6, np.int64))


def test_several_files_are_read_at_once(bundles: dict[str, Path]) -> None:
    clip = bareclip.load(bundles["tiny"], threads=4)
    data = io.BytesIO()
    picture(20, 20).save(data, "PNG")
    together = threading.Barrier(4, timeout=20)

    class Meeting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            together.wait()  # broken, and so an error, unless four read at the same time
            return super().read(size)

    assert clip.embed_images([Meeting(data.getvalue()) for _ in range(4)]).shape == (4, 20)
