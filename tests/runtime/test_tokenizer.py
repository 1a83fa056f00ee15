from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip import TextError
from bareclip.bundle import Bundle
from bareclip.texts.tokenizer import Tokenizer
from tests.variants import TEXTS


@pytest.fixture
def tokenizer(bundles: dict[str, Path]) -> Tokenizer:
    folder = bundles["tiny"]
    return Tokenizer.load(folder / "tokenizer.json", Bundle.read(folder).text)


def test_ids_are_the_reference_tokenizers(
    bundles: dict[str, Path], variant: str, goldens: dict[str, Any]
) -> None:
    folder = bundles[variant]
    tokenizer = Tokenizer.load(folder / "tokenizer.json", Bundle.read(folder).text)
    padded = goldens[f"{variant}.ids"]
    for places, batch in tokenizer.batches(tokenizer.encode(TEXTS, truncate=True), len(TEXTS)):
        np.testing.assert_array_equal(batch, padded[places, : batch.shape[1]])


def test_how_far_a_text_is_padded_depends_on_itself_alone(tokenizer: Tokenizer) -> None:
    ids = [list(range(1, length + 1)) for length in (3, 4, 5, 24, 3, 8, 23, 7)]
    batches = [(places, batch.shape) for places, batch in tokenizer.batches(ids, 2)]
    assert batches == [([0, 4], (2, 4)), ([1], (1, 4)), ([2], (1, 6)), ([7, 5], (2, 8)),
                       ([6, 3], (2, 24))]  # fmt: skip
    [(_, alone)] = tokenizer.batches(ids[2:3], 2)
    assert alone.tolist() == [[1, 2, 3, 4, 5, tokenizer.recipe.pad_id]]


def test_texts_that_begin_alike_follow_each_other_within_a_batchs_limits(
    tokenizer: Tokenizer,
) -> None:
    rng = np.random.default_rng(0)
    ids = [rng.integers(1, 4, rng.integers(2, 9)).tolist() for _ in range(300)]
    ids.append(list(range(1, 25)))  # more tokens than a batch may have
    most, most_rows = 20, 22
    seen: list[int] = []
    batches = [*tokenizer.batches(ids, most, most_rows)]
    for places, batch in batches:
        texts = [ids[place] for place in places]
        assert texts == sorted(texts)
        assert [row[: len(t)] for row, t in zip(batch.tolist(), texts, strict=True)] == texts
        distinct = {tuple(t[: n + 1]) for t in texts for n in range(len(t))}
        assert len(distinct) <= most_rows or len(texts) == 1
        assert len(texts) <= most
        assert batch.size <= 8 * most_rows or len(texts) == 1
        seen += places
    assert sorted(seen) == [*range(len(ids))]
    # And not smaller than need be: the next text would not have fitted in.
    for (places, batch), (after, following) in pairwise(batches):
        if batch.shape[1] == following.shape[1] and len(places) < most:
            texts = [ids[place] for place in [*places, after[0]]]
            distinct = {tuple(t[: n + 1]) for t in texts for n in range(len(t))}
            assert len(distinct) > most_rows or len(texts) * batch.shape[1] > 8 * most_rows


def test_truncation_keeps_the_end_token(tokenizer: Tokenizer) -> None:
    recipe = tokenizer.recipe
    [ids] = tokenizer.encode(["cat " * 500], truncate=True)
    assert len(ids) == recipe.context_length
    assert ids[-1] == recipe.end_id
    assert ids.count(recipe.end_id) == 1


def test_a_text_that_just_fits_is_not_an_error(tokenizer: Tokenizer) -> None:
    longest = "cat " * (tokenizer.recipe.context_length - 2)
    assert len(tokenizer.encode([longest], truncate=False)[0]) == tokenizer.recipe.context_length
    with pytest.raises(TextError, match=r"'cat cat .*\.\.\.' has 25 tokens; this model takes 24"):
        tokenizer.encode([longest + "cat"], truncate=False)


@pytest.mark.parametrize(
    ("given", "message"),
    [(b"cat", "must be a string, not bytes"), (None, "not NoneType"), ("\ud83d", "surrogate")],
)
def test_what_is_no_text(tokenizer: Tokenizer, given: Any, message: str) -> None:
    with pytest.raises(TextError, match=message):
        tokenizer.encode(["cat", given], truncate=True)


def test_one_string_is_not_a_list_of_texts(clip: bareclip.Clip) -> None:
    with pytest.raises(
        bareclip.BareclipError, match=r"texts must be a list; for one text pass \['cat'\]"
    ):
        clip.embed_texts("cat")
