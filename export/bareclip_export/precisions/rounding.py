"""Weights in few bits: arrays in, arrays out, no graph.

Weights are (K, N), as a product takes them from the right. What shares a scale is a
channel (a column), a block (some rows of a column) or a row of a table.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

# x86 without VNNI adds two products of u8 and s8 in 16 bits, which saturates: 255 * 127 * 2
# does not fit, 255 * 64 * 2 does.
CHANNEL_LIMIT = 64

# Shares of a group's range that its scale is tried at: clipping the few largest weights
# rounds all others more finely.
_SHARES = {4: (1.0, 0.94, 0.88, 0.82, 0.76, 0.7), 8: (1.0,)}


@dataclass(frozen=True)
class Channels:
    """A weight with a scale a column.

    Attributes:
        integers: (K, N) int8 within +-64.
        scales: (N,) float32.
    """

    integers: NDArray[np.int8]
    scales: Floats

    def weight(self) -> Floats:
        """(K, N), what it stands for."""
        return self.integers * self.scales


@dataclass(frozen=True)
class Blocks:
    """A weight in blocks, as ONNX Runtime's MatMulNBits packs it.

    Attributes:
        packed: (N, blocks, bytes a block) uint8; of two 4-bit numbers the first lies low.
        scales: (N, blocks) float32.
        zero_points: (N, blocks, or half as many rounded up for 4 bits) uint8.
        bits: 4 or 8.
        block: Weights a block.
        rows: K.
    """

    packed: NDArray[np.uint8]
    scales: Floats
    zero_points: NDArray[np.uint8]
    bits: int
    block: int
    rows: int

    def weight(self) -> Floats:
        """(K, N), what it stands for."""
        numbers, zeros = self.packed, self.zero_points
        if self.bits == 4:
            numbers, zeros = _unpack(numbers), _unpack(zeros)[:, : self.scales.shape[1]]
        centred = numbers.astype(np.float32) - zeros[:, :, None]
        columns = (centred * self.scales[:, :, None]).reshape(len(numbers), -1)
        return np.ascontiguousarray(columns[:, : self.rows].T)


def in_channels(weight: Floats) -> Channels:
    """Rounds each column to int8 within +-64, symmetric about zero."""
    scales = _positive(np.abs(weight).max(axis=0) / CHANNEL_LIMIT)
    return Channels(np.rint(weight / scales).astype(np.int8), scales)


def in_blocks(weight: Floats, bits: int, block: int) -> Blocks:
    """Rounds blocks of a column to 4 or 8 bits, each with the zero and scale that fit best.

    Args:
        weight: (K, N); a last block that K does not fill is padded with zeros.
        bits: 4 or 8.
        block: Weights a block, a power of two from 16.
    """
    rows, columns = weight.shape
    count = -(-rows // block)
    padded = np.zeros((columns, count * block), np.float32)
    padded[:, :rows] = weight.T
    numbers, scales, zeros = fit(padded.reshape(-1, block), bits)
    numbers = numbers.reshape(columns, count, block)
    scales, zeros = scales.reshape(columns, count), zeros.reshape(columns, count)
    if bits == 4:
        numbers = _pack(numbers)
        zeros = _pack(np.pad(zeros, [(0, 0), (0, count % 2)]))
    return Blocks(numbers, scales, zeros, bits, block, rows)


def in_rows(table: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Rounds each row to int8, symmetric about zero: (V, W) and a scale a row, (V, 1)."""
    scales = _positive(np.abs(table).max(axis=1, keepdims=True) / 127)
    return np.rint(table / scales).astype(np.int8), scales


def largest_block(rows: int, most: int) -> int:
    """The largest power of two from 16 to ``most`` that divides ``rows``; else 32."""
    fitting = [size for size in (16, 32, 64, 128, 256) if size <= most and rows % size == 0]
    return max(fitting, default=32)


def fit(groups: Floats, bits: int) -> tuple[NDArray[np.uint8], Floats, NDArray[np.uint8]]:
    """The unsigned numbers, scale and zero point of each group with least squared error.

    Args:
        groups: (G, n) weights.
        bits: 4 or 8.

    Returns:
        (G, n) numbers, (G,) scales and (G,) zero points.
    """
    top = 2**bits - 1
    low = np.minimum(groups.min(axis=1), 0)
    high = np.maximum(groups.max(axis=1), 0)
    best = np.full(len(groups), np.inf, np.float32)
    numbers = np.zeros(groups.shape, np.uint8)
    scales, zeros = np.ones(len(groups), np.float32), np.zeros(len(groups), np.uint8)
    for share in _SHARES[bits]:
        scale = _positive((high - low) * share / top)
        zero = np.clip(np.rint(-low * share / scale), 0, top)
        tried = np.clip(np.rint(groups / scale[:, None]) + zero[:, None], 0, top)
        lost = (((tried - zero[:, None]) * scale[:, None] - groups) ** 2).sum(axis=1)
        better = lost < best
        best[better], scales[better] = lost[better], scale[better]
        numbers[better], zeros[better] = tried[better], zero[better]
    return numbers, scales, zeros


def _positive(scales: Floats) -> Floats:
    """Scales of groups that are all zero become 1."""
    return np.where(scales > 0, scales, 1).astype(np.float32)


def _pack(numbers: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return (numbers[..., 0::2] | (numbers[..., 1::2] << 4)).astype(np.uint8)


def _unpack(packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
    pairs = np.stack([packed & 15, packed >> 4], axis=-1)
    return pairs.reshape(*packed.shape[:-1], -1)
