"""Index: a store and the model that made it, to fill and to ask."""

import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..clip import Clip
from ..errors import StoreError, VectorError
from ..scoring.nearest import dot_products, nearest
from ..scoring.vectors import Floats
from ..types import IndexHit
from .database import remove_leftovers
from .exchange import read_vectors, write_vectors
from .fingerprint import Fingerprint
from .hnsw import Hnsw, import_usearch
from .query import Batch, Query, file_key, is_image, query_rows, rows_to_add
from .store import Store
from .sync import FileFailure, Report, SyncReport, sync
from .vectors_file import Matrix, load_matrix


@dataclass(frozen=True)
class IndexStatus:
    """What an index holds.

    Attributes:
        made_by: The model and recipe of its vectors.
        bundle: The folder of the model last used; None if there was none.
        photos: Files with a vector.
        added: Vectors from elsewhere.
        other: Files that are no pictures by name and first bytes.
        failures: Files that could not be embedded.
    """

    path: Path
    made_by: Fingerprint
    bundle: str | None
    photos: int
    added: int
    other: int
    failures: list[FileFailure]


class Index:
    """A photo index. Its methods may be called from many threads, and run one at a time.

    Other processes, and other ``Index`` objects, may search while one of them writes.

    Attributes:
        path: Of the SQLite file.
        made_by: The model and recipe of its vectors.
        bundle: The folder of the model last used with it; None if there was none.
    """

    def __init__(self, store: Store, clip: Clip | None, given: Fingerprint | None) -> None:
        self.path = store.path
        self.made_by = store.fingerprint
        self.bundle = store.bundle
        self._store = store
        self._clip = clip
        self._given = given
        self._lock = threading.RLock()
        self._matrix: Matrix | None = None
        self._graph: tuple[Matrix, Hnsw] | None = None

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        clip: Clip | None = None,
        exact: bool | None = None,
    ) -> "Index":
        """Opens an index, or makes a new one.

        Args:
            path: The SQLite file; other files with names that begin with its own will lie
                beside it.
            clip: The model; None opens an index that is there, to be looked at and to be
                asked by vector. At another precision than the index's it embeds texts alone.
            exact: False decodes large JPEGs at a fraction of their size, several times
                faster, for vectors of nearly the same direction; True decodes all of them
                whole. None does as the index did, and False for a new one.

        Raises:
            StoreError: Not an index, of another format or another model, or not there and
                no model was given.
        """
        place = Path(os.path.expanduser(path)).resolve()  # noqa: PTH111
        wanted = None if clip is None else Fingerprint.of(clip, "exact" if exact else "scaled")
        store = Store.open(place, wanted)
        try:
            if clip is not None and wanted is not None:
                if exact is None:
                    wanted = replace(wanted, decoding=store.fingerprint.decoding)
                store.fingerprint.check_texts(wanted, str(place))
                store.remember_bundle(clip.bundle.folder)
        except BaseException:
            store.close()
            raise
        return cls(store, clip, wanted)

    def close(self) -> None:
        """Closes the file; what was done is in it already."""
        with self._lock:
            self._matrix = self._graph = None
            self._store.close()

    def __enter__(self) -> "Index":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def sync(
        self,
        folder: str | os.PathLike[str],
        prune: bool = False,
        report: Report = lambda progress: None,
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

        Raises:
            StoreError: The model is at another precision; the folder cannot be listed, or is
                empty where photos are known; another process is writing; no room is left.
                What was done is kept.
        """
        if self._clip is None:
            raise StoreError(
                f"{self.path} was opened without a model; "
                "open it with one: bareclip.Index.open(path, bareclip.load(bundle))"
            )
        self._check_images()
        place = Path(os.path.expanduser(folder))  # noqa: PTH111
        with self._lock, self._store.writing():
            remove_leftovers(self.path)
            done = sync(self._store, self._clip.images, place, prune, report)
            with self._store.reading():
                self._matrix = load_matrix(self._store, tidy=True)
        return done

    def add(
        self,
        ids: Sequence[str],
        vectors: ArrayLike,
        metadata: Sequence[Mapping[str, Any] | None] | None = None,
    ) -> None:
        """Adds vectors made elsewhere with the same model; all of them or none.

        Args:
            ids: N distinct names; one that was added before is replaced.
            vectors: (N, D), of any length but zero.
            metadata: N objects that JSON can hold, which hits bring back; None for none.

        Raises:
            VectorError: Vectors, ids or metadata that do not fit.
            StoreError: Another process is writing, or no room is left.
        """
        self._add([(ids, vectors, metadata)])

    def search(
        self,
        query: Query,
        k: int = 10,
        *,
        under: str | os.PathLike[str] | None = None,
        min_similarity: float | None = None,
        approximate: bool = False,
    ) -> list[IndexHit]:
        """The items most similar to a text, an image or a vector.

        Args:
            query: A string is a text; a ``Path``, bytes, a binary file, a PIL image or a
                uint8 array is an image; an array (D,) of floats is a vector. The file that
                a ``Path`` names is not found itself.
            k: How many at most.
            under: Only files whose path begins so, and items added under such an id.
            min_similarity: Only those at least so similar.
            approximate: Ask an HNSW graph, which may miss some; needs ``bareclip[ann]``.
                With ``under`` the exact search is asked, which then is fast.

        Returns:
            Best first, ties in the order in which they were indexed.

        Raises:
            StoreError: No model to embed the query with, or one at another precision for a
                picture; or no usearch.
            ImageError, VectorError: The query cannot be used.
        """
        return self.search_many(
            [query], k, under=under, min_similarity=min_similarity, approximate=approximate
        )[0]

    def search_many(
        self,
        queries: Sequence[Query],
        k: int = 10,
        *,
        under: str | os.PathLike[str] | None = None,
        min_similarity: float | None = None,
        approximate: bool = False,
    ) -> list[list[IndexHit]]:
        """As ``search``, for several queries in one pass over the vectors."""
        if k < 0:
            raise VectorError(f"k is {k}; it must be 0 or more")
        if approximate:
            import_usearch()
        if any(is_image(query) for query in queries):
            self._check_images()
        rows = query_rows(queries, self._clip, self.made_by.width)
        with self._lock, self._store.reading():
            matrix = self._current_matrix()
            keys = [file_key(query) for query in queries]
            itself = [None if key is None else self._store.id_of_file(key) for key in keys]
            # One more, where the query's own file may be found and is left out.
            wanted = k + any(item is not None for item in itself)
            # A graph asked for much of what it holds walks all of it, and still misses some.
            if approximate and under is None and wanted * 10 <= len(matrix.ids):
                found = self._approximate(matrix, rows, wanted)
            else:
                allowed = self._allowed(matrix, under)
                found = nearest(matrix.parts, rows, wanted, allowed)
            return [
                self._hits(matrix.ids[places], scores, k, own, min_similarity)
                for (places, scores), own in zip(found, itself, strict=True)
            ]

    def status(self) -> IndexStatus:
        """Counts, the model, and what could not be embedded."""
        with self._lock, self._store.reading():
            counts = self._store.counts()
            failures = self._store.failures()
        return IndexStatus(
            path=self.path,
            made_by=self.made_by,
            bundle=self.bundle,
            photos=counts.get(("file", "embedded"), 0),
            added=counts.get(("added", "embedded"), 0),
            other=counts.get(("file", "other"), 0),
            failures=[FileFailure(os.fsdecode(path), why) for path, why in failures],
        )

    def export_to(self, path: str | os.PathLike[str]) -> int:
        """Writes ids, vectors and metadata for other systems; docs/search.md has the formats.

        Args:
            path: Ends in ``.parquet`` (needs ``bareclip[parquet]``) or in ``.npy``, which
                has a ``.json`` with the ids beside it.

        Returns:
            How many vectors.

        Raises:
            StoreError: Another ending, no pyarrow, or a file that cannot be written.
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
        """
        count = self._add(read_vectors(Path(path), self.made_by))
        with self._lock, self._store.reading():
            self._matrix = load_matrix(self._store, tidy=True)
        return count

    def _add(self, batches: Iterable[Batch]) -> int:
        """Adds all batches or nothing, and counts what it has added."""
        names: set[bytes] = set()
        with self._lock, self._store.writing(), self._store.transaction():
            for batch in batches:
                for name, row, text in rows_to_add(*batch, self.made_by.width):
                    if name in names:
                        raise VectorError(
                            f"id {os.fsdecode(name)!r} is there twice; ids must be distinct"
                        )
                    names.add(name)
                    self._store.add(name, row, text)
        return len(names)

    def _check_images(self) -> None:
        if self._given is not None:
            self.made_by.check(self._given, str(self.path))

    def _current_matrix(self) -> Matrix:
        if self._matrix is None or self._matrix.state != self._store.state():
            self._matrix = load_matrix(self._store, tidy=False)
        return self._matrix

    def _allowed(
        self, matrix: Matrix, under: str | os.PathLike[str] | None
    ) -> NDArray[np.bool_] | None:
        if under is None:
            return matrix.live
        name = os.fsencode(under)
        path = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111
        resolved = os.path.realpath(path)
        if name.endswith(b"/"):
            path = os.path.join(path, b"")  # noqa: PTH118
        # The name of a link may be the start of other names; what it leads to is a folder.
        if name.endswith(b"/") or os.path.islink(path):  # noqa: PTH114
            resolved = os.path.join(resolved, b"")  # noqa: PTH118
        return np.isin(matrix.ids, self._store.ids_under(path, resolved, name))

    def _approximate(
        self, matrix: Matrix, rows: Floats, k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        if self._graph is None or self._graph[0] is not matrix:
            self._graph = matrix, Hnsw.load(self._store, matrix)
        found = []
        for row in rows:
            places = np.searchsorted(matrix.ids, self._graph[1].search(row, k))
            scores = dot_products(matrix.parts, row, places)
            order = np.lexsort((places, -scores))
            found.append((places[order], scores[order]))
        return found

    def _hits(
        self,
        ids: Iterable[int],
        scores: NDArray[np.float64],
        k: int,
        own: int | None,
        least: float | None,
    ) -> list[IndexHit]:
        hits = []
        for item, score in zip(ids, scores, strict=True):
            if item == own or (least is not None and score < least):
                continue
            path, metadata = self._store.describe(int(item))
            hits.append(IndexHit(os.fsdecode(path), float(score), metadata))
        return hits[:k]
