"""A tower and its weights become an ONNX file.

Opset 18 and IR 8 are the oldest with all that the towers use (LayerNormalization,
Split's num_outputs), so that old ONNX Runtimes and devices load the graphs.
"""

import errno
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import onnx_ir as ir
from onnxscript import GraphBuilder
from onnxscript.nn import Module

from bareclip.bundle import Bundle, FileRecord, file_record
from bareclip.bundle.graph_file import check_graph
from bareclip.errors import BareclipError
from bareclip.inference.cuda import NO_CAPTURE

OPSET = 18
IR_VERSION = 8
OUTPUT = "embeddings"

# Smaller weights stay in the graph file, where constant folding can see them.
EXTERNAL_BYTES = 4096
# A page, so that a weight can be mapped into memory where it lies.
ALIGNMENT = 4096


def pixels_input(size: int) -> ir.Value:
    """(batch, size, size, 3) uint8, RGB."""
    return _input("pixels", ir.DataType.UINT8, ["batch", size, size, 3])


def ids_input(length: int | None = None) -> ir.Value:
    """(batch, tokens) int64; ``length`` tokens always, where it is given."""
    return _input("ids", ir.DataType.INT64, ["batch", length or "tokens"])


def image_input() -> ir.Value:
    """(H, W, 3) uint8, RGB: a picture as it is decoded."""
    return _input("image", ir.DataType.UINT8, ["height", "width", 3])


def write_graph(
    tower: Module,
    graph_input: ir.Value,
    embedding_dim: int,
    path: Path,
    change: Callable[[ir.Model], None] = lambda model: None,
) -> None:
    """Builds a tower's graph and writes it, weights beside it in ``path``.data.

    Weights are computed and written one by one: memory holds one of them at a time.

    Args:
        tower: Takes ``graph_input``, gives (batch, embedding_dim) float32.
        graph_input: From ``pixels_input`` or ``ids_input``.
        embedding_dim: Width of the output.
        path: The ``.onnx`` file to write; its folder exists.
        change: Changes the graph before it is written.
    """
    builder = new_graph(path.stem, [graph_input])
    output = tower(builder.op, graph_input)
    add_output(builder, output, OUTPUT, ir.DataType.FLOAT, ["batch", embedding_dim])
    change(model := finished(builder))
    save(model, path)


def new_graph(name: str, inputs: Sequence[ir.Value]) -> GraphBuilder:
    """A graph to build."""
    return GraphBuilder(
        ir.Graph(inputs=inputs, outputs=[], nodes=[], opset_imports={"": OPSET}, name=name)
    )


def add_output(
    builder: GraphBuilder,
    value: ir.Value,
    name: str,
    dtype: ir.DataType,
    shape: Sequence[int | str],
) -> None:
    """Makes a value one of a graph's outputs."""
    value.type, value.shape = ir.TensorType(dtype), ir.Shape(shape)
    builder.add_output(value, name)


def finished(builder: GraphBuilder) -> ir.Model:
    """The model of a graph that was built."""
    for node in builder.graph:
        node.metadata_props.clear()  # onnxscript's notes on scopes: a third of the file
    return ir.Model(builder.graph, ir_version=IR_VERSION, producer_name="bareclip")


def check_graphs(bundle: Bundle, precisions: Iterable[str]) -> None:
    """Looks at a bundle's graphs before any is opened, as ``open_graph`` wants it.

    Raises:
        BundleError: One names other files than its manifest's, or may never end.
    """
    for precision in precisions:
        for tower in bundle.precisions[precision].values():
            check_graph(bundle.folder, tower)


def open_graph(path: Path) -> ir.Model:
    """Reads a graph whose files were looked at; its weights may lie behind links of either kind.

    onnx_ir refuses weights in a file with a second name, as those fetched from the Hub have. By a
    whole path it takes them.
    """
    model = ir.load(path)
    for value in model.graph.initializers.values():
        if isinstance(tensor := value.const_value, ir.ExternalTensor):
            value.const_value = ir.ExternalTensor(
                str((path.parent / tensor.location).resolve()),
                tensor.offset,
                tensor.length,
                tensor.dtype,
                shape=tensor.shape,
                name=str(tensor.name),
                base_dir="",
            )
    return model


def save(model: ir.Model, path: Path) -> None:
    """Writes a model, its weights beside it in ``path``.data."""
    if any(node.op_type == "NonZero" for node in model.graph):
        model.metadata_props[NO_CAPTURE] = "shapes depend on values"
    else:
        model.metadata_props.pop(NO_CAPTURE, None)
    try:
        ir.save(
            model,
            path,
            external_data=f"{path.name}.data",
            size_threshold_bytes=EXTERNAL_BYTES,
            alignment=ALIGNMENT,
            align_threshold=ALIGNMENT,
        )
    except OSError as error:
        # ndarray.tofile, which writes the weights, says only that it wrote fewer than it should.
        if error.errno is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    except Exception as error:
        # Of a weight that cannot be read; onnx_ir says over it which part of which graph it was in.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, BareclipError):
                raise cause from error
            cause = cause.__cause__
        raise


def _input(name: str, dtype: ir.DataType, shape: list[int | str]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def file_records(graph: Path, bundle: Path) -> dict[str, FileRecord]:
    """Sizes and checksums of a graph's file and those beside it, by their names in the bundle."""
    return {
        path.relative_to(bundle).as_posix(): file_record(path)
        for path in sorted(graph.parent.glob(f"{graph.name}*"))
    }
