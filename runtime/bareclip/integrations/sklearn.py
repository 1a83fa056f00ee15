"""scikit-learn's transformers: pictures or texts in, rows for any estimator out."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from ..clip import Clip, load
from ..images.inputs import ImageInput
from ..types import Vectors


class _Vectors(TransformerMixin, BaseEstimator):
    _clip: Clip | None = None

    def __init__(
        self, bundle: str | None = None, *, precision: str = "auto", device: str = "auto"
    ) -> None:
        self.bundle = bundle
        self.precision = precision
        self.device = device

    @property
    def clip(self) -> Clip:
        """The model, loaded when it is first asked for."""
        if self._clip is None:
            self._clip = load(self.bundle, precision=self.precision, device=self.device)
        return self._clip

    def fit(self, X: Any, y: Any = None) -> "_Vectors":  # noqa: N803  # scikit-learn's own name
        """There is nothing to learn; loads the model.

        Raises:
            BundleError, DeviceError: As ``bareclip.load``.
        """
        self._clip = load(self.bundle, precision=self.precision, device=self.device)
        return self

    def get_feature_names_out(self, input_features: Any = None) -> Any:
        """``clip0`` to ``clip<D-1>``."""
        return np.array([f"clip{i}" for i in range(self.clip.bundle.embedding_dim)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True


class ImageVectors(_Vectors):
    """Pictures as unit rows.

    Args:
        bundle, precision, device: As for ``bareclip.load``.

    Examples:
        >>> taught = make_pipeline(ImageVectors(), LogisticRegression())
        >>> taught.fit(photos, ["cat", "dog"]).predict(photos).tolist()
        ['cat', 'dog']
    """

    def transform(self, X: Iterable[ImageInput]) -> Vectors:  # noqa: N803
        """(N, D) float32 of N pictures; raises what ``Clip.embed_images`` raises."""
        return self.clip.embed_images(X)


class TextVectors(_Vectors):
    """Texts as unit rows.

    Args:
        bundle, precision, device: As for ``bareclip.load``.

    Examples:
        >>> TextVectors().fit_transform(["a cat", "a dog"]).shape
        (2, 128)
    """

    def transform(self, X: Iterable[str]) -> Vectors:  # noqa: N803
        """(N, D) float32 of N texts; raises what ``Clip.embed_texts`` raises."""
        return self.clip.embed_texts(X)
