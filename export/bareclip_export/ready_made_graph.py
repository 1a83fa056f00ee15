"""A ready-made ONNX graph, and the ends of a bundle's graph put on it."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bareclip.bundle import ImageRecipe, TextRecipe
from bareclip.bundle.graph_file import external_locations
from bareclip.files import printable
from bareclip.inference.device import Device
from bareclip.inference.installation import import_onnxruntime
from bareclip.inference.session import make_session
from bareclip.inference.threads import Threads

from .errors import CheckpointError
from .graph import OUTPUT, ids_input, open_graph, pixels_input, save
from .precisions.products import Surgeon
from .route import OLDEST

# The newest that ONNX Runtime 1.18 has.
_OLDEST_OPSET = 21
_MASK = "attention_mask"
_INPUTS = {"vision": {"pixel_values"}, "text": {"input_ids", _MASK}}


@dataclass(frozen=True)
class ReadyMadeGraph:
    """A ready-made graph.

    Attributes:
        output: The one that is embedded to.
        recipe: What is to become its input.
        onnxruntime: The oldest version that is known to run it.
    """

    path: Path
    output: str
    recipe: ImageRecipe | TextRecipe
    inputs: tuple[str, ...]
    onnxruntime: str

    @classmethod
    def open(
        cls, path: Path, tower: str, output: str, recipe: ImageRecipe | TextRecipe
    ) -> "ReadyMadeGraph":
        """Reads a graph.

        Args:
            path: The ``.onnx`` file, its weights beside it where they lie apart.
            tower: ``"vision"`` or ``"text"``.
            output: Which of its outputs is embedded to.
            recipe: What is to become its input.

        Raises:
            CheckpointError: It cannot be read, or has unknown inputs or not that output.
        """
        model = _load(path)
        graph = model.graph
        inputs = tuple(str(value.name) for value in graph.inputs)
        outputs = [value.name for value in graph.outputs]
        unknown = set(inputs) - _INPUTS[tower]
        if unknown or output not in outputs:
            raise CheckpointError(
                f"{path} takes {', '.join(inputs)} and gives {', '.join(map(str, outputs))}; it "
                f"would have to take {' and '.join(sorted(_INPUTS[tower]))}, and to give {output}"
            )
        return cls(path, output, recipe, inputs, _oldest(model))

    @cached_property
    def width(self) -> int:
        """Of its vectors, as it gives them."""
        recipe = self.recipe
        if isinstance(recipe, ImageRecipe):
            one: NDArray[Any] = np.zeros((1, recipe.size, recipe.size, 3), np.uint8)
        else:
            one = np.full((1, recipe.context_length), recipe.end_id)
        return int(self.embed(one).shape[1])

    def embed(self, batch: NDArray[Any]) -> NDArray[np.float64]:
        """(a batch) -> (N, D) unit rows, by the graph as it is and its input made in NumPy."""
        # Not kept: its weights would lie in memory beside those that are written and verified.
        session = make_session(self.path, Device("cpu", required=True), Threads())
        recipe, inputs = self.recipe, {value.name: value for value in session.get_inputs()}
        feeds: dict[str, NDArray[Any]]
        if isinstance(recipe, ImageRecipe):
            values = (batch * recipe.scale - np.array(recipe.mean)) / np.array(recipe.std)
            half = inputs["pixel_values"].type == "tensor(float16)"
            values = values.transpose(0, 3, 1, 2)
            feeds = {"pixel_values": values.astype(np.float16 if half else np.float32)}
        else:
            feeds = {"input_ids": batch}
            if _MASK in inputs:
                ends = [row.tolist().index(recipe.end_id) for row in batch]
                kept = np.arange(batch.shape[1]) <= np.array(ends)[:, None]
                feeds[_MASK] = kept.astype(np.int64)
        found: NDArray[np.float64] = session.run([self.output], feeds)[0].astype(np.float64)
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def write(self, path: Path) -> None:
        """Writes it with the ends of a bundle's graph."""
        model = _load(self.path)
        graph, surgeon = model.graph, Surgeon(model, "import")
        first = graph[0]
        given = {str(value.name): value for value in graph.inputs}
        if isinstance(self.recipe, ImageRecipe):
            source = pixels_input(self.recipe.size)
            pixels = _normalise(surgeon, first, source, self.recipe)
            if (dtype := given["pixel_values"].dtype) == ir.DataType.FLOAT16:
                pixels = surgeon.add(first, "Cast", [pixels], {"to": dtype})
            made = {"pixel_values": pixels}
        else:
            fixed = self.recipe.fixed_length
            source = ids_input(self.recipe.context_length if fixed else None)
            made = {"input_ids": source}
            if _MASK in self.inputs:
                made[_MASK] = _mask(surgeon, first, source, self.recipe.end_id)
        for name, value in given.items():
            value.replace_all_uses_with(made[name])
        graph.inputs[:] = [source]
        embedded = next(value for value in graph.outputs if value.name == self.output)
        single = ir.node("Cast", [embedded], {"to": ir.DataType.FLOAT}, name="single")
        unit = ir.node("LpNormalization", single.outputs, {"axis": -1, "p": 2}, name="unit")
        graph.extend([single, unit])
        output = unit.outputs[0]
        output.name, output.dtype = OUTPUT, ir.DataType.FLOAT
        output.shape = ir.Shape(["batch", self.width])
        graph.outputs[:] = [output]
        surgeon.prune()
        save(model, path)


