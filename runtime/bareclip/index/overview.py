"""What is in an index as a whole: clusters with names, and a place in the plane for each photo."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clip import Clip
from ..errors import StoreError, VectorError
from ..files import read_lines
from ..scoring.near_groups import take_rows
from ..scoring.vectors import normalize
from ..scoring.zero_shot import LabelMatrix
from .filters import Filter
from .searching import Searcher
from .store import Store

VOCABULARY = Path(__file__).with_name("vocabulary.txt")
# Principal components that clusters and places are found in.
_COMPONENTS = 50
_MOST_CLUSTERS = 40
_PERPLEXITY = 30
# What t-SNE cannot place: it wants more points than neighbours of each.
_FEW = 8


@dataclass(frozen=True)
class MapPoint:
    """A photo, or a vector that was added, on the map.

    Attributes:
        item: A photo's path, or the id that a vector was added under.
        x, y: From 0 to 1, y downwards.
        cluster: Its place among the clusters.
        sha256: As ``IndexHit`` has it.
    """

    item: str
    x: float
    y: float
    cluster: int
    sha256: str | None


@dataclass(frozen=True)
class Overview:
    """A map of an index.

    Attributes:
        points: In the order of indexing.
        clusters: Their names, the largest cluster first.
        total: How many there are in the index that pass the filters: of them the points are, or
            are a sample.
    """

    points: list[MapPoint]
    clusters: list[str]
    total: int


def _plane(reduced: NDArray[np.float32], distinct: int) -> NDArray[np.float64]:
    """Places of rows, (N, 2) from 0 to 1: t-SNE (van der Maaten and Hinton 2008), seeded."""
    found = reduced[:, :2].astype(np.float64)
    if distinct >= _FEW:
        perplexity = min(_PERPLEXITY, (len(reduced) - 1) / 3)
        # From the two first components, so small that they do not bind (Kobak and Berens 2019).
        start = (1e-4 * found / found[:, 0].std()).astype(np.float32)
        placed = _sklearn().manifold.TSNE(perplexity=perplexity, init=start, random_state=0)
        found = placed.fit_transform(reduced).astype(np.float64)
    low, high = found.min(axis=0), found.max(axis=0)
    # One scale for both, so that distances are kept.
    scaled: NDArray[np.float64] = (found - (low + high) / 2) / (max(high - low) or 1) + 0.5
    return scaled


def find_overview(
    store: Store,
    searcher: Searcher,
    chosen: Filter,
    most: int,
    clusters: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
    """Ids and vectors of what is to be on the map, and how many there are.

    Raises:
        StoreError: There is nothing, or no scikit-learn.
        VectorError: A number that cannot be used.
    """
    _sklearn()
    if most < 1 or (clusters is not None and clusters < 1):
        raise VectorError(f"points is {most} and clusters {clusters}; they must be 1 or more")
    matrix = searcher.current_matrix()
    places = searcher.places(matrix, chosen)
    if not len(places):
        hint = " that pass the filters; give fewer of them" if chosen else "; index some"
        raise StoreError(f"{store.path} holds no photos for a map{hint}")
    total = len(places)
    if total > most:
        places = np.sort(np.random.default_rng(0).choice(places, most, replace=False))
    return matrix.ids[places], take_rows(matrix.parts, places), total


def name_vectors(clip: Clip | None, labels: Iterable[str] | None) -> LabelMatrix | None:
    """What clusters may be called, and the vectors of that; None where they have numbers.

    Raises:
        StoreError: Labels, and no model to embed them with.
        TextError: Labels that cannot be used.
    """
    if clip is None:
        if labels is not None:
            raise StoreError("the index was opened without a model, which labels need; give one")
        return None
    return clip.classifier(read_lines(VOCABULARY) if labels is None else labels).head.matrix


def draw(
    rows: NDArray[np.float32], clusters: int | None, named: LabelMatrix | None
) -> tuple[NDArray[np.float64], NDArray[np.int64], list[str]]:
    """Places, clusters, and names of these, the largest first."""
    sklearn = _sklearn()
    unit = normalize(rows).astype(np.float32)
    centred = unit - unit.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    reduced = centred @ axes[:, ::-1][:, :_COMPONENTS]
    distinct = len(np.unique(unit, axis=0))
    wanted = clusters or int(np.clip(np.sqrt(len(unit) / 2), 1, _MOST_CLUSTERS))
    wanted = min(wanted, distinct)
    found = sklearn.cluster.KMeans(wanted, n_init=4, random_state=0).fit_predict(reduced)
    by_size = np.argsort(-np.bincount(found), kind="stable")
    own = np.argsort(by_size)[found].astype(np.int64)
    return _plane(reduced, distinct), own, _names(unit, own, named)


def map_points(
    store: Store,
    ids: NDArray[np.int64],
    places: NDArray[np.float64],
    clusters: NDArray[np.int64],
) -> list[MapPoint]:
    """Items as they are on a map; without those that were removed meanwhile."""
    files = [store.items.file(int(item)) for item in ids]
    return [
        MapPoint(os.fsdecode(file[0]), float(x), float(y), int(cluster), file[-1])
        for file, (x, y), cluster in zip(files, places, clusters, strict=True)
        if file is not None
    ]


def _names(
    unit: NDArray[np.float32], own: NDArray[np.int64], named: LabelMatrix | None
) -> list[str]:
    """For each cluster the label in whose direction its mean lies from that of all photos.

    The label's direction is from the mean of all labels: pictures, and texts, have much in common
    that says nothing of one, and some labels are near to every picture.
    """
    count = int(own.max()) + 1
    if named is None:
        return [f"cluster {number}" for number in range(1, count + 1)]
    vectors = named.vectors[0]
    directions = normalize(vectors - vectors.mean(axis=0))
    means = np.stack([unit[own == cluster].mean(axis=0) for cluster in range(count)])
    if count > 1:
        means -= unit.mean(axis=0)
    return [named.labels[best] for best in (means @ directions.T).argmax(axis=1)]


def _sklearn() -> Any:
    try:
        import sklearn.cluster
        import sklearn.manifold
    except ImportError as error:
        raise StoreError(
            f"a map needs scikit-learn ({error}): pip install 'bareclip[map]'"
        ) from error
    return sklearn
