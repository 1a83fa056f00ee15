"""A SentencePiece model file (spiece.model) as a tokenizer, without sentencepiece or protobuf.

Unigram models only, as SigLIP has. The file is a protocol buffer of which few fields matter:
google/sentencepiece, src/sentencepiece_model.proto.
"""

import re
import struct
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import tokenizers
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, processors

from bareclip.texts.guard import guarded

from .clip_bpe import special_marks
from .errors import CheckpointError

# ModelProto.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
# SentencePiece: piece, score and type, which is normal where it is left out.
_PIECE, _SCORE, _TYPE = 1, 2, 3
_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6
# TrainerSpec: model_type, and its value that we read; byte_fallback. NormalizerSpec's charsmap.
_MODEL_TYPE, _UNIGRAM, _BYTE_FALLBACK, _CHARSMAP = 3, 1, 35, 2
# What a varint of 64 bits takes.
_LONGEST_VARINT = 10
# SigLIP's are under 1 MB, the largest that are known 30.
_LARGEST = 256 << 20

# Python's \\s, which has four controls more than Unicode's.
_SPACE = r"[\s\x1c-\x1f]"

Field = int | float | bytes


def read_siglip(path: Path, special: list[str], lower: bool) -> tokenizers.Tokenizer:
    """A tokenizer that does what transformers' SiglipTokenizer does to a text.

    It puts a space before a text, cuts it at special tokens, and lower-cases what is between
    them letter by letter, without punctuation, before SentencePiece sees it
    (transformers 4.57, tokenization_siglip.py and tokenization_utils.py). ``tokenizers`` would
    cut before all else and could not tell a text's beginning from what follows a special
    token; so the steps turn special tokens into one letter each, and cut last.

    Args:
        path: The model file.
        special: Pieces that are special within a text, the end token first.
        lower: Whether texts are lower-cased.

    Raises:
        CheckpointError: It is damaged, no unigram model, or has no such piece.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise CheckpointError(f"it has {path.stat().st_size} bytes, which no such model has")
        with guarded():
            return _tokenizer(_read(path.read_bytes()), special, lower)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # damaged bytes fail in any way, and tokenizers raises Exception
        raise CheckpointError(
            f"cannot read {path} as a SentencePiece model: {error}; download it again"
        ) from error


@dataclass(frozen=True)
class _Model:
    """What matters of a model file.

    Attributes:
        vocab: Pieces and their scores.
        hidden: Pieces that no text has: the unknown one, controls, bytes.
        byte_fallback: Whether what no piece covers becomes its bytes, not the unknown piece.
        charsmap: Its normalisation, compiled; empty for none.
    """

    vocab: list[tuple[str, float]]
    unknown: int | None
    hidden: list[str]
    kind: int
    byte_fallback: bool
    charsmap: bytes


def _read(data: bytes) -> _Model:
    vocab: list[tuple[str, float]] = []
    hidden: list[str] = []
    unknown, kind, fallback, charsmap = None, _UNIGRAM, False, b""
    for number, value in _fields(data):
        if number not in (_PIECES, _TRAINER, _NORMALIZER) or not isinstance(value, bytes):
            continue
        parts = dict(_fields(value))
        if number == _PIECES:
            piece = bytes(parts[_PIECE]).decode()  # type: ignore[arg-type]
            if parts.get(_TYPE) == _UNKNOWN:
                unknown = len(vocab)
            if parts.get(_TYPE) in (_UNKNOWN, _CONTROL, _BYTE):
                hidden.append(piece)
            vocab.append((piece, float(parts.get(_SCORE, 0.0))))
        elif number == _TRAINER:
            kind = int(parts.get(_MODEL_TYPE, _UNIGRAM))
            fallback = bool(parts.get(_BYTE_FALLBACK, False))
        else:
            charsmap = bytes(parts.get(_CHARSMAP, b""))  # type: ignore[arg-type]
    return _Model(vocab, unknown, hidden, kind, fallback, charsmap)


def _tokenizer(model: _Model, special: list[str], lower: bool) -> tokenizers.Tokenizer:
    numbers = {piece: number for number, (piece, _) in enumerate(model.vocab)}
    missing = [piece for piece in special if piece not in numbers]
    if model.kind != _UNIGRAM or model.unknown is None or missing:
        raise CheckpointError(
            f"it is no unigram model with an unknown piece and {', '.join(map(repr, special))}"
        )
    marks = dict(zip(special, special_marks(len(special)), strict=True))
    vocab = [(marks.get(piece, piece), score) for piece, score in model.vocab]
    made = tokenizers.Tokenizer(
        models.Unigram(vocab, model.unknown, byte_fallback=model.byte_fallback)
    )
    made.normalizer = normalizers.Sequence(_steps(model.charsmap, marks, lower))
    made.add_special_tokens([AddedToken(mark, normalized=True) for mark in marks.values()])
    spaces = pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    # A text's letters are never such a piece, though its name may be made of them.
    inner = "|".join(re.escape(piece[1:]) for piece in model.hidden if piece[:1] == "<")
    apart = pre_tokenizers.Split(Regex(f"<(?={inner})"), "merged_with_previous")
    made.pre_tokenizer = pre_tokenizers.Sequence([spaces, apart] if inner else [spaces])
    end = marks[special[0]]
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, numbers[special[0]])]
    )
    return made


def _steps(charsmap: bytes, marks: dict[str, str], lower: bool) -> list[normalizers.Normalizer]:
    any_mark = f"[{''.join(marks.values())}]"
    replace = normalizers.Replace
    # The space before a text is one that only the model's own map may join to another.
    steps = [replace("▁", " "), normalizers.Prepend("▁")]
    steps += [replace(Regex(rf"{_SPACE}*{re.escape(t)}{_SPACE}*"), m) for t, m in marks.items()]
    if lower:
        steps.append(normalizers.Lowercase())
    steps += [
        replace(Regex(r"[!-/:-@\[-`{-~]"), ""),
        replace(Regex(f"{_SPACE}+"), " "),
        replace(Regex(f"(?<={any_mark}) | (?={any_mark})"), ""),
    ]
    if charsmap:
        steps += _mapped(charsmap)
    return [*steps, replace(Regex(" {2,}"), " "), replace(Regex(rf"[ ▁]+(?={any_mark}|\z)"), "")]


def _mapped(charsmap: bytes) -> list[normalizers.Normalizer]:
    """What SentencePiece's map does to a text.

    ``tokenizers`` reads it a letter with its marks at a time: of more than five bytes it takes
    them one by one, so that jamo do not become syllables; of fewer it may forget the marks. NFC
    makes letters of jamo and marks, but also sorts marks, as the points of Hebrew and Arabic. So
    marks are kept apart by a letter that no text has, where they would be sorted or would not
    become part of a letter.
    """
    wall, marks = chr(0xEFFFF), _composing_marks()
    other = rf"[\p{{M}}&&[^{''.join(marks)}]]"
    apart = [(other, r"\p{M}"), (r"\p{M}", other)]
    for order in sorted({*map(unicodedata.combining, marks)} - {0}):
        first = "".join(mark for mark in marks if unicodedata.combining(mark) > order)
        second = "".join(mark for mark in marks if unicodedata.combining(mark) == order)
        apart += [(f"[{first}]", f"[{second}]")] if first else []
    between = "|".join(f"(?<={before})(?={after})" for before, after in apart)
    return [
        normalizers.Replace(Regex(between), wall),
        normalizers.NFC(),
        normalizers.Replace(Regex(r"(?=\p{M})"), wall),
        normalizers.Precompiled(charsmap),
        normalizers.NFC(),
        normalizers.Replace(wall, ""),
    ]


@cache
def _composing_marks() -> tuple[str, ...]:
    """Marks that become one letter with what they follow."""
    pairs = (unicodedata.decomposition(chr(code)).split() for code in range(0x20000))
    found = {chr(int(pair[1], 16)) for pair in pairs if len(pair) == 2 and pair[0][0] != "<"}
    return tuple(sorted(found))


def _fields(data: bytes) -> Iterator[tuple[int, Field]]:
    """Numbers and values of a message's fields (protobuf.dev, "Encoding")."""
    place = 0

    def varint() -> int:
        nonlocal place
        value = 0
        for index in range(_LONGEST_VARINT):
            byte = data[place]
            place += 1
            value |= (byte & 127) << 7 * index
            if byte < 128:
                return value
        raise ValueError("a number in it does not end")

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
