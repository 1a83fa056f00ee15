"""Classifier: labels for one model's vectors; made of texts or of examples, saved and read."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..encoders.fingerprint import Fingerprint
from ..errors import BundleError, ClassifierError, short
from ..files import read_file, replacing
from ..images.inputs import ImageInput, is_one_image
from ..scoring.heads import Head
from ..scoring.vectors import unit_rows
from ..scoring.zero_shot import ranked
from ..types import Prediction, TeachingReport, Vectors
from .saved import dump, parse

# Of a file; ImageNet's labels are 2 MB, and in 80 templates one by one 164 MB.
_LARGEST_FILE = 1 << 30

EmbedImages = Callable[[Iterable[ImageInput]], Vectors]


class Classifier:
    """Labels, ready to answer; made by ``Clip.classifier``, ``Clip.teach``, ``load_classifier``.

    Attributes:
        labels: A column of ``probabilities`` each.
        made_by: The model; None where its bundle embeds no pictures.
        taught: What became of teaching it; None where texts alone made it.

    Examples:
        >>> clip = bareclip.load()
        >>> clip.classifier(["cat", "dog"]).labels
        ('cat', 'dog')
    """

    def __init__(
        self,
        head: Head,
        made_by: Fingerprint | None,
        embed_images: EmbedImages | None = None,
        taught: TeachingReport | None = None,
    ) -> None:
        self.head = head
        self.labels = head.matrix.labels
        self.made_by = made_by
        self.taught = taught
        self._embed_images = embed_images

    def probabilities(self, images: ArrayLike) -> NDArray[np.floating[Any]]:
        """Probabilities from image vectors.

        Args:
            images: (N, D), as ``embed_images`` gives them.

        Returns:
            (N, L), columns in the order of ``labels``.

        Raises:
            VectorError: Not rows of this model's width, not finite, or zero.

        Examples:
            >>> clip = bareclip.load()
            >>> classifier = clip.classifier(["cat", "dog"])
            >>> classifier.probabilities(clip.embed_images(photos)).argmax(axis=1)
            array([0, 1])
        """
        rows = unit_rows(images, "image vectors", self.head.matrix.vectors.shape[2])
        return self.head.probabilities(rows)

    def classify(
        self, images: ImageInput | Iterable[ImageInput], *, top: int | None = None
    ) -> list[list[Prediction]]:
        """As ``Clip.classify``.

        Raises:
            ClassifierError: It was read without a model to embed pictures with.
        """
        if self._embed_images is None:
            raise ClassifierError(
                "this classifier was loaded without a model, so it answers about vectors only; "
                "give it one: bareclip.load_classifier(path, bareclip.load(bundle))"
            )
        several: Any = [images] if is_one_image(images) else images
        found = self.probabilities(self._embed_images(several))
        return [ranked(self.labels, row, top) for row in found]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes it to a file, whole or not at all, that answers without a text tower.

        Raises:
            BundleError: The model embeds no pictures.
            ClassifierError: It cannot be written there.

        Examples:
            >>> bareclip.load().classifier(["cat", "dog"]).save(folder / "pets.npz")
            >>> bareclip.load_classifier(folder / "pets.npz").labels
            ('cat', 'dog')
        """
        data = self.to_bytes()
        try:
            with replacing(Path(path)) as file:
                file.write(data)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ClassifierError(
                f"cannot write {short(str(path))}: {reason}; name a file in a folder that is there"
            ) from error

    def to_bytes(self) -> bytes:
        """What ``save`` writes, for who keeps it elsewhere; raises the same.

        Examples:
            >>> len(bareclip.load().classifier(["cat", "dog"]).to_bytes()) > 1000
            True
        """
        if self.made_by is None:
            raise BundleError(
                "this model has no vision tower, so its classifiers are of no use elsewhere; "
                "save one of the whole model's"
            )
        try:
            return dump(self.head, self.made_by, self.taught)
        except ValueError as error:
            raise ClassifierError(f"this classifier cannot be saved: {error}; rename it") from error

    def check_model(self, model: Fingerprint) -> None:
        """Refuses vectors of another model.

        Args:
            model: As ``clip.fingerprint`` and ``index.made_by`` say it.

        Raises:
            ClassifierError: They are of one.

        Examples:
            >>> clip = bareclip.load()
            >>> clip.classifier(["cat", "dog"]).check_model(clip.fingerprint)
        """
        made_by = self.made_by
        if made_by is not None and not made_by.shares_space(model):
            other = f"{model.model} ({model.precision}, {model.width} wide)"
            if model.model == made_by.model:
                other += ", of the same name and of other files"
            raise ClassifierError(
                f"the classifier was made with {made_by.model} ({made_by.precision}, "
                f"{made_by.width} wide), and what was given is {other}; give the same model, or "
                "make the classifier again"
            )


def read_classifier(path: str | os.PathLike[str]) -> Classifier:
    """As ``load_classifier`` without a model."""
    name = short(str(path))
    try:
        data = read_file(Path(path), _LARGEST_FILE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ClassifierError(
            f"cannot read {name}: {reason}; give what Classifier.save or bareclip teach wrote"
        ) from error
    return parse_classifier(data, name)


def parse_classifier(data: bytes, name: str) -> Classifier:
    """Of what ``Classifier.to_bytes`` gave; ``name`` is for the error.

    Raises:
        ClassifierError: It is no classifier, or damaged.
    """
    try:
        head, made_by, taught = parse(data)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ClassifierError(
            f"{name} is no classifier, or damaged: {reason}; save or teach it again"
        ) from error
    return Classifier(head, made_by, taught=taught)
