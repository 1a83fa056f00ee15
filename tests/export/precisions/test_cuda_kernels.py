"""Nothing in the graphs for CUDA falls to the CPU: that would cost copies and CUDA graphs.

The types are those that ONNX Runtime's docs/OperatorKernels.md lists for its CUDA provider.
"""

from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from bareclip_export.precisions.fp16 import typed, write_fp16

HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT
UINT8, INT64, BOOL = ir.DataType.UINT8, ir.DataType.INT64, ir.DataType.BOOL
FLOATS, ANY = {HALF, FLOAT}, {HALF, FLOAT, UINT8, INT64, BOOL}
NUMBERS = {HALF, FLOAT, INT64}
TRUTH = {BOOL}

# Of its first input; none of the lists is longer than what the towers may need.
KERNELS = {
    **dict.fromkeys(("Cast", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice"), ANY),
    **dict.fromkeys(("Split", "Gather", "Shape", "Concat", "Expand"), ANY),
    **dict.fromkeys(("Add", "Mul", "Div", "Sub"), NUMBERS),
    **dict.fromkeys(("Range", "CumSum", "LessOrEqual", "Greater"), NUMBERS),
    **dict.fromkeys(("And", "Not", "Where"), TRUTH),  # Where's choice is of int64
    "NonZero": {BOOL, INT64},
    "Equal": {*FLOATS, INT64, BOOL},
    "GatherND": {*FLOATS, INT64, BOOL},
    "Pad": {*FLOATS, BOOL},
    **dict.fromkeys(
        ("MatMul", "Softmax", "Sigmoid", "Erf", "ArgMax", "ReduceL2", "ReduceSum"), FLOATS
    ),
    **dict.fromkeys(("LayerNormalization", "MultiHeadAttention", "QuickGelu", "Gelu"), FLOATS),
}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("tower", ["vision", "text"])
def test_every_operator_has_a_kernel(
    bundles: dict[str, Path],
    inputs: dict[tuple[str, str], list[NDArray[Any]]],
    variant: str,
    tower: str,
    precision: str,
    tmp_path: Path,
) -> None:
    graph = bundles[variant] / "fp32" / f"{tower}.onnx"
    if precision == "fp16":
        write_fp16(graph, tmp_path / "half.onnx", inputs[variant, tower], tmp_path)
        graph = tmp_path / "half.onnx"
    nodes = list(typed(ir.load(graph)).graph)
    lacking = {
        f"{node.op_type} of {value.dtype}"
        for node in nodes
        if (value := node.inputs[0]).dtype not in KERNELS[node.op_type]
    }
    assert lacking == set()
    if tower == "text":
        [place] = [node for node in nodes if node.op_type == "ArgMax"]
        assert place.inputs[0].dtype == FLOAT  # half precision holds no large token ids
