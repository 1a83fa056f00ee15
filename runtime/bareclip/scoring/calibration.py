"""How far probabilities can be taken at their word."""

import numpy as np
from numpy.typing import NDArray

from .vectors import Floats


def calibration_error(probabilities: Floats, true: NDArray[np.int64], bins: int = 15) -> float:
    """The expected calibration error of the most probable labels.

    Answers are put into bins of equal width by their confidence, the probability of the label
    that was answered; the error is the mean over answers of how far the share that is right in
    their bin is from its mean confidence (Guo et al. 2017, "On Calibration of Modern Neural
    Networks", arXiv 1706.04599, equation 3).

    Args:
        probabilities: (N, L), N at least 1.
        true: (N,) places of the right labels.
        bins: Equal parts of (0, 1], each without its lower end.

    Returns:
        From 0, as said, to 1.
    """
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == true
    place = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(true))
