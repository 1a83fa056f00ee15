"""The tags of a store: which labels its items have, and the classifier that gave them.

They are tables of their own, made when an index is first tagged: until then it stays of the format
that earlier versions read. An item's vector never changes and ids only grow, so that what is new
to a classifier is what has a larger id than the last that it has seen; tags go with their item.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..types import Prediction
from .database import TAGGED_VERSION, TAGS_BY_LABEL, TAGS_SCHEMA, Damaged

Tags: TypeAlias = list[Prediction]


@dataclass(frozen=True)
class Tagger:
    """What tags the items of an index.

    Attributes:
        classifier: As ``Classifier.to_bytes`` gives it.
        threshold: Tags are at least so probable.
        last: The last item that it has seen.
    """

    classifier: bytes
    threshold: float
    last: int


class TagRows:
    """The tags of an open store; made by ``Store.tags``."""

    def __init__(self, db: sqlite3.Connection, damaged: Damaged) -> None:
        self._db = db
        self._damaged = damaged

    @property
    def there(self) -> bool:
        """Whether the index has been tagged."""
        return bool(self._db.execute("PRAGMA user_version").fetchone()[0] == TAGGED_VERSION)

    def tagger(self) -> Tagger | None:
        """What tags new items; None where nothing does."""
        if not self.there:
            return None
        row = self._db.execute("SELECT classifier, threshold, last FROM tagger").fetchone()
        if row is None or not (
            isinstance(row[0], bytes)
            and isinstance(row[1], float)
            and 0 <= row[1] <= 1
            and type(row[2]) is int
        ):
            raise self._damaged("it does not say what it was tagged with")
        return Tagger(*row)

    def begin(self, tagger: Tagger, labels: Sequence[str]) -> None:
        """Puts another tagger in the place of the one that was, and removes all tags.

        Their index is gone until ``end``: sorted once, it is made in a fraction of the time.
        """
        if not self.there:
            for statement in TAGS_SCHEMA:
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {TAGGED_VERSION}")
        for table in ("tags", "labels", "tagger"):
            self._db.execute(f"DELETE FROM {table}")
        self._db.execute("DROP INDEX tags_by_label")
        self._db.executemany("INSERT INTO labels VALUES (?, ?)", enumerate(labels))
        row = (tagger.classifier, tagger.threshold, tagger.last)
        self._db.execute("INSERT INTO tagger VALUES (1, ?, ?, ?)", row)

    def end(self) -> None:
        """Makes the index that ``begin`` removed."""
        self._db.execute(TAGS_BY_LABEL)

    def put(
        self, items: NDArray[np.int64], labels: NDArray[np.int64], shares: NDArray[np.float64]
    ) -> None:
        """Adds tags, each an item, a label's place and a probability."""
        rows = zip(items.tolist(), labels.tolist(), shares.tolist(), strict=True)
        self._db.executemany("INSERT INTO tags VALUES (?, ?, ?)", rows)

    def seen(self, last: int) -> None:
        """Remembers the last item that the tagger has seen."""
        self._db.execute("UPDATE tagger SET last = ?", (last,))

    def labels(self) -> list[str]:
        """All that the tagger gives, in its order; none where there is none."""
        if not self.there:
            return []
        rows = self._db.execute("SELECT label FROM labels ORDER BY id").fetchall()
        return [self._checked_label(row[0]) for row in rows]

    def having(self, label: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Items that have a tag, the most probable first, and how probable it is."""
        rows = self._db.execute(
            "SELECT item, probability FROM tags JOIN labels ON labels.id = tags.label"
            " WHERE labels.label = ?",
            (label,),
        ).fetchall()
        items = np.array([item for item, _ in rows])
        shares = np.array([share for _, share in rows])
        if rows and (items.dtype.kind, shares.dtype.kind) != ("i", "f"):
            raise self._damaged("a tag in it has no item or no probability")
        if not ((shares >= 0) & (shares <= 1)).all():
            raise self._damaged("a tag in it has a probability that is none")
        order = np.lexsort((items, -shares))
        return items[order].astype(np.int64), shares[order].astype(np.float64)

    def count(self) -> tuple[int, int]:
        """How many items have a tag, and how many tags there are."""
        if not self.there:
            return 0, 0
        items, tags = self._db.execute("SELECT count(DISTINCT item), count(*) FROM tags").fetchone()
        return int(items), int(tags)

    def by_item(self, after: int = -(2**63), most: int = -1) -> Iterator[tuple[int, Tags]]:
        """Items with a vector, by id, and their tags, the most probable first.

        Args:
            after: Only items with a larger id.
            most: How many items at most; -1 is all.
        """
        if not self.there:
            return
        rows = self._db.execute(
            "SELECT one.item, tags.label, labels.label, probability FROM"
            " (SELECT item FROM vectors WHERE item > ? ORDER BY item LIMIT ?) AS one"
            " LEFT JOIN tags ON tags.item = one.item LEFT JOIN labels ON labels.id = tags.label"
            " ORDER BY one.item, probability DESC, tags.label",
            (after, most),
        )
        for item, several in groupby(rows, key=lambda row: row[0]):
            tags = [
                Prediction(self._checked_label(label), self._checked_share(share))
                for _, place, label, share in several
                if place is not None
            ]
            yield int(item), tags

    def _checked_label(self, label: Any) -> str:
        if not isinstance(label, str) or not label:
            raise self._damaged("a tag in it has no label")
        return label

    def _checked_share(self, share: Any) -> float:
        if not isinstance(share, float) or not 0 <= share <= 1:
            raise self._damaged("a tag in it has no probability")
        return share
