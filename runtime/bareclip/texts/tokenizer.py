"""Strings to token ids, by the tokenizer.json that travels in the bundle."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import tokenizers
from numpy.typing import NDArray

from ..bundle import TextRecipe
from ..errors import BundleError, TextError, short
from .clean_up import clean
from .guard import guarded, open_tokenizer
from .language import languages, set_language

# Widths of batches are multiples of this: fewer widths fill batches, closer ones waste less.
# Prompts have seven to ten tokens, of which a step of four wasted up to a third.
_STEP = 2
# How many times the tokens that products see may a batch have in attention.
_SPREAD = 8
# Letters of a text that are tokenized at first, a token of the context, and how many times more
# at each further turn. Words have some six.
_LETTERS, _TURN = 32, 8
# Letters of a text that are looked at. ftfy repairs as many at once (ftfy 6, max_decode_length).
_MOST_LETTERS = 1_000_000


class Tokenizer:
    """A checkpoint's own tokenizer. May be used by many threads at once."""

    def __init__(
        self, tokenizer: tokenizers.Tokenizer, recipe: TextRecipe, language: str | None = None
    ) -> None:
        self.recipe = recipe
        # Length and padding are decided here, not by what the file happens to say.
        tokenizer.no_padding()
        tokenizer.no_truncation()
        around = len(_encoded(tokenizer, [""])[0].ids)
        if not 1 <= around < recipe.context_length:
            raise BundleError(
                f"its tokenizer puts {around} tokens around a text, where this model takes "
                f"{recipe.context_length} in all, one of which ends it: export the bundle again"
            )
        if language is not None:
            set_language(tokenizer, language)
        tokenizer.enable_truncation(recipe.context_length)
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, path: Path, recipe: TextRecipe, language: str | None = None) -> "Tokenizer":
        """Reads a tokenizer.json.

        Args:
            path: The file.
            recipe: How it is used.
            language: What texts are said to be in, where they begin with that; None is its default.

        Raises:
            BundleError: It is not one, is newer than the installed tokenizers, makes too much
                of a text, or puts no token, or too many, around one.
            TextError: It has not that language.
        """
        try:
            return cls(open_tokenizer(path), recipe, language)
        except BundleError as error:
            named = str(path) in str(error)
            raise BundleError(str(error) if named else f"{path}: {error}") from error

    @property
    def languages(self) -> list[str]:
        """What texts may be said to be in, what they are first; none in most models."""
        return languages(self._tokenizer)

    def encode(self, texts: Sequence[str], truncate: bool) -> list[list[int]]:
        """Token ids of each text, start and end token included, unpadded.

        Args:
            texts: Any strings, empty ones too.
            truncate: Cut what exceeds the context length, keeping the end token.

        Returns:
            One list per text, of 1 to ``context_length`` ids.

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
        cleaned = [self._cleaned(texts[place]) for place in places]
        first = _LETTERS * self.recipe.context_length
        starts = [_start(text, first) for text in cleaned]
        ids = []
        for place, text, start, encoding in zip(
            places, cleaned, starts, _encoded(self._tokenizer, starts), strict=True
        ):
            if len(start) < len(text):
                encoding, start = self._lengthened(text, start, encoding)
            whole = len(start) == len(text)
            if len(texts[place]) > _MOST_LETTERS and whole and not self._fills(encoding):
                errors[place] = TextError(
                    f"text {short(texts[place])} has {len(texts[place])} letters, the first "
                    f"{_MOST_LETTERS} of which are {_length(encoding)} tokens; cut it"
                )
            elif encoding.overflowing and not truncate:
                errors[place] = TextError(
                    f"text {short(texts[place])} has {'' if whole else 'more than '}"
                    f"{_length(encoding)} tokens; this model takes "
                    f"{self.recipe.context_length}: shorten it, or pass truncate=True"
                )
            else:
                ids.append(encoding.ids)
        return ids, dict(sorted(errors.items()))

    def _cleaned(self, text: str) -> str:
        """A text after its clean-up, of which no more is looked at than can matter."""
        if len(text) > _MOST_LETTERS:
            # ftfy repairs line by line, so that the end of one changes nothing before it.
            text = text[: text.rfind("\n", 0, _MOST_LETTERS) + 1 or _MOST_LETTERS]
        return clean(text, self.recipe.clean_up)

    def _fills(self, encoding: tokenizers.Encoding) -> bool:
        """Whether a beginning has tokens enough that none of those kept depends on what follows.

        How a word is cut can depend on its end, and where a whole text is one word, as Gemma's
        is, on the next one.
        """
        return _length(encoding) > 2 * self.recipe.context_length + 64

    def _lengthened(
        self, text: str, start: str, encoding: tokenizers.Encoding
    ) -> tuple[tokenizers.Encoding, str]:
        """As much of a long text as fills the context, or all of it; and its tokens."""
        while len(start) < len(text) and not self._fills(encoding):
            start = _start(text, _TURN * max(len(start), _LETTERS * self.recipe.context_length))
            [encoding] = _encoded(self._tokenizer, [start])
        return encoding, start

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


def _encoded(tokenizer: tokenizers.Tokenizer, texts: Sequence[str]) -> list[tokenizers.Encoding]:
    try:
        with guarded():
            found: list[tokenizers.Encoding] = tokenizer.encode_batch(list(texts))
    except Exception as error:  # tokenizers raises bare Exception
        raise BundleError(
            f"its tokenizer fails on text {short(texts[0])}"
            + (f", or on one of {len(texts) - 1} others" if len(texts) > 1 else "")
            + f": {error}; export the bundle again"
        ) from error
    return found


def _start(text: str, letters: int) -> str:
    """A text's beginning of about that length, up to a space where it has one."""
    if len(text) <= letters:
        return text
    # Not with the space: at a text's end it may be a word.
    place = max(text.rfind(space, letters // 2, letters) for space in " \n\t")
    return text[: place if place > 0 else letters]


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
