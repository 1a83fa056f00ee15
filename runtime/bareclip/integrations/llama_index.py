"""LlamaIndex's multi-modal embedding: for its indexes of texts and of pictures."""

import asyncio
from typing import Any

from llama_index.core.embeddings import MultiModalEmbedding
from llama_index.core.schema import ImageType
from pydantic import PrivateAttr

from ..clip import Clip


class BareclipEmbedding(MultiModalEmbedding):
    """Texts and pictures as vectors of one space.

    Args:
        clip: What embeds.
        embed_batch_size: How many LlamaIndex hands over at once.

    Examples:
        >>> embedding = BareclipEmbedding(bareclip.load())
        >>> index = VectorStoreIndex([TextNode(text="a cat")], embed_model=embedding)
        >>> index.as_retriever().retrieve("a kitten")[0].text
        'a cat'
    """

    _clip: Clip = PrivateAttr()

    def __init__(self, clip: Clip, *, embed_batch_size: int = 64) -> None:
        super().__init__(model_name=clip.bundle.name, embed_batch_size=embed_batch_size)
        self._clip = clip

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serialises it under."""
        return "BareclipEmbedding"

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._clip.embed_texts(texts).tolist()

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return self._clip.embed_images(img_file_paths).tolist()

    def _get_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return self._get_image_embeddings([img_file_path])[0]

    # LlamaIndex's own would compute in the event loop.
    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    async def _aget_image_embedding(self, img_file_path: ImageType) -> list[float]:
        return await asyncio.to_thread(self._get_image_embedding, img_file_path)

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_image_embeddings, img_file_paths)
