"""Haystack's components: a text embedder, and embedders of documents by text and by picture.

They are told a bundle by its name, since pipelines are written down and read again.
"""

from dataclasses import replace
from typing import Any

from haystack import Document, component, default_to_dict

from ..clip import Clip, load
from ..errors import BareclipError, ImageError, short


class _Embedder:
    def __init__(
        self, bundle: str | None = None, precision: str = "auto", device: str = "auto"
    ) -> None:
        self.bundle, self.precision, self.device = bundle, precision, device
        self._clip: Clip | None = None

    @property
    def clip(self) -> Clip:
        """The model, loaded when it is first asked for."""
        if self._clip is None:
            self._clip = load(self.bundle, precision=self.precision, device=self.device)
        return self._clip

    def warm_up(self) -> None:
        """Loads the model, as a pipeline does before its first run."""
        _ = self.clip

    def to_dict(self) -> dict[str, Any]:
        """What a pipeline that is written down holds of it."""
        return default_to_dict(
            self, bundle=self.bundle, precision=self.precision, device=self.device
        )


@component
class BareclipTextEmbedder(_Embedder):
    """A query's text as a vector, for an embedding retriever.

    Args:
        bundle, precision, device: As for ``bareclip.load``.

    Examples:
        >>> len(BareclipTextEmbedder().run(text="a cat")["embedding"])
        128
    """

    @component.output_types(embedding=list[float])
    def run(self, text: str) -> dict[str, Any]:
        """Embeds a text; raises what ``Clip.embed_texts`` raises."""
        return {"embedding": self.clip.embed_texts([text])[0].tolist()}


@component
class BareclipDocumentEmbedder(_Embedder):
    """The contents of documents as vectors.

    Args:
        bundle, precision, device: As for ``bareclip.load``.

    Examples:
        >>> found = BareclipDocumentEmbedder().run(documents=[Document(content="a cat")])
        >>> len(found["documents"][0].embedding)
        128
    """

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embeds each document's content; none is changed, copies come back.

        Raises:
            BareclipError: A document has no text.
        """
        texts = []
        for document in documents:
            if document.content is None:
                raise BareclipError(
                    f"document {short(document.id)} has no text; for pictures there is "
                    "BareclipImageEmbedder"
                )
            texts.append(document.content)
        return _embedded(documents, self.clip.embed_texts(texts).tolist())


@component
class BareclipImageEmbedder(_Embedder):
    """The pictures that documents name in ``meta["file_path"]`` as vectors.

    Args:
        bundle, precision, device: As for ``bareclip.load``.

    Examples:
        >>> document = Document(meta={"file_path": str(photos[0])})
        >>> found = BareclipImageEmbedder().run(documents=[document])
        >>> len(found["documents"][0].embedding)
        128
    """

    @component.output_types(documents=list[Document])
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Embeds each document's picture; none is changed, copies come back.

        Raises:
            ImageError: A document names no picture, or one that cannot be read.
        """
        paths = []
        for document in documents:
            if "file_path" not in document.meta:
                raise ImageError(
                    f'document {short(document.id)} names no picture: set meta["file_path"]'
                )
            paths.append(document.meta["file_path"])
        return _embedded(documents, self.clip.embed_images(paths).tolist())


def _embedded(documents: list[Document], vectors: list[list[float]]) -> dict[str, Any]:
    pairs = zip(documents, vectors, strict=True)
    return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}
