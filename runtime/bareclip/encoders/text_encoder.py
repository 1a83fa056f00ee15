"""TextEncoder: texts in, unit vectors out."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from ..bundle import TOKENIZER, Bundle
from ..errors import TextError, short
from ..texts.tokenizer import Tokenizer
from ..types import Failure, PartialEmbeddings, Vectors
from .encoder import DType, Encoder, OnError, Options, checked_batch_size, checked_dtype

# What is left of a batch of texts once what they have in common is computed once.
TEXT_BATCH, TEXT_ROWS = 256, 512
CUDA_TEXT_BATCH = 256
# Texts of a stream that are sorted together, so that they share rows: few at first, so that the
# first vector comes soon, and then twice as many each time.
_FIRST_WINDOW, _LARGEST_WINDOW = 32, 2048


class TextEncoder(Encoder):
    """Texts to unit vectors; made by ``bareclip.load``, as ``clip.texts``.

    Attributes:
        recipe: How texts become tokens.
        language: What they are said to be in; None is the tokenizer's own.

    Raises:
        BundleError: The bundle has no text tower, or not at that precision.
        DeviceError: The device cannot be had, or does not run that precision.
        TextError: Its texts are not said to be in that language.

    Examples:
        >>> clip = bareclip.load()
        >>> clip.texts.embed(["a cat", "a dog"]).shape
        (2, 128)
    """

    def __init__(self, bundle: Bundle, options: Options) -> None:
        self.recipe = bundle.text_recipe()
        super().__init__(bundle, "text", options)
        self._tokenizer_file = bundle.folder / TOKENIZER
        self.language = options.language
        self._tokenizer: Tokenizer | None = None
        if self.language is not None:
            _ = self.tokenizer  # an unknown one is an error now, not with the first text

    @property
    def tokenizer(self) -> Tokenizer:
        """The checkpoint's own, read when it is first asked for.

        Raises:
            BundleError: Its file is damaged.
        """
        if self._tokenizer is None:
            file = self._tokenizer_file
            self._tokenizer = Tokenizer.load(file, self.recipe, self.language)
        return self._tokenizer

    def preload(self) -> None:
        """As ``ImageEncoder.preload``, and reads the tokenizer."""
        _ = self.tokenizer
        super().preload()

    @overload
    def embed(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = ...,
        batch_size: int | None = ...,
        dtype: DType = ...,
        on_error: Literal["raise"] = ...,
    ) -> Vectors: ...
    @overload
    def embed(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = ...,
        batch_size: int | None = ...,
        dtype: DType = ...,
        on_error: Literal["skip"],
    ) -> PartialEmbeddings: ...
    def embed(
        self,
        texts: Iterable[str],
        *,
        truncate: bool = True,
        batch_size: int | None = None,
        dtype: DType = "float32",
        on_error: OnError = "raise",
    ) -> Vectors | PartialEmbeddings:
        """Embeds texts; short ones do not pay for long ones.

        Args:
            texts: N strings; any iterable.
            truncate: Cut texts at the model's context length, keeping the end token;
                False makes them an error.
            batch_size: Most texts in a batch; None is what suits the device.
            dtype: Of the result; ``"float16"`` halves its memory.
            on_error: ``"raise"`` stops where a text cannot be used; ``"skip"`` returns what
                worked and the list of what did not.

        Returns:
            (N, D) unit rows in the order given; with ``"skip"`` a ``PartialEmbeddings``.

        Raises:
            TextError: Something is not a string, or too long with ``truncate=False``.

        Examples:
            >>> clip = bareclip.load()
            >>> found = clip.texts.embed(["a cat", None], on_error="skip")
            >>> found.kept, found.failures[0].reason
            ([0], 'a text must be a string, not NoneType: None')
        """
        kind = checked_dtype(dtype, on_error)
        items = [*_several_texts(texts)]
        vectors, errors = self._embed(items, truncate, checked_batch_size(batch_size))
        if on_error == "raise":
            for error in errors.values():
                raise error
            return vectors.astype(kind, copy=False)
        kept = [place for place in range(len(items)) if place not in errors]
        failures = [
            Failure(place, short(items[place]), str(error)) for place, error in errors.items()
        ]
        return PartialEmbeddings(vectors[kept].astype(kind, copy=False), kept, failures)

    def stream(
        self, texts: Iterable[str], *, truncate: bool = True, batch_size: int | None = None
    ) -> Iterator[Vectors | Failure]:
        """Embeds texts one after another, however many there are.

        Texts are taken some at a time, so that those that begin alike are computed together.

        Args:
            texts: Strings; may be endless.
            truncate, batch_size: As for ``embed``.

        Yields:
            For each text, in order, its (D,) float32 unit vector, or a ``Failure``.

        Raises:
            TextError: ``texts`` is one string.

        Examples:
            >>> clip = bareclip.load()
            >>> lines = (f"a photo of {number} dogs" for number in range(1000))
            >>> sum(1 for vector in clip.texts.stream(lines))
            1000
        """
        size = checked_batch_size(batch_size)
        items = iter(_several_texts(texts))
        self._tower.check_process()

        def vectors() -> Iterator[Vectors | Failure]:
            start, window = 0, _FIRST_WINDOW
            while some := [*islice(items, window)]:
                rows, errors = self._embed(some, truncate, size)
                for place, (text, row) in enumerate(zip(some, rows, strict=True)):
                    if place in errors:
                        yield Failure(start + place, short(text), str(errors[place]))
                    else:
                        yield row.copy()  # a row keeps the whole window alive
                start, window = start + len(some), min(2 * window, _LARGEST_WINDOW)

        return vectors()

    def embed_tokens(self, ids: NDArray[np.int64]) -> Vectors:
        """Embeds one batch of texts that are tokens already.

        Args:
            ids: (N, T) int64, each text with its start and end token, filled up with the
                recipe's ``pad_id``.

        Returns:
            (N, D) float32, unit rows.

        Examples:
            >>> clip = bareclip.load()
            >>> [(places, ids)] = clip.texts.batches(["a cat"])
            >>> clip.texts.embed_tokens(ids).shape
            (1, 128)
        """
        return self._tower.get().run(ids)

    def batches(
        self, texts: Sequence[str], *, batch_size: int | None = None
    ) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
        """The batches that ``embed`` would run: for who watches a tower at work.

        Yields:
            The texts' places in ``texts``, and (places, T) int64.

        Raises:
            TextError: A text cannot be used.

        Examples:
            >>> clip = bareclip.load()
            >>> batches = clip.texts.batches(["a cat", "a", "a dog"])
            >>> sorted(place for places, ids in batches for place in places)
            [0, 1, 2]
        """
        ids = self.tokenizer.encode(texts, truncate=True)
        return self.tokenizer.batches(ids, *self._limits(checked_batch_size(batch_size)))

    def _limits(self, batch_size: int | None) -> tuple[int, int | None]:
        """Texts in a batch, and tokens, at most."""
        if batch_size is not None:
            return batch_size, None
        return (CUDA_TEXT_BATCH, None) if self._tower.on_cuda else (TEXT_BATCH, TEXT_ROWS)

    def _embed(
        self, texts: Sequence[str], truncate: bool, batch_size: int | None
    ) -> tuple[Vectors, dict[int, TextError]]:
        """(N, D) vectors, and by place the errors of those that have none."""
        self._tower.check_process()
        ids, errors = self.tokenizer.try_encode(texts, truncate)
        vectors = np.zeros((len(texts), self.width), np.float32)
        places = [place for place in range(len(texts)) if place not in errors]
        if not places:
            return vectors, errors
        batches = self.tokenizer.batches(ids, *self._limits(batch_size))
        for rows, found in self._tower.map(batches):
            vectors[[places[row] for row in rows]] = found
        return vectors, errors


def _several_texts(texts: Iterable[str]) -> Iterable[str]:
    if isinstance(texts, (str, bytes)) or not hasattr(texts, "__iter__"):
        raise TextError(f"texts must be a list; for one text pass [{short(texts)}]")
    return texts
