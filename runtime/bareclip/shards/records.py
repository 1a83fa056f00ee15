"""A picture on its way from a source to its row."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class About:
    """What a source says of a picture, which may be read after it.

    Attributes:
        caption, url: None where it says nothing.
    """

    caption: str | None = None
    url: str | None = None


@dataclass
class Record:
    """A picture of a shard.

    Attributes:
        key: The source's name of it.
        source: The address of the file that it lies in, or is.
        offset: Where: the byte in a tar at which its data begins, the row of a Parquet file;
            None of a file of its own.
        fetch: Its bytes; called in a decoding thread. Raises what ``reason`` has words for.
        error: Why there is nothing to decode; None where there is.
    """

    key: str
    source: str
    offset: int | None = None
    about: About = field(default_factory=About)
    fetch: Callable[[], bytes] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Damage:
    """Where a source could not be read on, so that what lies behind is in no row.

    Attributes:
        source: Its address.
        offset: The byte of it.
        rows: How many pictures of it were read before.
        reason: One line.
    """

    source: str
    offset: int
    rows: int
    reason: str


class SeveralKeys:
    """Keys of a shard; one that comes again is an error of its row, and not a second vector."""

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def check(self, record: Record) -> Record:
        if record.key in self._seen:
            record.fetch, record.error = None, "its key occurs a second time in its shard"
        self._seen.add(record.key)
        return record


def utf8(text: str) -> str:
    r"""A name as other systems take it: a byte that is no UTF-8 becomes four characters, \xff."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
