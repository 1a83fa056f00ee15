"""SentencePiece's unigram model, by its file and nothing else.

google/sentencepiece, src/sentencepiece_model.proto, normalizer.cc, unigram_model.cc; its map of
letters is a double array (s-yata/darts-clone, darts.h).
"""

import struct
from pathlib import Path
from typing import Any

_UNKNOWN, _CONTROL, _BYTE = 2, 3, 6
_SPACE = "▁"


class Unigram:
    """A model that puts no space before a text, as SigLIP's tokenizer sets it."""

    def __init__(self, path: Path) -> None:
        self.numbers: dict[str, int] = {}
        self._scores: dict[str, float] = {}
        self._bytes: dict[int, int] = {}
        self._unknown, self._fallback, charsmap = 0, False, b""
        for field, value in _message(path.read_bytes()):
            if field == 1:
                self._add(dict(_message(value)))
            elif field == 2:
                self._fallback = bool(dict(_message(value)).get(35, 0))
            elif field == 3:
                charsmap = dict(_message(value)).get(2, b"")
        self._longest = max(map(len, self._scores))
        self._penalty = min(self._scores.values()) - 10
        size = struct.unpack_from("<I", charsmap)[0] if charsmap else 0
        self._trie = struct.unpack_from(f"<{size // 4}I", charsmap, 4) if size else ()
        self._letters = charsmap[4 + size :]

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        text = self.normalized(text)
        best: list[tuple[float, int]] = [(0.0, 0), *[(-1e300, 0)] * len(text)]
        for start in range(len(text)):
            here = best[start][0]
            for end in range(start + 1, min(start + self._longest, len(text)) + 1):
                score = self._scores.get(text[start:end])
                if score is not None and here + score > best[end][0]:
                    best[end] = (here + score, start)
            alone = text[start] not in self._scores
            if alone and here + self._penalty > best[start + 1][0]:
                best[start + 1] = (here + self._penalty, start)
        pieces, end = [], len(text)
        while end:
            pieces.append(text[best[end][1] : end])
            end = best[end][1]
        return self._ids(pieces[::-1])

    def normalized(self, text: str) -> str:
        """A text by the model's map, without spaces that follow others or end it."""
        data, place, made = text.encode(), 0, ""
        while place < len(data):
            length, part = self._longest_match(data, place)
            if made.endswith(" "):
                part = part.lstrip(" ")
            made, place = made + part, place + length
        return made.rstrip(" ").replace(" ", _SPACE).rstrip(_SPACE)

    def _add(self, piece: dict[int, Any]) -> None:
        name, kind, number = piece[1].decode(), piece.get(3, 1), len(self.numbers)
        self.numbers[name] = number
        if kind == _UNKNOWN:
            self._unknown = number
        elif kind == _BYTE:
            self._bytes[int(name[3:5], 16)] = number
        elif kind != _CONTROL:
            self._scores[name] = piece.get(2, 0.0)

    def _ids(self, pieces: list[str]) -> list[int]:
        found: list[int] = []
        before = False
        for piece in pieces:
            known = piece in self._scores
            if known:
                found.append(self.numbers[piece])
            elif self._fallback:
                found += [self._bytes[byte] for byte in piece.encode()]
            elif not before:
                found.append(self._unknown)
            before = not known
        return found

    def _longest_match(self, data: bytes, place: int) -> tuple[int, str]:
        """How many bytes the map takes next, and what it makes of them."""
        length, found, node = 0, 0, 0
        if self._trie:
            node = _offset(self._trie[0])
            for index in range(place, len(data)):
                node ^= data[index]
                unit = self._trie[node]
                if unit & 0x800000FF != data[index]:
                    break
                node ^= _offset(unit)
                if unit >> 8 & 1:
                    length, found = index + 1 - place, self._trie[node] & 0x7FFFFFFF
        if length:
            return length, self._letters[found : self._letters.index(0, found)].decode()
        first = data[place]
        size = 1 + (first >= 0xC0) + (first >= 0xE0) + (first >= 0xF0)
        return size, data[place : place + size].decode()


def _offset(unit: int) -> int:
    return unit >> 10 << ((unit & 512) >> 6)


def _message(data: bytes) -> list[tuple[int, Any]]:
    """Fields of a protocol buffer, as protobuf.dev describes it."""
    fields: list[tuple[int, Any]] = []
    while data:
        key, data = _varint(data)
        if key & 7 == 0:
            value, data = _varint(data)
            fields.append((key >> 3, value))
        elif key & 7 == 5:
            fields.append((key >> 3, struct.unpack("<f", data[:4])[0]))
            data = data[4:]
        else:
            size, rest = (8, data) if key & 7 == 1 else _varint(data)
            fields.append((key >> 3, rest[:size]))
            data = rest[size:]
    return fields


def _varint(data: bytes) -> tuple[int, bytes]:
    value = 0
    for index, byte in enumerate(data[:10]):
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, data[index + 1 :]
    raise ValueError("a number does not end")
