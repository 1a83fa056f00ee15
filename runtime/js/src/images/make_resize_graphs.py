"""Writes resize_graphs.js: python make_resize_graphs.py (needs onnx).

Each graph is one node. ONNX's Resize of uint8 with antialias is Pillow's resize in fixed point, to
two levels at most; what a canvas does is not. Width and height are resized by a call each, in the
order that every bundle means.
"""

import base64
from pathlib import Path

from onnx import TensorProto, helper

MODES = {"bicubic": "cubic", "bilinear": "linear"}
HEAD = """/**
 * Graphs that resize `pixels` (1, 3, height, width) uint8 to `sizes`, four int64, by interpolation;
 * made by make_resize_graphs.py. In base64, so that no bundler or server has to know of them.
 */
export const RESIZE_GRAPHS = {
"""


def graph(mode: str) -> bytes:
    cubic = {"cubic_coeff_a": -0.5} if mode == "cubic" else {}
    node = helper.make_node(
        "Resize",
        ["pixels", "", "", "sizes"],
        ["resized"],
        mode=mode,
        antialias=1,
        exclude_outside=1,
        **cubic,
    )
    shapes = {"pixels": [1, 3, "h", "w"], "resized": [1, 3, "H", "W"]}
    values = {
        name: helper.make_tensor_value_info(name, TensorProto.UINT8, shape)
        for name, shape in shapes.items()
    }
    sizes = helper.make_tensor_value_info("sizes", TensorProto.INT64, [4])
    made = helper.make_graph([node], "resize", [values["pixels"], sizes], [values["resized"]])
    opset = [helper.make_opsetid("", 18)]
    model: bytes = helper.make_model(made, opset_imports=opset, ir_version=8).SerializeToString()
    return model


def module() -> str:
    lines = []
    for name, mode in MODES.items():
        text = base64.b64encode(graph(mode)).decode()
        parts = [text[start : start + 88] for start in range(0, len(text), 88)]
        lines += [f"  {name}:", *(f'    "{part}" +' for part in parts)]
        lines[-1] = lines[-1].removesuffix(" +") + ","
    return HEAD + "\n".join(lines) + "\n};\n"


if __name__ == "__main__":
    Path(__file__).with_name("resize_graphs.js").write_text(module())
