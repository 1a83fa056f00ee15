"""Teaching with examples, against scikit-learn, plain loops, and on the command line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bareclip
from bareclip import ClassifierError
from bareclip.bundle import Scoring
from bareclip.scoring.calibration import calibration_error
from bareclip.scoring.heads import Head, Lookup
from bareclip.scoring.teaching import METHODS, Examples, Method, choosing, teach
from bareclip.scoring.teaching.choosing import (
    best_temperature,
    cache_head,
    cooled,
    folds,
    kept_temperature,
    linear_head,
)
from bareclip.scoring.teaching.probe import fit_probe
from bareclip.scoring.vectors import normalize, softmax
from bareclip.scoring.zero_shot import LabelMatrix
from tests.runtime.test_cli import complaint, run
from tests.variants import picture

pytest.importorskip("scipy", reason="needs bareclip[teach]")


def clusters(
    labels: int, each: int, seed: int, spread: float = 0.8, width: int = 24
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
    """Unit rows around a direction per label, their labels, and the directions."""
    centres = normalize(np.random.default_rng(7).standard_normal((labels, width)))
    rng = np.random.default_rng(seed)
    places = np.repeat(np.arange(labels), each)
    rows = centres[places] + spread * rng.standard_normal((len(places), width)) / np.sqrt(width) * 3
    return normalize(rows).astype(np.float32), places, centres.astype(np.float32)


def examples(
    texts: NDArray[np.float32], rows: NDArray[np.float32], places: NDArray[np.int64]
) -> Examples:
    labels = tuple(f"label {i}" for i in range(len(texts)))
    return Examples(rows, places, LabelMatrix(labels, texts[None]), 20.0)


@pytest.mark.parametrize("strength", [10.0, 1.0, 0.03])
def test_the_regression_is_scikit_learns(strength: float) -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rows, places, _ = clusters(5, 30, seed=1)
    asked, _, _ = clusters(5, 40, seed=2)
    theirs = linear.LogisticRegression(
        C=1 / strength, fit_intercept=False, solver="newton-cg", tol=1e-8, max_iter=1000
    ).fit(rows.astype(np.float64), places)
    nothing = np.zeros((5, 24))
    ours = fit_probe(rows, places, nothing, strength, nothing)
    found, wanted = softmax(asked @ ours.T), theirs.predict_proba(asked.astype(np.float64))
    assert np.abs(found - wanted).max() < 1e-4
    # From wherever it starts.
    other = fit_probe(
        rows, places, nothing, strength, np.random.default_rng(0).normal(size=(5, 24))
    )
    assert np.abs(softmax(asked @ other.T) - found).max() < 1e-5


def test_with_a_prior_it_stops_at_the_minimum() -> None:
    """At the minimum the slope of the loss, by differences in float64, is zero."""
    rows, places, centres = clusters(4, 12, seed=3)
    prior, strength = 20.0 * centres.astype(np.float64), 0.5
    weights = fit_probe(rows, places, prior, strength, prior)

    def loss(w: NDArray[np.float64]) -> float:
        total = strength / 2 * ((w - prior) ** 2).sum()
        for x, y in zip(rows.astype(np.float64), places, strict=True):
            logits = w @ x
            total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[y]
        return float(total)

    rng = np.random.default_rng(0)
    for _ in range(10):
        step = rng.standard_normal(weights.shape)
        slope = (loss(weights + 1e-4 * step) - loss(weights - 1e-4 * step)) / 2e-4
        assert abs(slope) < 1e-3
        assert loss(weights) < loss(weights + 0.01 * step)
    # Held hard, it is the prior; and with a wrong start, the same.
    np.testing.assert_allclose(fit_probe(rows, places, prior, 1e9, prior), prior, atol=1e-5)
    again = fit_probe(rows, places, prior, strength, np.zeros_like(prior))
    np.testing.assert_allclose(again, weights, atol=1e-3)


def test_a_cache_model_is_the_papers_sum() -> None:
    """Zhang et al. 2022, equations 4 to 6, in loops; of equal classes the mean is the sum."""
    rows, places, centres = clusters(3, 4, seed=1)
    asked, _, _ = clusters(3, 2, seed=2)
    lookup = Lookup(rows, places, weight=3.0 * 4, sharpness=5.5)
    head = Head(LabelMatrix(("a", "b", "c"), centres[None]), Scoring("softmax", 2.0, 0.0), lookup)
    for x, found in zip(asked.astype(np.float64), head.probabilities(asked), strict=True):
        logits = np.exp(2.0) * (centres.astype(np.float64) @ x)
        for key, place in zip(rows.astype(np.float64), places, strict=True):
            logits[place] += 3.0 * np.exp(-5.5 * (1 - x @ key))
        np.testing.assert_allclose(found, np.exp(logits) / np.exp(logits).sum(), atol=1e-5)
    cold = cooled(head, 2.0).probabilities(asked)
    np.testing.assert_allclose(cold, softmax(np.log(head.probabilities(asked)) / 2), atol=1e-5)


def test_calibration_error_is_the_published_sum() -> None:
    """Guo et al. 2017, equation 3, bin by bin."""
    rng = np.random.default_rng(0)
    for seed in range(5):
        found = softmax(rng.standard_normal((400, 4)) * (seed + 1))
        true = rng.integers(0, 4, 400)
        confidence, right = found.max(axis=1), found.argmax(axis=1) == true
        total = 0.0
        for m in range(15):
            inside = (confidence > m / 15) & (confidence <= (m + 1) / 15)
            if inside.any():
                gap = abs(right[inside].mean() - confidence[inside].mean())
                total += inside.sum() / 400 * gap
        assert calibration_error(found, true) == pytest.approx(total, abs=1e-12)
    assert calibration_error(np.eye(3), np.arange(3)) == 0
    assert calibration_error(np.eye(3), np.array([1, 2, 0])) == 1


def test_a_temperature_undoes_a_known_one() -> None:
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((20_000, 4))
    places = np.array([rng.choice(4, p=p) for p in softmax(logits)])
    assert best_temperature(logits * 5, places) == pytest.approx(5, rel=0.03)
    assert best_temperature(logits / 3, places) == pytest.approx(1 / 3, rel=0.03)
    # Eight right answers are not endless proof.
    assert softmax(np.eye(8) / best_temperature(np.eye(8), np.arange(8))).max() < 0.99


def test_folds_hold_out_every_example_once_and_every_label_each_time() -> None:
    places = np.repeat(np.arange(4), [7, 3, 12, 5])
    parts = folds(places)
    assert len(parts) == 3
    assert sorted(np.concatenate([test for _, test in parts])) == list(range(27))
    for train, test in parts:
        assert not {*train} & {*test}
        assert {*places[train]} == {*places[test]} == {0, 1, 2, 3}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(3))
def test_examples_help_where_texts_mislead_and_do_no_harm_where_not(
    method: Method, seed: int
) -> None:
    rows, places, centres = clusters(6, 8, seed)
    asked, true, _ = clusters(6, 60, seed + 100)

    def accuracy(head: Head) -> float:
        return float((head.probabilities(asked).argmax(axis=1) == true).mean())

    # Texts that point elsewhere, those of the classes' own means, and a bit of both.
    wrong = normalize(centres[::-1] + 0.1 * np.eye(6, 24)).astype(np.float32)
    head, report = teach(examples(wrong, rows, places), method)
    assert report.method == method
    assert report.taught_accuracy > report.zero_shot_accuracy + 0.3
    assert accuracy(head) > report.zero_shot_accuracy + 0.3
    head, report = teach(examples(centres, rows, places), method)
    alone = softmax(20.0 * asked @ centres.T).argmax(axis=1)
    assert accuracy(head) >= (alone == true).mean() - 0.01
    if report.method == "zero-shot":
        np.testing.assert_array_equal(head.probabilities(asked).argmax(axis=1), alone)
        assert report.taught_accuracy <= report.zero_shot_accuracy


def test_probabilities_are_calibrated_on_pictures_that_were_not_seen() -> None:
    rows, places, centres = clusters(6, 16, seed=1, spread=1.2)
    asked, true, _ = clusters(6, 200, seed=5, spread=1.2)
    given = examples(centres, rows, places)
    for method in METHODS:
        head, report = teach(given, method)
        assert calibration_error(head.probabilities(asked), true) < 0.08
        assert report.error_after < 0.12
    too_sure = softmax(20.0 * asked @ centres.T)
    assert calibration_error(too_sure, true) > 0.1


def head_at_one(given: Examples, method: Method) -> Head:
    """Of one example per label, of which none can be held out: as the methods come."""
    return linear_head(given, 1.0) if method == "linear" else cache_head(given, 1.0, 5.5)


def rises(
    method: Method, each: int, spread: float, scale: float, monkeypatch: pytest.MonkeyPatch
) -> list[float]:
    """By seed, how much larger the error on what was not seen is than without any temperature."""
    found = []
    for seed in range(6):
        rows, places, centres = clusters(6, each, seed, spread)
        asked, true, _ = clusters(6, 300, seed + 100, spread)
        # As a model's texts lie beside what they name.
        rng = np.random.default_rng(seed)
        texts = normalize(centres + 0.15 * rng.standard_normal(centres.shape)).astype(np.float32)
        labels = tuple(f"label {i}" for i in range(6))
        given = Examples(rows, places, LabelMatrix(labels, texts[None]), scale)
        errors = []
        for tempered in (True, False):
            with monkeypatch.context() as patch:
                if not tempered:
                    patch.setattr(choosing, "best_temperature", lambda *_: 1.0)
                head = head_at_one(given, method) if each == 1 else teach(given, method)[0]
            errors.append(calibration_error(head.probabilities(asked), true))
        found.append(errors[0] - errors[1])
    return found


# Texts that are right and sure of it, too sure, far too sure, and not sure enough.
SITUATIONS = [(0.4, 20.0), (0.8, 20.0), (1.2, 20.0), (0.8, 6.0)]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("each", [1, 4, 16])
@pytest.mark.parametrize(("spread", "scale"), SITUATIONS)
def test_a_temperature_does_not_make_the_calibration_worse(
    method: Method, each: int, spread: float, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = rises(method, each, spread, scale, monkeypatch)
    # How many of 24 answers are right says the share of all to within 0.08, a standard error.
    assert max(found) < 0.05
    assert np.mean(found) < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_with_two_examples_it_makes_it_better_on_the_average(
    method: Method, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [rises(method, 2, *situation, monkeypatch) for situation in SITUATIONS]
    assert np.mean(found) < -0.03
    # Where the texts are right and sure of it, there is nothing to mend.
    assert max(found[0]) < 0.02


def test_few_right_answers_are_not_made_unsure() -> None:
    """Two examples of each label, all of them told apart: no temperature, and no error."""
    texts = np.eye(3, 24, dtype=np.float32)
    rows = normalize(np.repeat(texts, 2, axis=0) + 0.01 * np.eye(6, 24)).astype(np.float32)
    places = np.repeat(np.arange(3), 2)
    for method in METHODS:
        head, report = teach(
            Examples(rows, places, LabelMatrix(("a", "b", "c"), texts[None]), 100.0), method
        )
        assert report.method == "zero-shot"
        assert report.error_after <= report.error_before < 1e-6
        assert head.probabilities(rows).max(axis=1).min() > 0.999


def test_a_temperature_is_kept_where_held_out_answers_say_so() -> None:
    rng = np.random.default_rng(3)
    logits = 3 * rng.standard_normal((400, 4))
    places = np.array([rng.choice(4, p=p) for p in softmax(logits)])
    parts = folds(places)
    for factor in (0.2, 1.0, 6.0):
        temperature, found = kept_temperature(factor * logits, places, parts)
        plain = softmax(factor * logits)
        assert calibration_error(found, places) <= calibration_error(plain, places)
        if factor == 1:
            assert temperature == pytest.approx(1, abs=0.15)
        else:
            assert temperature == pytest.approx(factor, rel=0.25)


def test_what_teaches_nothing_is_refused(clip: bareclip.Clip) -> None:
    vectors = clip.embed_images([picture(40 + i, 50, seed=i) for i in range(6)])
    for given, reason in (
        ({"cat": vectors}, "there is one class, 'cat'"),
        ({"cat": vectors, "dog": vectors[:1]}, "class 'dog' has one example: one is to be held"),
        ({"cat": vectors[:1], "dog": vectors[:0], "x": vectors}, "'cat' has one .*1 classes more"),
        ({"cat": vectors, "dog": []}, "class 'dog' has no example"),
    ):
        with pytest.raises(ClassifierError, match=reason):
            clip.teach(given)
    with pytest.raises(ClassifierError, match="method is 'tip'; it is 'linear' or 'cache'"):
        clip.teach({"cat": vectors, "dog": vectors}, method="tip")  # type: ignore[arg-type]
    with pytest.raises(bareclip.TextError, match="no labels"):
        clip.teach({})
    with pytest.raises(bareclip.VectorError, match="example vectors"):
        clip.teach({"cat": vectors[:, :3], "dog": vectors})


@pytest.mark.parametrize("method", METHODS)
def test_a_taught_one_is_saved_with_what_became_of_it(
    clip: bareclip.Clip, tmp_path: Path, method: Method
) -> None:
    kinds = {
        f"kind {k}": [picture(40 + 9 * k, 50, seed=10 * k + i) for i in range(5)] for k in range(3)
    }
    taught = clip.teach(kinds, method=method, templates="{}")
    assert taught.taught is not None
    assert taught.taught.method == method  # seeded weights know no labels
    taught.save(tmp_path / "kinds.npz")
    code = (
        "import sys, numpy as np, bareclip\n"
        "c = bareclip.load_classifier(sys.argv[1])\n"
        "print(c.probabilities(np.load(sys.argv[2])).tolist())\n"
        "assert not {'scipy', 'sklearn', 'onnxruntime'} & set(sys.modules)"
    )
    vectors = clip.embed_images([picture(45, 50, seed=99), picture(60, 50, seed=98)])
    np.save(tmp_path / "v.npy", vectors)
    answer = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "kinds.npz", tmp_path / "v.npy"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    np.testing.assert_array_equal(json.loads(answer), taught.probabilities(vectors))
    again = bareclip.load_classifier(tmp_path / "kinds.npz")
    assert (again.taught, again.labels) == (taught.taught, tuple(kinds))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for k, name in enumerate(("red_circle", "blue square", "line")):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for i in range(4):
            picture(40 + 9 * k, 50, seed=10 * k + i).save(tmp_path / "tree" / name / f"{i}.png")
    return tmp_path / "tree"


def test_the_command(
    tree: Path, bundles: dict[str, Path], clip: bareclip.Clip, tmp_path: Path
) -> None:
    bundle, out = ["--bundle", bundles["tiny"]], tmp_path / "kinds.npz"
    found = json.loads(run("teach", tree, "-o", out, "--json", *bundle).stdout)
    kinds = {
        name.replace("_", " "): sorted((tree / name).iterdir())
        for name in ("blue square", "line", "red_circle")
    }
    wanted = clip.teach(kinds)
    report: Any = wanted.taught
    assert (found["classes"], found["examples"], found["method"]) == (3, 12, report.method)
    assert found["taught_accuracy"] == report.taught_accuracy
    saved = bareclip.load_classifier(out, clip)
    np.testing.assert_allclose(
        saved.probabilities(np.eye(20)), wanted.probabilities(np.eye(20)), atol=1e-5
    )
    table = run("teach", tree, "-o", out, "--method", "cache", *bundle).stdout.splitlines()
    assert table[0] == "12 examples of 3 classes"
    assert [line.split()[0] for line in table[3:5]] == ["zero-shot", "cache"]
    assert table[-1] == f"written: {out}"
    (tree / "line" / "bad.png").write_bytes(b"x")
    said = run("teach", tree, "-o", out, *bundle, code=1)
    assert "12 examples of 3 classes" in said.stdout
    assert "skipped: " in said.stderr
    assert "bad.png" in said.stderr
    assert "1 of 13 images could not be read" in said.stderr


def test_folders_that_cannot_teach(tree: Path, bundles: dict[str, Path], tmp_path: Path) -> None:
    bundle, out = ["--bundle", bundles["tiny"]], tmp_path / "kinds.npz"
    (tree / "empty").mkdir()
    assert "class 'empty' has no example" in complaint("teach", tree, "-o", out, *bundle)
    (tree / "empty").rmdir()
    for name in ("1", "2", "3"):
        (tree / "line" / f"{name}.png").unlink()
    assert "class 'line' has one example" in complaint("teach", tree, "-o", out, *bundle)
    assert "one folder of images per class" in complaint("teach", tree / "line", "-o", out, *bundle)
    assert "is not a folder" in complaint("teach", tree, "-o", tmp_path / "no" / "x.npz", *bundle)
    assert not out.exists()
