"""A SentencePiece model file (spiece.model) as a tokenizer, without sentencepiece or protobuf.

Unigram models only, as SigLIP has. The file is a protocol buffer of which few fields matter:
google/sentencepiece, src/sentencepiece_model.proto.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import tokenizers
from tokenizers import Regex, models, normalizers, pre_tokenizers, processors

from .errors import CheckpointError

# ModelProto.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
# SentencePiece: piece, score and type; and the type of the unknown one.
_PIECE, _SCORE, _TYPE, _UNKNOWN, _CONTROL = 1, 2, 3, 2, 3
# TrainerSpec.model_type, and its value that we read; NormalizerSpec.precompiled_charsmap.
_MODEL_TYPE, _UNIGRAM, _CHARSMAP = 3, 1, 2

Field = int | float | bytes


def read_sentencepiece(path: Path, end: str) -> tokenizers.Tokenizer:
    """A tokenizer that puts ``end`` after every text.

    Args:
        path: The model file.
        end: A piece of it.

    Raises:
        CheckpointError: It is damaged, no unigram model, or has no such piece.
    """
    try:
        return _tokenizer(path.read_bytes(), end)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # damaged bytes fail in any way, and tokenizers raises Exception
        raise CheckpointError(
            f"cannot read {path} as a SentencePiece model: {error}; download it again"
        ) from error


def _tokenizer(data: bytes, end: str) -> tokenizers.Tokenizer:
    vocab: list[tuple[str, float]] = []
    special: list[str] = []
    unknown, kind, charsmap = None, _UNIGRAM, b""
    for number, value in _fields(data):
        if number not in (_PIECES, _TRAINER, _NORMALIZER) or not isinstance(value, bytes):
            continue
        parts = dict(_fields(value))
        if number == _PIECES:
            piece = bytes(parts[_PIECE]).decode()  # type: ignore[arg-type]
            if parts.get(_TYPE) == _UNKNOWN:
                unknown = len(vocab)
            if parts.get(_TYPE) in (_UNKNOWN, _CONTROL):
                special.append(piece)
            vocab.append((piece, float(parts.get(_SCORE, 0.0))))
        elif number == _TRAINER:
            kind = int(parts.get(_MODEL_TYPE, _UNIGRAM))
        else:
            charsmap = bytes(parts.get(_CHARSMAP, b""))  # type: ignore[arg-type]
    names = [piece for piece, _ in vocab]
    if kind != _UNIGRAM or unknown is None or end not in names:
        raise CheckpointError(f"it is no unigram model with an unknown piece and {end!r}")
    tokenizer = tokenizers.Tokenizer(models.Unigram(vocab, unknown, byte_fallback=False))
    tokenizer.add_special_tokens(special)
    # Last, since what the map removes may leave a space at the end.
    steps = [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip(left=False, right=True)]
    if charsmap:
        steps.insert(0, normalizers.Precompiled(charsmap))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, names.index(end))]
    )
    return tokenizer


def _fields(data: bytes) -> Iterator[tuple[int, Field]]:
    """Numbers and values of a message's fields (protobuf.dev, "Encoding")."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        key = varint()
        wire = key & 7
        if wire == 0:
            yield key >> 3, varint()
            continue
        size = {1: 8, 2: 0, 5: 4}[wire] or varint()
        part = data[place : place + size]
        if len(part) < size:
            raise ValueError("it ends in the middle")
        place += size
        yield key >> 3, struct.unpack("<f", part)[0] if wire == 5 else part
