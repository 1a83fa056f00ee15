import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bareclip import TextError
from bareclip.bundle import Scoring
from bareclip.scoring.heads import Head
from bareclip.scoring.zero_shot import Ensemble, label_matrix, ranked

LABELS = ["cat", "dog", "bird"]
TEMPLATES = ["a {}", "the {}", "{} here"]
SOFTMAX = Scoring("softmax", math.log(20), 0.0)


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """A fixed random unit vector for each text."""
    rows = [np.random.default_rng(list(t.encode())).standard_normal(8) for t in texts]
    vectors = np.array(rows).reshape(len(texts), 8)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def images(count: int) -> NDArray[np.float32]:
    return embed([f"image {i}" for i in range(count)])


def softmax64(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def test_embedding_ensemble_averages_vectors_as_openai_does() -> None:
    matrix = label_matrix(LABELS, TEMPLATES, "embedding", embed)
    weights = []
    for label in LABELS:
        mean = embed([t.format(label) for t in TEMPLATES]).astype(np.float64).mean(axis=0)
        weights.append(mean / np.linalg.norm(mean))
    np.testing.assert_allclose(matrix.vectors[0], weights, atol=1e-7)
    exact = softmax64(20 * images(4) @ np.array(weights).T)
    found = Head(matrix, SOFTMAX).probabilities(images(4))
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_probability_ensemble_averages_probabilities() -> None:
    matrix = label_matrix(LABELS, TEMPLATES, "probability", embed)
    single = [
        softmax64(20.0 * images(4) @ embed([t.format(label) for label in LABELS]).T)
        for t in TEMPLATES
    ]
    found = Head(matrix, SOFTMAX).probabilities(images(4))
    np.testing.assert_allclose(found, np.mean(single, axis=0), atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_the_ensembles_agree_on_one_template_and_differ_on_several() -> None:
    def answer(templates: list[str], ensemble: Ensemble) -> NDArray[np.floating]:
        matrix = label_matrix(LABELS, templates, ensemble, embed)
        return Head(matrix, SOFTMAX).probabilities(images(4))

    np.testing.assert_allclose(
        answer(["a {}"], "embedding"), answer(["a {}"], "probability"), atol=1e-6
    )
    assert np.abs(answer(TEMPLATES, "embedding") - answer(TEMPLATES, "probability")).max() > 0.01


def test_sigmoid_scoring_judges_each_label_alone() -> None:
    matrix = label_matrix(LABELS, "{}", "embedding", embed)
    found = Head(matrix, Scoring("sigmoid", math.log(10), -2.0)).probabilities(images(3))
    exact = 1 / (1 + np.exp(-(10.0 * images(3) @ embed(LABELS).T - 2)))
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_ranked_sorts_with_ties_in_the_order_given() -> None:
    predictions = ranked(LABELS, np.array([0.2, 0.6, 0.2]), None)
    assert [p.label for p in predictions] == ["dog", "cat", "bird"]
    assert [p.label for p in ranked(LABELS, np.array([0.2, 0.6, 0.2]), 1)] == ["dog"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no labels given"),
        (["cat", "  "], "not a non-empty string"),
        ("cat", "must be a list of strings"),
    ],
)
def test_labels_that_cannot_be_used(labels: list[str], message: str) -> None:
    with pytest.raises(TextError, match=message):
        label_matrix(labels, "plain", "embedding", embed)


def test_labels_are_places_and_a_repeated_one_is_a_warning() -> None:
    with pytest.warns(UserWarning, match="'cat' is given more than once"):
        matrix = label_matrix(["cat", "dog", "cat"], "five", "embedding", embed)
    assert matrix.labels == ("cat", "dog", "cat")
    np.testing.assert_array_equal(matrix.vectors[:, 0], matrix.vectors[:, 2])


def test_templates_may_be_functions() -> None:
    by_name = label_matrix(LABELS, ["a bad photo of a {}.", "a {}"], "embedding", embed)
    functions = [lambda name: f"a bad photo of a {name}.", "a {}"]
    by_function = label_matrix(LABELS, functions, "embedding", embed)
    np.testing.assert_array_equal(by_name.vectors, by_function.vectors)
    with pytest.raises(TextError, match="a template gave 7 for label 'cat'; it must give a str"):
        label_matrix(["cat"], lambda name: 7, "embedding", embed)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("kind", [list, tuple, iter, np.array, dict.fromkeys])
def test_labels_are_any_iterable(kind: Any) -> None:
    found = label_matrix(kind(LABELS), "plain", "embedding", embed)
    assert found.labels == tuple(LABELS)


def test_unknown_ensemble() -> None:
    with pytest.raises(TextError, match="'mean' is unknown; it is 'embedding' or 'probability'"):
        label_matrix(LABELS, "plain", "mean", embed)  # type: ignore[arg-type]


def test_top_must_be_a_count() -> None:
    with pytest.raises(TextError, match="top is -1; it must be at least 1"):
        ranked(LABELS, np.array([0.2, 0.6, 0.2]), -1)
