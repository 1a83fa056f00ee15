"""Strings to token ids, by the tokenizer.json that travels in the bundle."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from .bundle import TextRecipe
from .errors import BundleError, TextError


class Tokenizer:
    """A checkpoint's own tokenizer. May be used by many threads at once."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, recipe: TextRecipe) -> None:
        self.recipe = recipe
        # Length and padding are decided here, not by what the file happens to say.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        self._whole = tokenizer
        self._truncating = tokenizers.Tokenizer.from_str(tokenizer.to_str())
        self._truncating.enable_truncation(recipe.context_length)

    @classmethod
    def load(cls, path: Path, recipe: TextRecipe) -> "Tokenizer":
        """Reads a tokenizer.json.

        Raises:
            BundleError: It is not one, or is newer than the installed tokenizers.
        """
        try:
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise BundleError(f"cannot read tokenizer {path}: {error}") from error
        return cls(tokenizer, recipe)

    def encode(self, texts: Sequence[str], truncate: bool) -> list[list[int]]:
        """Token ids of each text, start and end token included, unpadded.

        Args:
            texts: Any strings, empty ones too.
            truncate: Cut what exceeds the context length, keeping the end token.

        Returns:
            One list a text, of 2 to ``context_length`` ids.

        Raises:
            TextError: Something is not a string, or ``truncate`` is False and a text is
                too long; the message shows it.
        """
        for text in texts:
            if not isinstance(text, str):
                raise TextError(f"a text must be a string, not {type(text).__name__}: {text!r}")
            if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
                raise TextError(f"text {_short(text)} holds half of a surrogate pair; "
                                "decode it with errors='replace' first")  # fmt: skip
        chosen = self._truncating if truncate else self._whole
        ids = [encoding.ids for encoding in chosen.encode_batch(list(texts))]
        for text, tokens in zip(texts, ids, strict=True):
            if len(tokens) > self.recipe.context_length:
                raise TextError(
                    f"text {_short(text)} has {len(tokens)} tokens; this model takes "
                    f"{self.recipe.context_length}: shorten it, or pass truncate=True"
                )
        return ids

    def pad(self, ids: Sequence[Sequence[int]]) -> NDArray[np.int64]:
        """A batch of lists of ids, filled up to the longest.

        Returns:
            (N, longest) int64.
        """
        batch = np.full((len(ids), max(map(len, ids))), self.recipe.pad_id, np.int64)
        for row, tokens in zip(batch, ids, strict=True):
            row[: len(tokens)] = tokens
        return batch


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
