"""Reading spiece.model; tests/reference holds it to transformers' own tokenizer."""

import struct
from pathlib import Path
from typing import Any

import pytest

from bareclip_export.errors import CheckpointError
from bareclip_export.sentencepiece_model import read_siglip

PIECES = ["<pad>", "</s>", "<unk>", "▁", "▁cat", "▁dog", "s", "c", "a", "t", "▁c", "<", ">", "/"]
TYPES = {"<pad>": 3, "</s>": 3, "<unk>": 2}
END, UNKNOWN = ["</s>", "<unk>"], 2


def field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2, len(payload)]) + payload


def model(kind: int = 1, fallback: bool = False) -> bytes:
    """A protocol buffer as SentencePiece writes it, with a field that nobody reads."""
    types = TYPES | {f"<0x{byte:02X}>": 6 for byte in range(256) if fallback}
    pieces = b""
    for index, piece in enumerate([*PIECES, *(name for name in types if types[name] == 6)]):
        score = bytes([2 << 3 | 5]) + struct.pack("<f", -1.0 - index)
        type_ = bytes([3 << 3, types.get(piece, 1)])
        pieces += field(1, field(1, piece.encode()) + score + type_)
    # TrainerSpec's field 35.
    trainer = bytes([3 << 3, kind]) + bytes([0x98, 2, int(fallback)])
    return pieces + field(2, trainer) + field(15, b"whatever")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spiece.model"


def ids(path: Path, text: str, **given: Any) -> list[int]:
    return read_siglip(path, END, **{"lower": True} | given).encode(text).ids


def names(path: Path, text: str) -> list[str]:
    every = [*PIECES, *(f"<0x{byte:02X}>" for byte in range(256))]
    return [every[number] for number in ids(path, text)]


def test_a_model_becomes_a_tokenizer(path: Path) -> None:
    path.write_bytes(model())
    assert names(path, "cat dogs") == ["▁cat", "▁dog", "s", "</s>"]
    assert names(path, "cat   cat  ") == ["▁cat", "▁cat", "</s>"]
    assert ids(path, "") == [1]
    assert ids(path, "cat z")[-2:] == [UNKNOWN, 1]
    assert ids(path, "CAT!") == ids(path, "cat")
    assert ids(path, "CAT", lower=False) != ids(path, "cat", lower=False)


def test_what_no_piece_covers_becomes_its_bytes_where_the_model_says_so(path: Path) -> None:
    """Else 京都, 北海道 and a cat's emoji would be one text."""
    path.write_bytes(model(fallback=True))
    assert names(path, "é") == ["▁", "<0xC3>", "<0xA9>", "</s>"]
    assert len({tuple(ids(path, text)) for text in ("京都", "北海道", "🐱", "ü", "Σ")}) == 5
    path.write_bytes(model())
    assert names(path, "é") == names(path, "京都") == ["▁", "<unk>", "</s>"]


def test_special_tokens_within_a_text(path: Path) -> None:
    path.write_bytes(model(fallback=True))
    assert names(path, "cat </s> s") == ["▁cat", "</s>", "s", "</s>"]
    assert names(path, "</s>cat") == ["</s>", "c", "a", "t", "</s>"]
    assert names(path, "cat!</s>!<unk>") == ["▁cat", "</s>", "<unk>", "</s>"]
    # Its punctuation goes, and nothing of it is special.
    assert names(path, "</S>") == ["▁", "s", "</s>"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (model(kind=2), "no unigram model with an unknown piece and '</s>', '<unk>'"),
        (b"", "no unigram model"),
        (model()[:-3], "it ends in the middle; download it again"),
        (b"\xff" * 40, "a number in it does not end; download it again"),
        (b"\x80" * (1 << 20), "a number in it does not end; download it again"),
        (b"<!doctype html>", "cannot read .* as a SentencePiece model"),
        (model() + field(3, field(2, b"\x04\0\0\0abcd")), "cannot read .* as a Senten"),
    ],
)
def test_what_is_no_model(path: Path, data: bytes, message: str) -> None:
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_siglip(path, END, lower=True)
