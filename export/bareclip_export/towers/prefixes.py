"""What texts have in common is computed once.

Where attention looks back only, what becomes of a token depends on the tokens up to it, so texts
that begin alike have these tokens' rows in common: of a thousand prompts "a photo of a ..." all
but the label and the end. Products, which are nearly all of the work, run on (P, W) rows, one a
distinct prefix; attention alone on (N, T, W), where each text has all of its rows.

A prefix is found to be shared where the text before has it too, so texts that begin alike must
follow each other; in any other order the answer is the same and more is computed.
"""

from dataclasses import dataclass

import onnx_ir as ir

from .layers import LAST, Op, Value

# By these names the graph's tools find the values.
ROWS, PLACES = "prefix_rows", "prefix_places"


@dataclass(frozen=True)
class Prefixes:
    """The distinct prefixes of a batch of texts.

    Attributes:
        rows: (N, T) the row of each text's prefix of each length; arbitrary after its end.
        places: (P,) where in N * T each row's prefix is first met.
        width: W.
    """

    rows: Value
    places: Value
    width: int

    def spread(self, op: Op, x: Value) -> Value:
        """(P, W) -> (N, T, W)."""
        return op.Gather(x, self.rows, axis=0)

    def collect(self, op: Op, x: Value) -> Value:
        """(N, T, W) -> (P, W)."""
        return op.Gather(op.Reshape(x, [-1, self.width]), self.places, axis=0)


def find_prefixes(op: Op, ids: Value, end: Value, width: int) -> Prefixes:
    """Numbers the distinct prefixes.

    Args:
        op: The builder.
        ids: (N, T) token ids, at least 0.
        end: (N,) the place of each text's last token; what comes after it is not computed.
        width: W.
    """
    length = op.Shape(ids, start=1, end=2)
    ordinal = op.Range(0, op.Squeeze(length), 1)
    inside = op.LessOrEqual(ordinal, op.Unsqueeze(end, [1]))
    kept = op.Where(inside, ids, -1)
    # The row before each; the first one has none. CUDA pads no integers.
    none = op.Expand(-1, op.Concat([1], length, axis=0))
    before = op.Concat(none, op.Slice(kept, [0], [-1], [0]), axis=0)
    differs = op.Cast(op.Not(op.Equal(kept, before)), to=ir.DataType.INT64)
    # From the first token that differs on, every prefix does.
    new = op.And(op.Greater(op.CumSum(differs, 1), 0), inside)
    # Numbered by length first: a text without a new prefix of some length has the last one met.
    met = op.CumSum(op.Cast(new, to=ir.DataType.INT64), 0)
    shorter = op.CumSum(op.Slice(met, [-1], [LAST], [0]), 1, exclusive=1)
    rows = op.Sub(op.Add(met, shorter), 1)
    column, row = op.Split(
        op.NonZero(op.Transpose(new, perm=[1, 0])), axis=0, num_outputs=2, _outputs=2
    )
    places = op.Squeeze(op.Add(op.Mul(row, length), column), [0])
    rows.name, places.name = ROWS, PLACES
    return Prefixes(rows, places, width)
