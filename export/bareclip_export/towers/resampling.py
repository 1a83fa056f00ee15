"""Pillow's resampling as a graph, to the bit: one axis at a time, in whole numbers.

As in Pillow's Resample.c: float64 weights, rounded to 22 bits, and sums that are rounded to bytes.
ONNX's own Resize computes weights in float32, so that a few values in a thousand differ.

A pass is a product of matrices. Rows that lie beside each other see nearly the same of a picture,
so that a few at a time share what they see. Weights are taken apart into bytes, since products of
bytes are exact and fast.
"""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from .layers import Op, Value

_BITS = 22
_ROWS = 8
# Signed digits of base 256, each with 128 on top.
_DIGITS = 128 * (1 + 256 + 256**2)


@dataclass(frozen=True)
class Filter:
    """One of Pillow's filters.

    Attributes:
        support: How far it reaches, in pixels of what is smaller.
        weights: Of distances, which are not negative.
    """

    support: float
    weights: Callable[[Op, Value], Value]


def _triangle(op: Op, x: Value) -> Value:
    return op.Max(op.Sub(1.0, x), 0.0)


def _cubic(op: Op, x: Value) -> Value:
    """Keys' with a = -0.5, its operations in Pillow's order."""
    near = op.Add(op.Mul(op.Mul(op.Sub(op.Mul(x, 1.5), 2.5), x), x), 1.0)
    far = op.Mul(op.Sub(op.Mul(op.Add(op.Mul(op.Sub(x, 5.0), x), 8.0), x), 4.0), -0.5)
    return op.Where(op.Less(x, 1.0), near, op.Where(op.Less(x, 2.0), far, op.Sub(x, x)))


FILTERS = {"bilinear": Filter(1.0, _triangle), "bicubic": Filter(2.0, _cubic)}


def resampled(op: Op, x: Value, count: Value, kind: Filter) -> Value:
    """Resamples the first axis.

    Args:
        op: Builds the graph.
        x: (length, others) uint8.
        count: (1,) int64, how many there are to be.
        kind: The filter.

    Returns:
        (count, others) uint8.
    """
    length = op.Shape(x, end=1)
    scale = op.Div(_double(op, length), _double(op, count))
    stretch = op.Max(scale, 1.0)
    support = op.Mul(stretch, kind.support)
    groups = op.Div(op.Add(count, _ROWS - 1), _ROWS)
    row = op.Range(0, op.Squeeze(op.Mul(groups, _ROWS)), 1)
    row = op.Reshape(op.Min(row, op.Sub(count, 1)), [-1, _ROWS, 1])
    # What each row sees: from first up to last, around its centre.
    centre = op.Mul(op.Add(_double(op, row), 0.5), scale)
    first = op.Max(_whole(op, op.Add(op.Sub(centre, support), 0.5)), 0)
    last = op.Min(_whole(op, op.Add(op.Add(centre, support), 0.5)), length)
    start = op.Slice(first, [0], [1], [1])
    span = op.ReduceMax(op.Sub(last, start), keepdims=0)
    seen = op.Add(start, op.Range(0, span, 1))
    weights = _weights(op, seen, centre, first, last, stretch, kind)
    shown = op.Gather(x, op.Squeeze(op.Min(seen, op.Sub(length, 1)), [1]))
    products = op.MatMulInteger(_digits(op, weights), shown, 128)
    low, middle, high = op.Split(products, axis=1, num_outputs=3, _outputs=3)
    sums = op.Add(op.Mul(op.Add(op.Mul(high, 256), middle), 256), low)
    sums = op.Max(op.Add(sums, 1 << (_BITS - 1)), 0)
    levels = op.Cast(op.Min(op.Div(sums, 1 << _BITS), 255), to=ir.DataType.UINT8)
    flat = op.Reshape(levels, op.Concat([-1], op.Shape(x, start=1), axis=0))
    return op.Slice(flat, [0], count, [0])


def _weights(
    op: Op, seen: Value, centre: Value, first: Value, last: Value, stretch: Value, kind: Filter
) -> Value:
    """(groups, rows, seen) int32, of 22 bits."""
    distance = op.Mul(op.Add(op.Sub(_double(op, seen), centre), 0.5), op.Div(1.0, stretch))
    inside = op.And(op.GreaterOrEqual(seen, first), op.Less(seen, last))
    weights = op.Mul(kind.weights(op, op.Abs(distance)), _double(op, inside))
    weights = op.Div(weights, op.ReduceSum(weights, [2], keepdims=1))
    weights = op.Mul(weights, float(1 << _BITS))
    rounded = op.Add(weights, op.Mul(op.Sign(weights), 0.5))
    return op.Cast(rounded, to=ir.DataType.INT32)


def _digits(op: Op, weights: Value) -> Value:
    """(groups, 3 * rows, seen) uint8: the lowest digits of all rows first."""
    whole = op.Add(weights, _DIGITS)
    low, middle = op.Mod(whole, 256), op.Mod(op.Div(whole, 256), 256)
    return op.Cast(op.Concat(low, middle, op.Div(whole, 256**2), axis=1), to=ir.DataType.UINT8)


def _double(op: Op, x: Value) -> Value:
    return op.Cast(x, to=ir.DataType.DOUBLE)


def _whole(op: Op, x: Value) -> Value:
    """Without what is behind the point, as a cast in C."""
    return op.Cast(x, to=ir.DataType.INT64)
