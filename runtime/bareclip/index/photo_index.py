"""Index: a store and the model that made it, to fill and to ask.

What its methods do is in the modules beside this one; here is which store they do it on, and that
they run one at a time.
"""

import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..classifier import Classifier
from ..clip import Clip
from ..encoders.fingerprint import Fingerprint
from ..errors import StoreError, VectorError, short
from ..files import is_there
from ..images.folders import EXCLUDED
from ..types import IndexHit, Tagged
from .adding import Batch, items_to_add
from .database import remove_leftovers
from .duplicates import DuplicateGroup, Progress, describe_group, find_duplicates
from .exchange import read_vectors, write_vectors
from .filters import Filter, Under
from .hnsw import import_usearch
from .overview import Overview, draw, find_overview, map_points, name_vectors
from .query import Query, is_image, query_rows, several_queries
from .searching import Searcher, Wanted
from .status import IndexStatus, find_status
from .store import Store, check_place
from .sync import Report, SyncReport, check_folder, sync
from .tagging import TagReport, tag_all, tag_new

# Items whose tags are read at a time.
_PAGE = 1000

# Groups of duplicates that are described at a time.
_GROUPS = 256


class Index:
    """A photo index. Its methods may be called from many threads, and run one at a time.

    Other processes, and other ``Index`` objects, may search while one of them writes.

    Attributes:
        path: Of the SQLite file.
        made_by: The model and recipe of its vectors.

    Examples:
        >>> vectors = bareclip.load().embed_images(photos)
        >>> with bareclip.Index.open(folder / "photos.db", bareclip.load()) as index:
        ...     index.add(["cat", "dog"], vectors)
        ...     index.search("a dog", k=1)[0].item
        'dog'
    """

    def __init__(self, path: Path, clip: Clip | None, exact: bool | None) -> None:
        self.path = path
        self._clip = clip
        self._exact = exact
        self._given = None
        if clip is not None:
            self._given = Fingerprint.of(clip, "exact" if exact else "scaled")
        self._lock = threading.RLock()
        # None where there is none yet: what writes makes it.
        self._opened: Store | None = None
        self._asked: Searcher | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        clip: Clip | None = None,
        *,
        exact: bool | None = None,
    ) -> "Index":
        """Opens an index. Where there is none, ``sync``, ``add`` or ``import_from`` makes it.

        Args:
            path: The SQLite file; other files with names that begin with its own will lie
                beside it. Where nothing may be written, it can be asked all the same.
            clip: The model; None opens an index that is there, to be looked at and to be
                asked by vector. At another precision than the index's it embeds texts alone.
            exact: False decodes large JPEGs at a fraction of their size, several times
                faster, for vectors of nearly the same direction; True decodes all of them
                whole. None does as the index did, and False for a new one.

        Raises:
            StoreError: Not an index, of another format or another model, or not there and
                no model was given.
            BundleError: The model has no vision tower.

        Examples:
            >>> with bareclip.Index.open(folder / "photos.db", bareclip.load()) as index:
            ...     index.sync(photos[0].parent).added >= 2
            True
        """
        try:
            place = Path(os.path.expanduser(path)).resolve()  # noqa: PTH111
            there = is_there(place)
        except (OSError, ValueError, RuntimeError) as error:  # the last, of links in a circle
            raise StoreError(f"cannot use {short(path)} as a photo index: {error}") from error
        index = cls(place, clip, exact)
        if there or clip is None:
            index._take(Store.open(place))
        else:
            check_place(place)
        return index

    @property
    def made_by(self) -> Fingerprint:
        made_by = self._given if self._opened is None else self._opened.fingerprint
        assert made_by is not None, "one of the two is there"
        return made_by

    @property
    def bundle(self) -> str | None:
        """The folder of the model that last wrote to it; None if it does not say.

        As the file has it: of an index from elsewhere, it may be any folder.
        """
        with self._lock:
            return None if self._opened is None else self._opened.bundle

    def close(self) -> None:
        """Closes the file; what was done is in it already."""
        with self._lock:
            self._asked = None
            if self._opened is not None:
                self._opened.close()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sync(
        self,
        folder: str | os.PathLike[str],
        *,
        prune: bool = False,
        report: Report = lambda progress: None,
        exclude: Iterable[str] = EXCLUDED,
    ) -> SyncReport:
        """Brings the index up to date with a folder and what is below it.

        Files that have not changed are skipped, by size and time; changed ones are embedded
        again, renamed ones known by their content, vanished ones removed. Nothing a file
        holds stops it. Interrupted, even killed, it goes on the next time.

        Args:
            folder: Other folders' photos in the index are left alone.
            prune: Remove what is not found even if the folder is missing or empty, or the
                disk that files lay on is away.
            report: Called after each batch.
            exclude: Patterns of names, or of paths within the folder, that are left out, and
                removed where they are known; without it, what is hidden and ``@eaDir``.

        Raises:
            StoreError: The model is at another precision; the folder cannot be listed, or is
                empty where photos are known; another process is writing; nothing can be
                written, or no room is left. What was done is kept.
            BundleError: The model was loaded without its vision tower.

        Examples:
            >>> with bareclip.Index.open(folder / "album.db", bareclip.load()) as index:
            ...     index.sync(photos[0].parent).added
            ...     index.search("a cat", k=1)[0].item == str(photos[0])
            12
            True
        """
        if self._clip is None:
            raise StoreError(
                f"{self.path} was opened without a model; "
                "open it with one: bareclip.Index.open(path, bareclip.load(bundle))"
            )
        self._check_images()
        encoder = self._clip.images
        place = Path(os.path.expanduser(folder))  # noqa: PTH111
        if "\0" in str(place):
            raise StoreError(f"cannot read folder {short(str(place))}: no name holds NUL")
        with self._lock:
            if self._existing() is None:
                check_folder(place)
            store = self._made()
            with store.writing():
                remove_leftovers(self.path)
                store.remember_bundle(self._clip.bundle.folder)
                done = sync(store, encoder, place, prune, report, tuple(exclude))
                with store.reading():
                    self._searcher.tidy()
                with store.transaction():
                    tag_new(store)
        return done

    def add(
        self,
        ids: Iterable[str],
        vectors: ArrayLike | Iterable[ArrayLike],
        metadata: Iterable[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Adds vectors made elsewhere with the same model; all of them or none.

        Args:
            ids: N distinct names, in any iterable; one that was added before is replaced.
            vectors: (N, D), or an iterable of (D,), of any length but zero.
            metadata: N objects that JSON can hold, which hits bring back; None for none.

        Raises:
            VectorError: Vectors, ids or metadata that do not fit.
            StoreError: Another process is writing, nothing can be written, or no room is left.

        Examples:
            >>> vectors = bareclip.load().embed_images(photos)
            >>> with bareclip.Index.open(folder / "named.db", bareclip.load()) as index:
            ...     index.add(["cat", "dog"], vectors, [{"by": "me"}, None])
            ...     index.search(vectors[0], k=1)[0].metadata
            {'by': 'me'}
        """
        self._add([(ids, vectors, metadata)])

    def search(
        self,
        query: Query,
        *,
        k: int = 10,
        under: Under | None = None,
        after: str | date | None = None,
        before: str | date | None = None,
        min_similarity: float | None = None,
        diverse: float = 0,
        approximate: bool = False,
        tag: str | None = None,
    ) -> list[IndexHit]:
        """The items most similar to a text, an image or a vector.

        Args:
            query: A string is a text; a ``Path``, bytes, a binary file, a PIL image or a
                uint8 array is an image; an array (D,) of floats is a vector; a ``Like`` is an
                item of the index; a ``Mix`` is several of these with weights. The file that a
                ``Path`` names, and the item of a ``Like``, are not found themselves.
            k: How many at most.
            under: Only files whose path begins so, as given or with links resolved, and items
                added under such an id; of bytes, only what the index has so, no link looked at.
            after, before: Only what was taken at ``after`` or later, and before ``before``: a date,
                or the beginning of one, as "2024-06". As the photo's Exif data have it, or else
                its file's time; what was added has that of its metadata's "taken", or none.
            min_similarity: Only those at least so similar.
            diverse: From 0 to below 1; above 0 the hits are spread out by maximal marginal
                relevance, among the ``10 * k`` nearest and at least 100: each next one has the
                largest ``(1 - diverse) * similarity - diverse * c``, c its largest cosine with
                those before it.
            approximate: Ask an HNSW graph, which may miss some; needs ``bareclip[ann]``.
                With filters (``under``, ``after``, ``before``, ``tag``) the exact search is asked.
            tag: Only items that have this tag; see ``tag``.

        Returns:
            Best first, ties in the order in which they were indexed.

        Raises:
            StoreError: No index there, or no such item or tag in it; no model to embed the query
                with, or one at another precision for a picture; or no usearch.
            ImageError, VectorError: The query, a date or a number cannot be used.

        Examples:
            >>> clip = bareclip.load()
            >>> with bareclip.Index.open(folder / "photos.db", clip) as index:
            ...     index.add(["cat", "dog"], clip.embed_images(photos))
            ...     [hit.item for hit in index.search(photos[1], k=2)]
            ['dog', 'cat']
        """
        return self.search_many(
            [query],
            k=k,
            under=under,
            after=after,
            before=before,
            min_similarity=min_similarity,
            diverse=diverse,
            approximate=approximate,
            tag=tag,
        )[0]

    def search_many(
        self,
        queries: Iterable[Query],
        *,
        k: int = 10,
        under: Under | None = None,
        after: str | date | None = None,
        before: str | date | None = None,
        min_similarity: float | None = None,
        diverse: float = 0,
        approximate: bool = False,
        tag: str | None = None,
    ) -> list[list[IndexHit]]:
        """As ``search``, for several queries, in any iterable, in one pass over the vectors.

        Examples:
            >>> clip = bareclip.load()
            >>> with bareclip.Index.open(folder / "photos.db", clip) as index:
            ...     index.add(["cat", "dog"], clip.embed_images(photos))
            ...     answers = index.search_many(["a cat", "a dog"], k=1)
            >>> [hits[0].item for hits in answers]
            ['cat', 'dog']
        """
        asked = several_queries(queries)
        _check_k(k)
        if not 0 <= diverse < 1:
            raise VectorError(f"diverse is {diverse}; it must be at least 0 and below 1")
        chosen = Filter.of(under, after, before, tag)
        wanted = Wanted(k, chosen, min_similarity, diverse, approximate)
        if approximate:
            import_usearch()
        with self._lock, self._store.reading():  # before a tower is loaded in vain
            known = self._searcher.known(asked)
        if any(is_image(query) for query in asked):
            self._check_images()
        vectors = {like: vector for like, (_, vector) in known.items()}
        rows = query_rows(asked, self._clip, self.made_by.width, vectors)
        with self._lock, self._store.reading():
            own = [self._searcher.made_of(query, known) for query in asked]
            return self._searcher.ask(rows, own, wanted)

    def duplicates(
        self,
        threshold: float = 0.95,
        *,
        under: Under | None = None,
        after: str | date | None = None,
        before: str | date | None = None,
        tag: str | None = None,
        report: Progress = lambda done, total: None,
    ) -> Iterator[DuplicateGroup]:
        """Groups of photos that show nearly the same; nothing is deleted.

        Best first (most pixels, then most bytes, then indexed first), each photo takes all that are
        at least so similar to it and not yet taken: so every photo of a group is near the one to
        keep. Exact; ``scoring/near_groups.py`` has the algorithm.

        Args:
            threshold: The least cosine, above 0 and at most 1. Copies that were resized or saved
                again are above 0.98 mostly, cropped ones lower; how far depends on the model.
            under, after, before, tag: As for ``search``: only among those that pass.
            report: Called with how many photos have been compared with all, and how many there are.

        Yields:
            Groups, those first whose others have the most bytes. What vanishes from the index
            meanwhile is left out.

        Raises:
            StoreError: No index there, or no such tag in it.
            VectorError: No threshold, or a filter that cannot be used.

        Examples:
            >>> vectors = bareclip.load().embed_images(photos)
            >>> with bareclip.Index.open(folder / "photos.db", bareclip.load()) as index:
            ...     index.add(["cat", "dog", "cat again"], [*vectors, vectors[0]])
            ...     [group] = index.duplicates()
            >>> group.keep.item, [other.item for other in group.others]
            ('cat', ['cat again'])
        """
        chosen = Filter.of(under, after, before, tag)
        with self._lock, self._store.reading():
            found = find_duplicates(self._store, self._searcher, threshold, chosen, report)
        for start in range(0, len(found), _GROUPS):
            with self._lock, self._store.reading():
                some = [describe_group(self._store, *ids) for ids in found[start : start + _GROUPS]]
            yield from (group for group in some if group is not None)

    def overview(
        self,
        labels: Iterable[str] | None = None,
        *,
        clusters: int | None = None,
        points: int = 20_000,
        under: Under | None = None,
        after: str | date | None = None,
        before: str | date | None = None,
        tag: str | None = None,
    ) -> Overview:
        """A map: photos in the plane, similar ones near each other, and clusters with names.

        The vectors' 50 first principal components are clustered by k-means and placed by t-SNE,
        both of scikit-learn and seeded. A cluster has the name of the label t with the largest
        ``cos(m - M, t - T)``: m is the mean of its photos' vectors, M that of all photos', T that
        of all labels'.

        Args:
            labels: Names for clusters; None takes some 250 that ship with bareclip. Without a
                model clusters have numbers.
            clusters: How many; None takes the root of half the points, at most 40.
            points: How many photos at most; of more, a seeded sample is taken.
            under, after, before, tag: As for ``search``.

        Raises:
            StoreError: No index there, nothing in it that passes, no such tag, labels and no
                model, or no scikit-learn (``bareclip[map]``).
            TextError, VectorError: Labels, numbers or filters that cannot be used.

        Examples:
            >>> clip = bareclip.load()
            >>> with bareclip.Index.open(folder / "photos.db", clip) as index:
            ...     index.add(["cat", "dog"], clip.embed_images(photos))
            ...     try:
            ...         found = index.overview(["cat", "dog"], clusters=2)
            ...         names = [found.clusters[point.cluster] for point in found.points]
            ...     except bareclip.StoreError:  # without scikit-learn
            ...         names = ["cat", "dog"]
            >>> names
            ['cat', 'dog']
        """
        chosen = Filter.of(under, after, before, tag)
        names_of = name_vectors(self._clip, labels)
        with self._lock, self._store.reading():
            ids, rows, total = find_overview(self._store, self._searcher, chosen, points, clusters)
        places, own, names = draw(rows, clusters, names_of)
        with self._lock, self._store.reading():
            return Overview(map_points(self._store, ids, places, own), names, total)

    def tag(
        self, classifier: Classifier | None = None, *, threshold: float | None = None
    ) -> TagReport:
        """Gives every item the tags of a classifier, from the vectors that it has.

        The classifier is kept in the index, so that what ``sync``, ``add`` and ``import_from``
        bring later is tagged too. Tags that were there are replaced.

        Args:
            classifier: Of the same model, at any precision; None is the one kept.
            threshold: A label at least so probable is a tag; of more than ten, the ten most
                probable are. None is 0.1, or with the classifier kept the one that it has.

        Raises:
            StoreError: No index there, or no classifier kept; another process is writing, or
                nothing can be written.
            ClassifierError: It is of another model.

        Examples:
            >>> clip = bareclip.load()
            >>> with bareclip.Index.open(folder / "photos.db", clip) as index:
            ...     index.add(["cat", "dog"], clip.embed_images(photos))
            ...     index.tag(clip.classifier(["cat", "dog"]), threshold=0.5).tags
            ...     [(found.item, found.tags[0].label) for found in index.tags()]
            2
            [('cat', 'cat'), ('dog', 'dog')]
        """
        if threshold is not None and not 0 <= threshold <= 1:
            raise StoreError(f"threshold is {threshold}; it must be from 0 to 1")
        with self._lock, self._store.writing(), self._store.transaction():
            matrix = self._searcher.current_matrix()
            return tag_all(self._store, matrix, classifier, threshold)

    def tags(
        self,
        *,
        under: Under | None = None,
        after: str | date | None = None,
        before: str | date | None = None,
        tag: str | None = None,
    ) -> Iterator[Tagged]:
        """All items and their tags, in the order of indexing, one after another.

        None where the index was not tagged.

        Args:
            under, after, before, tag: As for ``search``.

        Raises:
            StoreError: No index there, or no such tag in it.
            VectorError: A filter that cannot be used.

        Examples:
            >>> with bareclip.Index.open(folder / "photos.db", bareclip.load()) as index:
            ...     index.add([], np.empty((0, 128)))
            ...     list(index.tags())
            []
        """
        chosen = Filter.of(under, after, before, tag)
        passing = None
        if chosen:
            with self._lock, self._store.reading():
                ids = self._store.vectors.ids()
                passing = ids[chosen.passing(self._store, ids)]
        last = -(2**63)
        while True:
            with self._lock, self._store.reading():
                page = list(self._store.tags.by_item(last, _PAGE))
                if not page:
                    return
                last = page[-1][0]
                if passing is not None:
                    low, high = np.searchsorted(passing, [page[0][0], last + 1])
                    among = set(passing[low:high].tolist())
                    page = [one for one in page if one[0] in among]
                described = [self._store.items.describe(item) for item, _ in page]
            for (path, _, content), (_, tags) in zip(described, page, strict=True):
                yield Tagged(os.fsdecode(path), tags, content)

    def tagged(
        self,
        tag: str,
        *,
        k: int = 10,
        under: Under | None = None,
        after: str | date | None = None,
        before: str | date | None = None,
    ) -> list[IndexHit]:
        """The items that have a tag, the most probable first.

        Args:
            tag: One of the labels that the index was tagged with.
            k: How many at most.
            under, after, before: As for ``search``.

        Returns:
            Hits, whose ``similarity`` is how probable the tag is.

        Raises:
            StoreError: No index there, or no such tag.
            VectorError: ``k`` is negative, or a filter cannot be used.

        Examples:
            >>> clip = bareclip.load()
            >>> with bareclip.Index.open(folder / "photos.db", clip) as index:
            ...     index.add(["cat", "dog"], clip.embed_images(photos))
            ...     _ = index.tag(clip.classifier(["cat", "dog"]), threshold=0.5)
            ...     [hit.item for hit in index.tagged("dog")]
            ['dog']
        """
        _check_k(k)
        chosen = Filter.of(under, after, before)
        with self._lock, self._store.reading():
            return self._searcher.tagged(tag, k, chosen)

    def status(self) -> IndexStatus:
        """Counts, the model, and what could not be embedded."""
        with self._lock, self._store.reading():
            return find_status(self._store)

    def export_to(self, path: str | os.PathLike[str]) -> int:
        """Writes ids, vectors and metadata for other systems; docs/search.md has the formats.

        Args:
            path: Ends in ``.parquet`` (needs ``bareclip[parquet]``) or in ``.npy``, which
                has a ``.json`` with the ids beside it.

        Returns:
            How many vectors.

        Raises:
            StoreError: Another ending, no pyarrow, or a file that cannot be written.

        Examples:
            >>> with bareclip.Index.open(folder / "photos.db", bareclip.load()) as index:
            ...     index.add(["cat", "dog"], bareclip.load().embed_images(photos))
            ...     index.export_to(folder / "vectors.npy")
            2
        """
        with self._lock, self._store.reading():
            return write_vectors(self._store, Path(path))

    def import_from(self, path: str | os.PathLike[str]) -> int:
        """Adds the vectors of a file as ``export_to`` writes them; all of them or none.

        Returns:
            How many.

        Raises:
            StoreError: It cannot be read, or says it is of another model.
            VectorError: Its vectors or ids do not fit.

        Examples:
            >>> clip = bareclip.load()
            >>> with bareclip.Index.open(folder / "photos.db", clip) as index:
            ...     index.add(["cat", "dog"], clip.embed_images(photos))
            ...     count = index.export_to(folder / "vectors.npy")
            >>> with bareclip.Index.open(folder / "copy.db", clip) as index:
            ...     index.import_from(folder / "vectors.npy")
            2
        """
        count = self._add(read_vectors(Path(path), self.made_by))
        with self._lock, self._store.reading():
            self._searcher.tidy()
        return count

    def _add(self, batches: Iterable[Batch]) -> int:
        """Adds all batches or nothing, and counts what it has added."""
        given = items_to_add(batches, self.made_by.width)
        # What is wrong with the first shows before an index is made for it.
        first = next(given, [])
        count = 0
        with self._lock:
            store = self._made()
            with store.writing(), store.transaction():
                items = store.items
                for name, row, text in chain(first, chain.from_iterable(given)):
                    items.add(name, row, text)
                    count += 1
                tag_new(store)
        return count

    @property
    def _store(self) -> Store:
        """The store.

        Raises:
            StoreError: There is none.
        """
        found = self._existing()
        return Store.open(self.path) if found is None else found

    def _existing(self) -> Store | None:
        """The store; None where there is none, nor has anybody made one meanwhile."""
        if self._opened is None and self.path.exists():
            self._take(Store.open(self.path))
        return self._opened

    def _made(self) -> Store:
        """The store, made where there is none."""
        if self._existing() is None:
            assert self._clip is not None, "without a model it was opened"
            assert self._given is not None
            _ = self._clip.images  # of a model loaded for texts alone, vectors cannot be told
            self._take(Store.make(self.path, self._given, self._clip.bundle.folder))
        return self._store

    def _take(self, store: Store) -> None:
        """Goes on with a store that has been opened, if it is of the model."""
        try:
            if self._given is not None:
                if self._exact is None:
                    self._given = replace(self._given, decoding=store.fingerprint.decoding)
                store.fingerprint.check_texts(self._given, str(self.path))
        except BaseException:
            store.close()
            raise
        self._opened = store

    @property
    def _searcher(self) -> Searcher:
        if self._asked is None:
            self._asked = Searcher(self._store)
        return self._asked

    def _check_images(self) -> None:
        if self._given is not None:
            self.made_by.check(self._given, str(self.path))


def _check_k(k: int) -> None:
    if k < 0:
        raise VectorError(f"k is {k}; it must be 0 or more")
