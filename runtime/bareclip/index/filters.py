"""Filters: which items of an index count, whatever is asked of them.

Those of the methods of ``Index``, of the verbs that ask an index, and of the service's search are
all described here, and decided here.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray

from ..errors import StoreError, VectorError, short
from .store import Store

# What each keeps to, for those who ask.
FILTERS = {
    "under": "Only files whose path begins with this.",
    "tag": "Only photos that bareclip tag gave this label.",
    "after": "Only photos taken then or later: a date, or the beginning of one, as 2024-06.",
    "before": "Only photos taken before: likewise.",
}
_DATE = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d(:\d\d)?)?)?)?")
# Labels that an error names.
_NAMED = 5

Under: TypeAlias = str | bytes | os.PathLike[str]


class Filters(TypedDict, total=False):
    """The filters of a question by their names, for who hands them on to a method of ``Index``."""

    under: Under | None
    tag: str | None
    after: str | date | None
    before: str | date | None


class NoSuchTagError(StoreError):
    """The index was not tagged, or not with that label.

    Attributes:
        known: What it was tagged with, in words.
    """

    def __init__(self, store: Store, label: str, labels: list[str]) -> None:
        several = f"its {len(labels)} tags are {', '.join(map(short, labels[:_NAMED]))}"
        more = " and others" if len(labels) > _NAMED else ""
        self.known = several + more if labels else "it has none"
        super().__init__(
            f"{store.path} has no tag {short(label)}: {self.known}; to tag it: "
            f"bareclip tag {store.path} --labels LABELS"
        )


@dataclass(frozen=True)
class Filter:
    """Which items count: those that pass all that is given. Made by ``Filter.of``.

    Attributes:
        under: The beginning of a path or an id.
        after, before: The beginnings of dates, as ISO 8601 has them.
        tag: A label.
    """

    under: Under | None
    after: str | None
    before: str | None
    tag: str | None

    @classmethod
    def of(
        cls,
        under: Under | None = None,
        after: str | date | None = None,
        before: str | date | None = None,
        tag: str | None = None,
    ) -> "Filter":
        """As ``Index.search`` takes them.

        Raises:
            VectorError: One of them cannot be used.
        """
        if not isinstance(under, str | bytes | os.PathLike | None):
            raise VectorError(f"under is {short(under)}; give the beginning of a path or an id")
        if not isinstance(tag, str | None):
            raise VectorError(f"tag is {short(tag)}; give a label that the index was tagged with")
        return cls(under, date_text(after, "after"), date_text(before, "before"), tag)

    def __bool__(self) -> bool:
        """Whether not all may pass."""
        return any(one is not None for one in (self.under, self.after, self.before, self.tag))

    def passing(self, store: Store, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of ``ids`` pass; within the store's ``reading``.

        Raises:
            NoSuchTagError: There is no such tag.
        """
        found = np.ones(len(ids), np.bool_)
        for chosen in self._chosen(store):
            found &= np.isin(ids, chosen)
        return found

    def _chosen(self, store: Store) -> Iterator[NDArray[np.int64]]:
        if self.under is not None:
            yield _ids_under(store, self.under)
        if self.after is not None or self.before is not None:
            yield store.items.ids_dated(self.after, self.before)
        if self.tag is not None:
            yield having(store, self.tag)[0]


def having(store: Store, label: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Items that have a tag, the most probable first, and how probable it is.

    Raises:
        NoSuchTagError: There is no such tag.
    """
    labels = store.tags.labels()
    if label not in labels:
        raise NoSuchTagError(store, label, labels)
    return store.tags.having(label)


def date_text(given: str | date | None, name: str) -> str | None:
    """A date, or the beginning of one, as ISO 8601 has it; a time zone is turned to the local one.

    Raises:
        VectorError: It is none.
    """
    if isinstance(given, datetime):
        local = given if given.tzinfo is None else given.astimezone().replace(tzinfo=None)
        return local.isoformat()
    if isinstance(given, date):
        return given.isoformat()
    if given is None:
        return None
    with contextlib.suppress(TypeError, ValueError):
        # A day is in every month, and a month in every year.
        whole = given + "0000-01-01T00:00:00"[len(given) :] if _DATE.fullmatch(given) else ""
        datetime.fromisoformat(whole)
        return given
    raise VectorError(f"{name} is {short(given)}; give a date, as 2024, 2024-06 or 2024-06-15")


def _ids_under(store: Store, under: Under) -> NDArray[np.int64]:
    try:
        name = os.fsencode(under)
    except UnicodeEncodeError:
        return np.empty(0, np.int64)  # half of a surrogate pair, which no name holds
    # Bytes are what the store has, and no path holds NUL.
    if isinstance(under, bytes) or b"\0" in name:
        return store.items.ids_under(name, name, name)
    path = os.path.abspath(os.path.expanduser(name))  # noqa: PTH100, PTH111
    resolved = os.path.realpath(path)
    is_folder = name.endswith((b"/", os.fsencode(os.sep)))
    if is_folder:
        path = os.path.join(path, b"")  # noqa: PTH118
    # The name of a link may be the start of other names; what it leads to is a folder.
    if is_folder or os.path.islink(path):  # noqa: PTH114
        resolved = os.path.join(resolved, b"")  # noqa: PTH118
    return store.items.ids_under(path, resolved, name)
