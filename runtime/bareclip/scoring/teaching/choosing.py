"""Teaches a head with examples, and keeps what examples that were held out speak for.

Every candidate answers about each example without having seen it, in stratified folds. The
settings with the least cross-entropy are taken, each candidate's at its own best temperature;
the result is kept if it is more often right than the labels' texts alone. A temperature (Guo et
al. 2017, arXiv 1706.04599, section 4.2) is that of the held-out answers, and is kept where they
say that it helps.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ...bundle import Scoring
from ...errors import ClassifierError, short
from ...types import TeachingReport
from ..calibration import calibration_error
from ..heads import Head, Lookup, membership
from ..vectors import Floats, softmax
from ..zero_shot import LabelMatrix
from .probe import fit_probe, log_softmax, optimizer

Method = Literal["linear", "cache"]
METHODS: tuple[Method, ...] = get_args(Method)

FOLDS = 5
# From hardly moved to hardly held.
STRENGTHS = tuple(float(10.0**power) for power in np.arange(2, -2.5, -0.5))
WEIGHTS = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
SHARPNESSES = (1.0, 2.0, 5.5, 10.0, 20.0, 40.0)
# Logarithms of temperatures; and how far from 0 they are expected to be, as standard deviations: of
# texts, which may mean something else than their examples show, and of what was taught.
_TEMPERATURES = (-5.0, 5.0)
_OF_TEXTS, _OF_ANSWERS = 0.5, 0.25
# Of a probability that rounding has made 0.
_TINY = float(np.finfo(np.float64).tiny)

Fold = tuple[NDArray[np.int64], NDArray[np.int64]]
# A method's settings, and what they make of examples that were held out.
Candidate = tuple[tuple[float, ...], Floats]


@dataclass(frozen=True)
class Examples:
    """What is taught with.

    Attributes:
        rows: (N, D) unit rows.
        places: (N,) of each one's label.
        matrix: The labels' texts, of one template.
        scale: Logits are that times cosine, as the bundle says.
    """

    rows: Floats
    places: NDArray[np.int64]
    matrix: LabelMatrix
    scale: float

    @property
    def texts(self) -> Floats:
        """(L, D): weights that give the zero-shot classifier's logits."""
        return self.scale * self.matrix.vectors[0].astype(np.float64)

    def some(self, places: NDArray[np.int64]) -> "Examples":
        """Those at ``places``."""
        return replace(self, rows=self.rows[places], places=self.places[places])


def teach(given: Examples, method: Method) -> tuple[Head, TeachingReport]:
    """Teaches a head.

    Args:
        given: At least two examples of each of two labels or more.
        method: ``"linear"`` or ``"cache"``.

    Raises:
        ClassifierError: Fewer examples; another method; SciPy is not installed.
    """
    if method not in METHODS:
        raise ClassifierError(f"method is {short(method)}; it is 'linear' or 'cache'")
    _check_enough(given)
    parts = folds(given.places)
    zero_shot = given.rows @ given.texts.T
    settings, held_out = _best(_CANDIDATES[method](given, parts), given.places)
    plain, taught = (_accuracy(logits, given.places) for logits in (zero_shot, held_out))
    keeps = taught > plain
    if not keeps:
        held_out = zero_shot
    temperature, calibrated = kept_temperature(held_out, given.places, parts)
    report = TeachingReport(
        method=method if keeps else "zero-shot",
        examples=len(given.places),
        zero_shot_accuracy=plain,
        taught_accuracy=taught,
        error_before=calibration_error(softmax(held_out), given.places),
        error_after=calibration_error(calibrated, given.places),
    )
    if not keeps:
        return cooled(zero_shot_head(given), temperature), report
    return cooled(_FITS[method](given, *settings), temperature), report


def zero_shot_head(given: Examples) -> Head:
    """The labels' texts as they are, compared with each other."""
    return Head(given.matrix, Scoring("softmax", float(np.log(given.scale)), 0.0))


def linear_head(given: Examples, strength: float) -> Head:
    """A linear probe."""
    prior = given.texts / _own_temperature(given)
    weights = fit_probe(given.rows, given.places, prior, strength, prior)
    matrix = LabelMatrix(given.matrix.labels, weights[None].astype(np.float32))
    return Head(matrix, Scoring("softmax", 0.0, 0.0))


def cache_head(given: Examples, weight: float, sharpness: float) -> Head:
    """A cache model beside the labels' texts."""
    head = cooled(zero_shot_head(given), _own_temperature(given))
    examples = given.rows.astype(np.float32)
    return replace(head, lookup=Lookup(examples, given.places, weight, sharpness))


def cooled(head: Head, temperature: float) -> Head:
    """The head with its logits divided by a temperature."""
    scoring = head.scoring
    lookup = head.lookup
    return Head(
        head.matrix,
        replace(scoring, logit_scale=scoring.logit_scale - float(np.log(temperature))),
        None if lookup is None else replace(lookup, weight=lookup.weight / temperature),
    )


