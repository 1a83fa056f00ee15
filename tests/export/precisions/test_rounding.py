"""Rounded weights, against integers that NumPy unpacks and multiplies by itself."""

import numpy as np
import pytest
from numpy.typing import NDArray

from bareclip_export.precisions import rounding

RNG = np.random.default_rng(7)
WEIGHT = RNG.standard_normal((48, 20)).astype(np.float32)
WEIGHT[:, 3] = 0
WEIGHT[5, 7] = 60


def saturating_product(pixels: NDArray[np.uint8], weight: NDArray[np.int8]) -> NDArray[np.int64]:
    """A product as x86 without VNNI does it: neighbours are added in 16 bits (vpmaddubsw)."""
    terms = pixels.astype(np.int64)[:, :, None] * weight
    pairs = (terms[:, 0::2] + terms[:, 1::2]).clip(-(2**15), 2**15 - 1)
    return pairs.sum(axis=1)


def test_channels_stay_within_what_16_bits_add() -> None:
    extreme = np.where(RNG.random((64, 8)) < 0.5, -1, 1).astype(np.float32)
    pixels = np.full((4, 64), 255, np.uint8)
    narrow = rounding.in_channels(extreme).integers
    exact = pixels.astype(np.int64) @ narrow.astype(np.int64)
    np.testing.assert_array_equal(saturating_product(pixels, narrow), exact)
    full = np.clip(extreme * 127, -127, 127).astype(np.int8)
    exact = pixels.astype(np.int64) @ full.astype(np.int64)
    assert (saturating_product(pixels, full) != exact).any()


def test_channels_are_within_half_a_step() -> None:
    channels = rounding.in_channels(WEIGHT)
    assert np.abs(channels.integers).max() <= 64
    assert (np.abs(channels.weight() - WEIGHT) <= channels.scales / 2 * 1.0001).all()
    assert (channels.weight()[:, 3] == 0).all()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("rows", "block"), [(48, 16), (48, 32), (40, 32), (7, 16)])
def test_blocks_unpack_to_near_the_weight(bits: int, rows: int, block: int) -> None:
    weight = WEIGHT[:rows]
    blocks = rounding.in_blocks(weight, bits, block)
    count = -(-rows // block)
    assert blocks.packed.shape == (20, count, block * bits // 8)
    assert blocks.scales.shape == (20, count)
    assert blocks.weight().shape == weight.shape
    # By hand: number by number, as MatMulNBits documents its packing.
    column, row = 7, 5
    byte = blocks.packed[column, 0, row * bits // 8]
    number = byte if bits == 8 else (byte >> 4 if row % 2 else byte & 15)
    zero = blocks.zero_points[column, 0]
    zero = zero if bits == 8 else zero & 15
    by_hand = (np.float32(number) - np.float32(zero)) * blocks.scales[column, 0]
    assert blocks.weight()[row, column] == pytest.approx(by_hand)
    small = np.delete(np.arange(20), 7)  # column 7 holds an outlier, which may be clipped
    error = np.abs(blocks.weight() - weight)[:, small]
    steps = blocks.scales.max(axis=1)[small]
    assert (error <= steps * (2.5 if bits == 4 else 0.5001)).all()


def test_four_bits_fit_better_than_the_whole_range(monkeypatch: pytest.MonkeyPatch) -> None:
    groups = RNG.standard_t(4, (500, 32)).astype(np.float32)

    def error() -> float:
        numbers, scales, zeros = rounding.fit(groups, 4)
        fitted = (numbers - zeros[:, None].astype(np.float32)) * scales[:, None]
        return float(((fitted - groups) ** 2).mean())

    fitted = error()
    monkeypatch.setitem(rounding._SHARES, 4, (1.0,))
    assert fitted < 0.98 * error()


def test_rows_of_a_table() -> None:
    integers, scales = rounding.in_rows(WEIGHT.T)
    assert scales.shape == (20, 1)
    assert (np.abs(integers * scales - WEIGHT.T) <= scales / 2 * 1.0001).all()


def test_the_largest_block_that_divides() -> None:
    assert [rounding.largest_block(rows, 128) for rows in (768, 192, 48, 36, 8)] == [
        128, 64, 16, 32, 32,
    ]  # fmt: skip
