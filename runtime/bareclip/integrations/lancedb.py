"""LanceDB's embedding function: a table embeds what is added to it, and what it is asked.

The table writes down the name of the bundle and embeds with it when it is opened again, once this
module has been imported.
"""

import io
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from lancedb.embeddings import EmbeddingFunction, register
from PIL import Image
from pydantic import PrivateAttr

from ..clip import Clip, load


@register("bareclip")
class BareclipFunction(EmbeddingFunction):
    """Pictures, which are a table's rows, and the texts or pictures it is searched by.

    Made by ``get_registry().get("bareclip").create(bundle="clip-b32")``.

    Args:
        bundle, precision, device: As for ``bareclip.load``.
        kind: What the source column holds: ``"image"``, paths or bytes of files, or ``"text"``.

    Examples:
        >>> clip = get_registry().get("bareclip").create()
        >>> class Photo(LanceModel):
        ...     path: str = clip.SourceField()
        ...     vector: Vector(clip.ndims()) = clip.VectorField()
        >>> table = lancedb.connect("photos.lance").create_table("photos", schema=Photo)
        >>> found = table.add([{"path": str(path)} for path in photos])
        >>> table.search("a cat").limit(1).to_list()[0]["path"] == str(photos[0])
        True
    """

    bundle: str | None = None
    precision: str = "auto"
    device: str = "auto"
    kind: str = "image"
    _clip: Clip | None = PrivateAttr(default=None)

    @property
    def clip(self) -> Clip:
        """The model, loaded when it is first asked for."""
        if self._clip is None:
            self._clip = load(self.bundle, precision=self.precision, device=self.device)
        return self._clip

    def ndims(self) -> int:
        """The width D of a vector."""
        return self.clip.bundle.embedding_dim

    def compute_source_embeddings(self, values: Any, *_: Any, **__: Any) -> list[list[float]]:
        """A column's values, paths, bytes or texts by ``kind``, as lists of D floats.

        LanceDB's own signature; raises what ``Clip.embed_images`` and ``embed_texts`` raise.
        """
        rows = _listed(values)
        if self.kind == "text":
            return self.clip.embed_texts(rows).tolist()
        return self.clip.embed_images(rows).tolist()

    def compute_query_embeddings(self, query: Any, *_: Any, **__: Any) -> list[list[float]]:
        """A text, or a picture as a PIL image or the bytes of its file, as a list of D floats.

        LanceDB's own signature; raises what ``Clip.embed_images`` and ``embed_texts`` raise.
        """
        if isinstance(query, str):
            return self.clip.embed_texts([query]).tolist()
        return self.clip.embed_images([query]).tolist()


def _listed(values: Any) -> list[Any]:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.to_pylist()
    if isinstance(values, str | bytes | Image.Image | io.IOBase):
        return [values]
    assert isinstance(values, Iterable)
    return list(values)