def folds(places: NDArray[np.int64]) -> list[Fold]:
    """Places to teach with and places to hold out, each label's examples spread evenly.

    As many folds as the rarest label has examples, at most five; shuffled by a fixed seed, since
    pictures of one event have names that follow each other.
    """
    count = min(FOLDS, int(np.bincount(places).min()))
    rng = np.random.default_rng(0)
    fold = np.empty(len(places), np.int64)
    for label in range(int(places.max()) + 1):
        own = rng.permutation(np.flatnonzero(places == label))
        # Each label begins where the one before ended, else the first folds were larger.
        fold[own] = (np.arange(len(own)) + label) % count
    return [(np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(count)]


def kept_temperature(
    logits: Floats, places: NDArray[np.int64], parts: Sequence[Fold]
) -> tuple[float, Floats]:
    """The temperature of held-out answers, and their probabilities with it; 1 where it may harm.

    Each fold is put at the temperature of the others. It is kept if these probabilities have a
    lower cross-entropy than those that came out, by more than the standard error of the
    difference, and no larger calibration error.

    Args:
        logits: (N, L) of examples that were held out.
        places: (N,) of their labels.
        parts: The folds.

    Returns:
        By which to divide logits; and (N, L).
    """
    plain, others = softmax(logits), _calibrated(logits, places, parts)
    gains = _log_right(others, places) - _log_right(plain, places)
    helps = gains.mean() > gains.std(ddof=1) / np.sqrt(len(gains)) and (
        calibration_error(others, places) <= calibration_error(plain, places)
    )
    return (best_temperature(logits, places), others) if helps else (1.0, plain)


def best_temperature(
    logits: Floats, places: NDArray[np.int64], spread: float = _OF_ANSWERS
) -> float:
    """By which to divide logits: the most probable temperature, given the right labels.

    Its logarithm is taken to be normal around 0, so that a few examples leave it near 1: where all
    of a few answers are right, no temperature would be too low for them.

    Args:
        logits: (N, L).
        places: (N,) of the right labels.
        spread: The standard deviation of the logarithm.
    """
    found = optimizer().minimize_scalar(
        lambda log: _loss(logits, places, log, spread), bounds=_TEMPERATURES, method="bounded"
    )
    return float(np.exp(found.x))


def _linear_candidates(given: Examples, parts: Sequence[Fold]) -> Iterator[Candidate]:
    known = [given.some(train) for train, _ in parts]
    priors = [one.texts / _own_temperature(one) for one in known]
    weights = list(priors)
    for strength in STRENGTHS:
        logits = np.empty((len(given.rows), len(given.matrix.labels)))
        for i, (_, test) in enumerate(parts):
            one = known[i]
            weights[i] = fit_probe(one.rows, one.places, priors[i], strength, weights[i])
            logits[test] = given.rows[test] @ weights[i].T
        yield (strength,), logits


def _cache_candidates(given: Examples, parts: Sequence[Fold]) -> Iterator[Candidate]:
    labels = len(given.matrix.labels)
    zero_shot = given.rows @ given.texts.T
    for train, test in parts:
        zero_shot[test] /= _own_temperature(given.some(train))
    for sharpness in SHARPNESSES:
        evidence = np.empty(zero_shot.shape)
        for train, test in parts:
            near = np.exp(sharpness * (given.rows[test] @ given.rows[train].T - 1))
            evidence[test] = near @ membership(given.places[train], labels)
        for weight in WEIGHTS:
            yield (weight, sharpness), zero_shot + weight * evidence


_CANDIDATES: dict[Method, Callable[[Examples, Sequence[Fold]], Iterator[Candidate]]] = {
    "linear": _linear_candidates,
    "cache": _cache_candidates,
}
_FITS: dict[Method, Callable[..., Head]] = {"linear": linear_head, "cache": cache_head}


def _best(candidates: Iterable[Candidate], places: NDArray[np.int64]) -> Candidate:
    """Settings and held-out logits of the candidate with the least loss at its temperature."""
    least, chosen = np.inf, None
    for settings, logits in candidates:
        log = float(np.log(best_temperature(logits, places)))
        loss = _loss(logits, places, log, _OF_ANSWERS)
        if loss < least:
            least, chosen = loss, (settings, logits)
    assert chosen is not None, "there are candidates"
    return chosen


def _own_temperature(given: Examples) -> float:
    """The temperature of the labels' texts on examples, which those have not seen."""
    return best_temperature(given.rows @ given.texts.T, given.places, _OF_TEXTS)


def _calibrated(logits: Floats, places: NDArray[np.int64], parts: Sequence[Fold]) -> Floats:
    """Probabilities, each fold's at the temperature of the others."""
    found = np.empty(logits.shape)
    for train, test in parts:
        found[test] = softmax(logits[test] / best_temperature(logits[train], places[train]))
    return found


def _loss(logits: Floats, places: NDArray[np.int64], log: float, spread: float) -> float:
    """How improbable the right labels and a temperature are together, by its logarithm; in nats."""
    logs = log_softmax(logits / np.exp(log))
    return -float(logs[np.arange(len(places)), places].sum()) + (log / spread) ** 2 / 2


def _log_right(probabilities: Floats, places: NDArray[np.int64]) -> Floats:
    """The logarithms of the right labels' probabilities."""
    found: Floats = np.log(np.maximum(probabilities[np.arange(len(places)), places], _TINY))
    return found


def _accuracy(logits: Floats, places: NDArray[np.int64]) -> float:
    return float((logits.argmax(axis=1) == places).mean())


def _check_enough(given: Examples) -> None:
    labels = given.matrix.labels
    if len(labels) < 2:
        raise ClassifierError(
            f"there is one class, {short(labels[0])}, and nothing to tell it from; give two or more"
        )
    counts = np.bincount(given.places, minlength=len(labels))
    few = np.flatnonzero(counts < 2)
    if len(few):
        count = "no example" if counts[few[0]] == 0 else "one example"
        others = f" (and {len(few) - 1} classes more have too few)" if len(few) > 1 else ""
        raise ClassifierError(
            f"class {short(labels[few[0]])} has {count}{others}: one is to be held out while "
            "others teach; give each class two or more, or leave it out"
        )
