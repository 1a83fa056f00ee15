"""A linear probe that starts from the zero-shot weights: logistic regression by L-BFGS.

Multinomial logistic regression whose L2 penalty is on the difference from the weights that the
labels' texts give, so that a class of which little is known stays what its name says:

    minimise over W:  Σ −log softmax(x Wᵀ)[y]  +  strength/2 · ‖W − W₀‖²

As in Silva-Rodríguez et al. 2024, "A Closer Look at the Few-Shot Adaptation of Large
Vision-Language Models" (arXiv 2312.12730), section 4, with a single strength. With W₀ = 0 it is
scikit-learn's ``LogisticRegression(C=1/strength, fit_intercept=False)``. There is no intercept:
vectors of images share a large mean, which does its work.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ClassifierError
from ..vectors import Floats

# Far below what moves a probability by 1e-4.
_TOLERANCE = 1e-6
_MOST_STEPS = 1000


def fit_probe(
    rows: Floats, places: NDArray[np.int64], prior: Floats, strength: float, start: Floats
) -> NDArray[np.float64]:
    """The weights W.

    Args:
        rows: (N, D) unit rows.
        places: (N,) of each one's label.
        prior: (L, D), W₀.
        strength: Of the penalty; over 0.
        start: (L, D), where to begin looking for W: any will do, a near one is sooner.

    Returns:
        (L, D) float64.
    """
    x, base = rows.astype(np.float64), rows.astype(np.float64) @ prior.T
    right = np.zeros(base.shape)
    right[np.arange(len(places)), places] = 1

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        change = flat.reshape(prior.shape)
        logs = log_softmax(base + x @ change.T)
        total = -(logs * right).sum() + strength / 2 * (flat @ flat)
        slope = (np.exp(logs) - right).T @ x + strength * change
        return float(total), slope.ravel()

    options = {"maxiter": _MOST_STEPS, "maxfun": 2 * _MOST_STEPS, "gtol": _TOLERANCE, "ftol": 0.0}
    first = (start - prior).astype(np.float64).ravel()
    found = optimizer().minimize(loss, first, jac=True, method="L-BFGS-B", options=options)
    weights: NDArray[np.float64] = prior + found.x.reshape(prior.shape)
    return weights


def log_softmax(logits: Floats) -> Floats:
    """Logarithms of the softmax along the last axis; safe for logits of any size."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return found


def optimizer() -> Any:
    """SciPy's.

    Raises:
        ClassifierError: It is not installed.
    """
    try:
        import scipy.optimize
    except ImportError as error:
        raise ClassifierError(
            f"teaching needs SciPy ({error}): pip install 'bareclip[teach]'"
        ) from error
    return scipy.optimize
