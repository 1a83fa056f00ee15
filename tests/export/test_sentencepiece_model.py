"""Reading spiece.model; tests/reference holds it to transformers' own tokenizer."""

import struct
from pathlib import Path

import pytest

from bareclip_export.errors import CheckpointError
from bareclip_export.sentencepiece_model import read_sentencepiece

PIECES = ["<pad>", "</s>", "<unk>", "▁", "▁cat", "▁dog", "s", "c", "a", "t", "▁c"]
TYPES = {"<pad>": 3, "</s>": 3, "<unk>": 2}


def field(number: int, payload: bytes) -> bytes:
    return bytes([number << 3 | 2, len(payload)]) + payload


def model(kind: int = 1) -> bytes:
    """A protocol buffer as SentencePiece writes it, with a field that nobody reads."""
    pieces = b""
    for index, piece in enumerate(PIECES):
        score = bytes([2 << 3 | 5]) + struct.pack("<f", -1.0 - index)
        type_ = bytes([3 << 3, TYPES.get(piece, 1)])
        pieces += field(1, field(1, piece.encode()) + score + type_)
    return pieces + field(2, bytes([3 << 3, kind])) + field(15, b"whatever")


def test_a_model_becomes_a_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(model())
    tokenizer = read_sentencepiece(path, "</s>")
    assert tokenizer.encode("cat dogs").tokens == ["▁cat", "▁dog", "s", "</s>"]
    assert tokenizer.encode("cat   cat  ").tokens == ["▁cat", "▁cat", "</s>"]
    assert tokenizer.encode("").ids == [1]
    assert tokenizer.encode("cat z").ids[-2:] == [2, 1]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (model(kind=2), "no unigram model with an unknown piece and '</s>'"),
        (b"", "no unigram model"),
        (model()[:-3], "it ends in the middle; download it again"),
        (b"\xff" * 40, "cannot read .* as a SentencePiece model"),
        (b"<!doctype html>", "cannot read .* as a SentencePiece model"),
    ],
)
def test_what_is_no_model(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "spiece.model"
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        read_sentencepiece(path, "</s>")
