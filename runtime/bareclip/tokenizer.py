"""Strings to token ids, by the tokenizer.json that travels in the bundle."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from .bundle import TextRecipe
from .clean_up import clean
from .errors import BundleError, TextError

# Widths of batches are multiples of this: fewer widths fill batches, closer ones waste less.
# Prompts have seven to ten tokens, of which a step of four wasted up to a third.
_STEP = 2


class Tokenizer:
    """A checkpoint's own tokenizer. May be used by many threads at once."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, recipe: TextRecipe) -> None:
        self.recipe = recipe
        # Length and padding are decided here, not by what the file happens to say.
        tokenizer.no_padding()
        tokenizer.enable_truncation(recipe.context_length)
        self._tokenizer = tokenizer

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
            One list a text, of 1 to ``context_length`` ids.

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
        cleaned = [clean(text, self.recipe.clean_up) for text in texts]
        found = self._tokenizer.encode_batch(cleaned)
        for text, encoding in zip(texts, found, strict=True):
            if encoding.overflowing and not truncate:
                raise TextError(
                    f"text {_short(text)} has {_length(encoding)} tokens; this model takes "
                    f"{self.recipe.context_length}: shorten it, or pass truncate=True"
                )
        return [encoding.ids for encoding in found]

    def batches(
        self, ids: Sequence[Sequence[int]], most: int
    ) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
        """Texts of about one length together, filled up to a length of their own.

        How far a text is filled up depends on itself alone. Attention over another width sums
        in another order, and where activations are rounded, as in int8, a last bit can become
        a whole step: a text's vector would depend on its companions.

        Args:
            ids: Token ids of each text.
            most: Texts a batch.

        Yields:
            The texts' places in ``ids``, and (places, width) int64.
        """
        by_width: dict[int, list[int]] = {}
        most_tokens, fixed = self.recipe.context_length, self.recipe.fixed_length
        for place, tokens in enumerate(ids):
            width = most_tokens if fixed else min(-(-len(tokens) // _STEP) * _STEP, most_tokens)
            by_width.setdefault(width, []).append(place)
        for width, places in sorted(by_width.items()):
            for start in range(0, len(places), most):
                chosen = places[start : start + most]
                batch = np.full((len(chosen), width), self.recipe.pad_id, np.int64)
                for row, place in zip(batch, chosen, strict=True):
                    row[: len(ids[place])] = ids[place]
                yield chosen, batch


def _length(encoding: tokenizers.Encoding) -> int:
    """Tokens of a text before it was cut; every piece has start and end tokens of its own."""
    pieces = [encoding, *encoding.overflowing]
    text = sum(len(piece.ids) - sum(piece.special_tokens_mask) for piece in pieces)
    return text + sum(encoding.special_tokens_mask)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")
