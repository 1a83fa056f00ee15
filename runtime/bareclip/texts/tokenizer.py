"""Strings to token ids, by the tokenizer.json that travels in the bundle."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from ..bundle import TextRecipe
from ..errors import BundleError, TextError
from ..types import short
from .clean_up import clean

# Widths of batches are multiples of this: fewer widths fill batches, closer ones waste less.
# Prompts have seven to ten tokens, of which a step of four wasted up to a third.
_STEP = 2
# How many times the tokens that products see may a batch have in attention.
_SPREAD = 8


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
        ids, errors = self.try_encode(texts, truncate)
        for error in errors.values():
            raise error
        return ids

    def try_encode(
        self, texts: Sequence[str], truncate: bool
    ) -> tuple[list[list[int]], dict[int, TextError]]:
        """As ``encode``, and the errors of texts that cannot be used, by their places.

        Returns:
            Ids of the texts that can be used, in order, and the first errors first.
        """
        errors: dict[int, TextError] = {}
        for place, text in enumerate(texts):
            if (error := _unusable(text)) is not None:
                errors[place] = error
        places = [place for place in range(len(texts)) if place not in errors]
        cleaned = [clean(texts[place], self.recipe.clean_up) for place in places]
        ids = []
        for place, encoding in zip(places, self._tokenizer.encode_batch(cleaned), strict=True):
            if encoding.overflowing and not truncate:
                errors[place] = TextError(
                    f"text {short(texts[place])} has {_length(encoding)} tokens; this model takes "
                    f"{self.recipe.context_length}: shorten it, or pass truncate=True"
                )
            else:
                ids.append(encoding.ids)
        return ids, dict(sorted(errors.items()))

    def batches(
        self, ids: Sequence[list[int]], most: int, most_rows: int | None = None
    ) -> Iterator[tuple[list[int], NDArray[np.int64]]]:
        """Texts of about one length together, filled up to a length of their own.

        How far a text is filled up depends on itself alone. Attention over another width sums
        in another order, and where activations are rounded, as in int8, a last bit can become
        a whole step: a text's vector would depend on its companions.

        Texts that begin alike follow each other, since most text towers compute a beginning
        that a text has in common with the one before it once.

        Args:
            ids: Token ids of each text.
            most: Texts a batch.
            most_rows: Tokens a batch, those in common counted once; None for any number.

        Yields:
            The texts' places in ``ids``, and (places, width) int64.
        """
        by_width: dict[int, list[int]] = {}
        most_tokens, fixed = self.recipe.context_length, self.recipe.fixed_length
        for place, tokens in enumerate(ids):
            width = most_tokens if fixed else min(-(-len(tokens) // _STEP) * _STEP, most_tokens)
            by_width.setdefault(width, []).append(place)
        for width, places in sorted(by_width.items()):
            places.sort(key=ids.__getitem__)
            rows = np.full((len(places), width), self.recipe.pad_id, np.int64)
            for row, place in zip(rows, places, strict=True):
                row[: len(ids[place])] = ids[place]
            if most_rows is None:
                cuts = [*range(0, len(places), most), len(places)]
            else:
                lengths = np.array([len(ids[place]) for place in places])
                cuts = _cuts(rows, lengths, most, most_rows)
            for start, end in pairwise(cuts):
                yield places[start:end], rows[start:end]


def _cuts(
    rows: NDArray[np.int64], lengths: NDArray[np.int64], most: int, most_rows: int
) -> list[int]:
    """Where batches begin, and where the last one ends.

    Args:
        rows: (N, width) texts in order.
        lengths: (N,) tokens of each.
        most, most_rows: As ``Tokenizer.batches`` takes them.
    """
    common = np.cumprod(rows[1:] == rows[:-1], axis=1).sum(axis=1)
    met = np.minimum(np.concatenate([[0], common]), lengths)
    total = np.cumsum(lengths - met)
    # Attention has all tokens of all texts, whatever they have in common.
    most = max(1, min(most, _SPREAD * most_rows // rows.shape[1]))
    cuts = [0]
    while (start := cuts[-1]) < len(rows):
        # The first text of a batch has nothing to share.
        fits = np.searchsorted(total, most_rows + total[start] - lengths[start], side="right")
        cuts.append(min(max(int(fits), start + 1), start + most, len(rows)))
    return cuts


def _length(encoding: tokenizers.Encoding) -> int:
    """Tokens of a text before it was cut; every piece has start and end tokens of its own."""
    pieces = [encoding, *encoding.overflowing]
    text = sum(len(piece.ids) - sum(piece.special_tokens_mask) for piece in pieces)
    return text + sum(encoding.special_tokens_mask)


def _unusable(text: object) -> TextError | None:
    if not isinstance(text, str):
        return TextError(f"a text must be a string, not {type(text).__name__}: {short(text)}")
    if not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text):
        return TextError(
            f"text {short(text)} holds half of a surrogate pair; "
            "decode it with errors='replace' first"
        )
    return None
