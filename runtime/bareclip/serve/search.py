"""A photo index behind the service: what is near a vector, and small pictures of it by id."""

import hmac
import io
import os
import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..clip import Clip
from ..errors import VectorError
from ..files import printable
from ..images.pixels import thumbnail
from ..index import Index
from ..index.filters import FILTERS, Filters, NoSuchTagError, date_text
from ..types import Vectors
from .problems import Problem, invalid

_SIDE = 320


class Photos:
    """An index that is asked; may be used by many threads at once.

    Attributes:
        takes_pictures: Whether the model's pictures can be compared with the index's.
    """

    def __init__(self, path: Path, clip: Clip, secret: bytes) -> None:
        """Opens an index that is there.

        Args:
            path: Of its file.
            clip: The model.
            secret: What ids are sealed with, the same for all workers.

        Raises:
            StoreError: It is not there, or is of another model.
        """
        Index.open(path).close()  # with a model it would be made where there is none
        self._index = Index.open(path, clip)
        made_by = self._index.made_by
        self.takes_pictures = (
            made_by.precision == clip.precision.get("vision") and made_by.reading == clip.reading
        )
        self._seal = Seal(secret)
        self._drawing = threading.Semaphore(2)

    def search(
        self, vector: Vectors, k: int, least: float | None, filters: Filters
    ) -> list[dict[str, Any]]:
        """The photos nearest to a vector of those that pass the filters, best first.

        Returns:
            Of each its ``item``, ``name``, ``similarity``, ``metadata``, and ``thumbnail``, where
            a small picture of it is had.

        Raises:
            Problem: 400, the index has no such tag.
        """
        try:
            hits = self._index.search(vector, k=k, min_similarity=least, **filters)
        except NoSuchTagError as error:
            raise invalid(f"the index has no such tag: {error.known}", "tag") from None
        return [
            {
                "item": printable(hit.item),
                "name": printable(Path(hit.item).name),
                "similarity": hit.similarity,
                "metadata": hit.metadata,
                "thumbnail": f"/v1/thumbnails/{self._seal.close(os.fsencode(hit.item))}"
                if hit.sha256 is not None and Path(hit.item).is_absolute()
                else None,
            }
            for hit in hits
        ]

    def count(self) -> int:
        """How many photos and vectors it holds."""
        status = self._index.status()
        return status.photos + status.added

    def thumbnail(self, sealed: str) -> bytes:
        """A small JPEG of a photo that was found.

        Raises:
            Problem: 404, it was not, or is no picture any more.
        """
        path = self._seal.open(sealed)
        if path is None:
            raise Problem(404, "there is no photo of that id", code="not_found")
        try:
            with self._drawing:
                return _small(Path(os.fsdecode(path)))
        except Exception:  # decoders raise nearly anything; the file may have changed
            raise Problem(404, "the photo cannot be read any more", code="not_found") from None

    def close(self) -> None:
        """Closes the index."""
        self._index.close()


def filters_of(body: Mapping[str, Any]) -> Filters:
    """The filters of a request.

    ``under`` becomes bytes, which are compared with what the index has: no request makes the
    service look at a path.

    Raises:
        Problem: 400, one cannot be used.
    """
    given = {name: body[name] for name in FILTERS if body.get(name) is not None}
    for name, value in given.items():
        if not isinstance(value, str):
            raise invalid(f"{name} is a string", name)
    for name in ("after", "before"):
        try:
            date_text(given.get(name), name)
        except VectorError:
            forms = "2024, 2024-06, 2024-06-15 or 2024-06-15T08:30"
            raise invalid(f"{name} is a date, or the beginning of one: {forms}", name) from None
    under = given.get("under")
    return Filters(
        under=None if under is None else under.encode(errors="surrogatepass"),
        tag=given.get("tag"),
        after=given.get("after"),
        before=given.get("before"),
    )


class Seal:
    """Ids that hold a path and that only this service can make or read.

    A service need not remember what it has found, and any of its workers reads another's ids. The
    construction is a synthetic initialisation vector (RFC 5297) with HMAC-SHA-256 as its cipher.

    Examples:
        >>> seal = Seal(b"secret")
        >>> seal.open(seal.close(b"/photos/cat.jpg"))
        b'/photos/cat.jpg'
        >>> seal.open("L3Bob3Rvcy9jYXQuanBn") is None
        True
    """

    def __init__(self, secret: bytes) -> None:
        self._tag_key, self._cipher_key = (
            hmac.digest(secret, purpose, "sha256") for purpose in (b"tag", b"cipher")
        )

    def close(self, path: bytes) -> str:
        """An id of a path."""
        tag = hmac.digest(self._tag_key, path, "sha256")[:16]
        return urlsafe_b64encode(tag + self._masked(tag, path)).rstrip(b"=").decode()

    def open(self, sealed: str) -> bytes | None:
        """The path of an id; None if it is not one of ours."""
        try:
            whole = urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
        except ValueError:
            return None
        tag = whole[:16]
        path = self._masked(tag, whole[16:])
        right = hmac.digest(self._tag_key, path, "sha256")[:16]
        return path if hmac.compare_digest(tag, right) else None

    def _masked(self, tag: bytes, text: bytes) -> bytes:
        blocks = range(-(-len(text) // 32))
        mask = b"".join(
            hmac.digest(self._cipher_key, tag + block.to_bytes(4, "big"), "sha256")
            for block in blocks
        )
        return bytes(one ^ other for one, other in zip(text, mask, strict=False))


def _small(path: Path) -> bytes:
    file = io.BytesIO()
    thumbnail(path, _SIDE).save(file, "JPEG", quality=85)
    return file.getvalue()
