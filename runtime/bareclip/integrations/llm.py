"""A plugin of ``llm``: ``llm embed -m bareclip -c "a cat"``, and pictures by ``--binary``.

``BARECLIP_BUNDLE`` names the bundle; without it, it is the demo model.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import llm

from ..clip import Clip, load


class BareclipModel(llm.EmbeddingModel):
    """Texts, and pictures as the bytes of their files, as vectors of one space.

    Examples:
        >>> len(llm.get_embedding_model("bareclip").embed("a cat"))
        128
    """

    model_id = "bareclip"
    supports_text = True
    supports_binary = True
    batch_size = 64

    def __init__(self) -> None:
        self._clip: Clip | None = None

    def embed_batch(self, items: Iterable[str | bytes]) -> Iterator[list[float]]:
        """N texts and files as N lists of D floats, in their order.

        Raises what ``bareclip.load``, ``Clip.embed_images`` and ``embed_texts`` raise.
        """
        if self._clip is None:
            self._clip = load(os.environ.get("BARECLIP_BUNDLE"))
        rows = list(items)
        texts = [row for row in rows if isinstance(row, str)]
        files = [row for row in rows if not isinstance(row, str)]
        of_texts = iter(self._clip.embed_texts(texts).tolist() if texts else [])
        of_files = iter(self._clip.embed_images(files).tolist() if files else [])
        for row in rows:
            yield next(of_texts if isinstance(row, str) else of_files)


@llm.hookimpl
def register_embedding_models(register: Callable[[Any], None]) -> None:
    """What ``llm`` calls when it looks for models."""
    register(BareclipModel())
