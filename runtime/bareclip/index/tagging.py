"""Sets a classifier on an index: tags from the vectors that it has, no picture decoded."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..classifier import Classifier, parse_classifier
from ..errors import ClassifierError, StoreError
from ..scoring.heads import Head
from .store import Store
from .tag_rows import Tagger
from .vectors_file import Matrix

DEFAULT_THRESHOLD = 0.1
# Of one item: a sigmoid may find all of a thousand labels probable.
MOST_TAGS = 10
# Probabilities held at a time: 4 MB stay in a core's cache.
_CELLS = 1 << 20

Chunk = tuple[NDArray[np.int64], NDArray[np.float32]]
Tags = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]


@dataclass(frozen=True)
class TagReport:
    """What is tagged.

    Attributes:
        items: With a vector, in the index.
        tagged: Those with a tag at least.
        tags: Of all of them.
    """

    items: int
    tagged: int
    tags: int


def tag_all(
    store: Store, matrix: Matrix, classifier: Classifier | None, threshold: float | None
) -> TagReport:
    """As ``Index.tag``; within the store's ``writing`` and ``transaction``."""
    tags = store.tags
    if classifier is None:
        kept = tags.tagger()
        if kept is None:
            raise StoreError(
                f"{store.path} was not tagged yet; give labels or a classifier: "
                f"bareclip tag {store.path} --labels LABELS"
            )
        classifier = kept_classifier(store, kept)
        threshold = kept.threshold if threshold is None else threshold
    classifier.check_model(store.fingerprint)
    least = DEFAULT_THRESHOLD if threshold is None else float(threshold)
    last = int(matrix.ids[-1]) if len(matrix.ids) else 0
    tags.begin(Tagger(classifier.to_bytes(), least, last), _distinct(classifier.labels))
    for found in _find(_chunks(matrix), classifier.head, least):
        tags.put(*found)
    tags.end()
    items = len(matrix.ids) if matrix.live is None else int(matrix.live.sum())
    return TagReport(items, *tags.count())


def tag_new(store: Store) -> None:
    """Gives new items the tags of the classifier that the others had.

    Within the store's ``transaction``.
    """
    tagger = store.tags.tagger()
    ids = np.empty(0, np.int64) if tagger is None else store.vectors.ids(tagger.last + 1)
    if tagger is None or not len(ids):
        return
    head = kept_classifier(store, tagger).head
    for found in _find(_new_chunks(store, ids), head, tagger.threshold):
        store.tags.put(*found)
    store.tags.seen(int(ids[-1]))


def kept_classifier(store: Store, tagger: Tagger) -> Classifier:
    """The classifier that a store keeps, which is of the store's own model.

    Raises:
        StoreError: It is not, or damaged.
    """
    try:
        classifier = parse_classifier(tagger.classifier, "its classifier")
        classifier.check_model(store.fingerprint)
    except ClassifierError as error:
        raise store.damaged(str(error).partition(";")[0]) from error
    return classifier


def _find(chunks: Iterable[Chunk], head: Head, threshold: float) -> Iterator[Tags]:
    """Items, labels' places and probabilities that reach the threshold, chunk by chunk.

    A label that there is twice is one tag, as probable as its more probable column.
    """
    given = head.matrix.labels
    distinct = _distinct(given)
    columns = [distinct.index(label) for label in given]
    examples = 0 if head.lookup is None else len(head.lookup.examples)
    rows_at_once = max(16, _CELLS // (len(given) + examples))
    for ids, rows in chunks:
        for start in range(0, len(ids), rows_at_once):
            some = rows[start : start + rows_at_once]
            found = head.probabilities(some, np.float32)
            if len(distinct) < len(given):
                merged = np.zeros((len(found), len(distinct)), found.dtype)
                np.maximum.at(merged.T, columns, found.T)
                found = merged
            reached = found >= threshold
            for row in np.flatnonzero(reached.sum(axis=1) > MOST_TAGS):
                reached[row] = False
                reached[row, np.argsort(-found[row], kind="stable")[:MOST_TAGS]] = True
            places, labels = np.nonzero(reached)
            # Rounding may take a float32 sum of them a little over 1.
            shares = np.minimum(found[places, labels].astype(np.float64), 1.0)
            yield ids[start + places], labels, shares


def _distinct(labels: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(labels))


def _chunks(matrix: Matrix) -> Iterator[Chunk]:
    first = 0
    for part in matrix.parts:
        ids = matrix.ids[first : first + len(part)]
        if matrix.live is None:
            yield ids, part
        else:
            live = np.flatnonzero(matrix.live[first : first + len(part)])
            for start in range(0, len(live), _CELLS >> 8):
                some = live[start : start + (_CELLS >> 8)]
                yield ids[some], part[some]
        first += len(part)


def _new_chunks(store: Store, ids: NDArray[np.int64]) -> Iterator[Chunk]:
    first = 0
    for rows in store.vectors.chunks(int(ids[0])):
        yield ids[first : first + len(rows)], rows
        first += len(rows)