def _load(path: Path) -> ir.Model:
    """Reads a graph. It may lie behind a link, its weights with it, as in huggingface_hub's cache.

    Raises:
        CheckpointError: It is no graph, or weights of it are not beside it.
    """
    try:
        _check_weights(path)
        return open_graph(path)
    except CheckpointError:
        raise
    except Exception as error:  # protobuf's and onnx_ir's errors share no base
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} cannot be read as an ONNX graph: {reason}; download it again (a clone of a "
            "repository holds pointers in the place of large files without git lfs pull)"
        ) from error


def _check_weights(path: Path) -> None:
    """Refuses a graph that takes weights from elsewhere, in whatever place of it.

    Raises:
        BundleError: It is no graph.
        CheckpointError: Weights are not in a file beside it.
    """
    beside = path.resolve().parent
    for location in sorted(external_locations(path)):
        place = Path(location)
        real = (path.parent / place).resolve()
        shown = printable(location)
        if place.is_absolute() or ".." in place.parts or not real.is_file():
            raise CheckpointError(f"{path} has weights in {shown}, which is not beside it")
        # ONNX Runtime follows no such link either since 1.24.
        if not real.is_relative_to(beside):
            raise CheckpointError(
                f"{path} has weights in {shown}, a link to {real}, which is not beside it: copy it "
                "there"
            )


def _oldest(model: ir.Model) -> str:
    """Of standard operators the oldest ONNX Runtime; of others the one at hand, which runs them."""
    if set(model.opset_imports) == {""} and model.opset_imports[""] <= _OLDEST_OPSET:
        return OLDEST
    return ".".join(import_onnxruntime().__version__.split(".")[:2])


def _normalise(surgeon: Surgeon, first: ir.Node, pixels: ir.Value, recipe: ImageRecipe) -> ir.Value:
    """(N, size, size, 3) bytes to (N, 3, size, size) floats, as the processor makes them."""
    std = np.array(recipe.std)
    gain = surgeon.constant("pixels.gain", (recipe.scale / std).astype(np.float32))
    offset = surgeon.constant("pixels.offset", (np.array(recipe.mean) / std).astype(np.float32))
    x = surgeon.add(first, "Cast", [pixels], {"to": ir.DataType.FLOAT})
    x = surgeon.add(first, "Mul", [x, gain])
    x = surgeon.add(first, "Sub", [x, offset])
    return surgeon.add(first, "Transpose", [x], {"perm": [0, 3, 1, 2]})


def _mask(surgeon: Surgeon, first: ir.Node, ids: ir.Value, end_id: int) -> ir.Value:
    """(N, T): 1 up to the first end token, and 0 where a text is filled up."""
    zero, one, axis = (
        surgeon.constant(f"mask.{name}", np.asarray(value, np.int64))
        for name, value in (("zero", 0), ("one", 1), ("axis", 1))
    )
    found = surgeon.add(
        first, "Equal", [ids, surgeon.constant("mask.end", np.asarray(end_id, np.int64))]
    )
    found = surgeon.add(first, "Cast", [found], {"to": ir.DataType.INT32})
    end = surgeon.add(first, "ArgMax", [found], {"axis": 1, "keepdims": 1})
    length = surgeon.add(first, "Gather", [surgeon.add(first, "Shape", [ids]), axis])
    places = surgeon.add(first, "Range", [zero, length, one])
    after = surgeon.add(first, "Greater", [places, end])
    kept = surgeon.add(first, "Not", [after])
    return surgeon.add(first, "Cast", [kept], {"to": ir.DataType.INT64})
