"""A third route: ready-made ONNX graphs in the Hub's transformers.js layout.

Nothing is exported. The graphs in ``onnx/`` keep all their nodes; at their ends they are given
what every bundle's graphs have: uint8 pixels or token ids in, unit vectors out.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bareclip.bundle import Bundle, ImageRecipe, Scoring, TextRecipe
from bareclip.installation import import_onnxruntime
from bareclip.session import Device, make_session
from bareclip.threads import Threads

from .checkpoint import Checkpoint
from .errors import CheckpointError, PrecisionError
from .files import VARIANTS, graph_file
from .graph import OUTPUT, ids_input, pixels_input, save
from .image_recipe import read_image_recipe
from .layouts import huggingface_siglip
from .layouts.huggingface_config import (
    CLIP_TEXT,
    CLIP_VISION,
    SIGLIP_TEXT,
    SIGLIP_VISION,
    read_text,
    read_vision,
)
from .precisions.add import Written
from .precisions.products import Surgeon
from .route import OLDEST, Conversion, Text
from .text_recipe import read_tokenizer

_ARCHITECTURE = "ready-made "
# The newest that ONNX Runtime 1.18 has.
_OLDEST_OPSET = 21
_MASK = "attention_mask"
_INPUTS = {"vision": {"pixel_values"}, "text": {"input_ids", _MASK}}
# By model type. CLIP's pooler_output is what comes before the projection.
_OUTPUTS = {
    "clip": {"vision": "image_embeds", "text": "text_embeds"},
    "siglip": {"vision": "pooler_output", "text": "pooler_output"},
}


def convert(checkpoint: Checkpoint, scale: float | None, bias: float | None) -> Conversion:
    """Prepares a folder of ready-made graphs.

    Args:
        checkpoint: With config.json, the processor's and the tokenizer's files, and ``onnx/``.
        scale, bias: logit_scale and logit_bias of the model, which such folders do not hold.
            Without a scale CLIP has the logarithm of 100, where its training ends.

    Raises:
        CheckpointError: No graphs, of another model type, or with inputs or outputs that are
            unknown; or a SigLIP without its scale and bias.
    """
    graphs = [t for t in ("vision", "text") if (checkpoint.folder / graph_file(t)).is_file()]
    if not graphs:
        raise CheckpointError(
            f"{checkpoint.name} has neither {graph_file('vision')} nor {graph_file('text')}, which "
            "variants beside them are measured against"
        )
    kind = str(checkpoint.config.get("model_type")).removesuffix("_model").partition("_")[0]
    if kind not in _OUTPUTS:
        raise CheckpointError(
            f"{checkpoint.config_path} has model_type {checkpoint.config.get('model_type')!r}; "
            f"we import {', '.join(_OUTPUTS)}"
        )
    image = _image(checkpoint, kind) if "vision" in graphs else None
    text = _text(checkpoint, kind) if "text" in graphs else None
    towers = _towers(checkpoint, kind, image, text.recipe if text else None)
    return Conversion(
        architecture=f"{_ARCHITECTURE}{kind}",
        exporter="ready-made graphs",
        embedding_dim=next(iter(towers.values())).width(),
        scoring=_scoring(checkpoint, kind, scale, bias),
        image=image,
        text=text,
        write={tower: graph.write for tower, graph in towers.items()},
        reference={tower: graph.reference() for tower, graph in towers.items()},
        reference_name="the ready-made graph",
        onnxruntime={tower: graph.onnxruntime for tower, graph in towers.items()},
    )


def parse_variants(names: str) -> tuple[str, ...]:
    """Reads what the command line names, such as ``"fp16,quantized"``.

    Raises:
        PrecisionError: One is unknown, or two are in the same precision.
    """
    found = tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    for name in found:
        if name not in VARIANTS:
            raise PrecisionError(f"variant {name!r} is unknown; it is {', '.join(VARIANTS)}")
        alike = [other for other in found if VARIANTS[other] == VARIANTS[name]]
        if len(alike) > 1:
            raise PrecisionError(
                f"variants {' and '.join(alike)} are both in {VARIANTS[name]}, of which a bundle "
                "has one: give one of them"
            )
    return found


def write_variant(
    checkpoint: Checkpoint, bundle: Bundle, variant: str, made: Path, scratch: Path
) -> dict[str, Written]:
    """Writes graphs of a variant as a precision of the bundle that its float32 graphs became.

    Raises:
        CheckpointError: A tower of the bundle has no such graph, or one with unknown inputs or
            outputs.
    """
    for tower in bundle.towers:
        if not (checkpoint.folder / graph_file(tower, variant)).is_file():
            raise CheckpointError(f"{checkpoint.name} has no {graph_file(tower, variant)}")
    kind = bundle.source.architecture.removeprefix(_ARCHITECTURE)
    towers = _towers(checkpoint, kind, bundle.image, bundle.text, variant)
    for tower, graph in towers.items():
        graph.write(made / f"{tower}.onnx")
    return {
        tower: Written(f"ready-made, {variant}", graph.onnxruntime)
        for tower, graph in towers.items()
    }


def _towers(
    checkpoint: Checkpoint,
    kind: str,
    image: ImageRecipe | None,
    text: TextRecipe | None,
    variant: str | None = None,
) -> dict[str, "_Graph"]:
    ends: dict[str, ImageRecipe | TextRecipe | None] = {"vision": image, "text": text}
    return {
        tower: _Graph.open(
            checkpoint.folder / graph_file(tower, variant), tower, _OUTPUTS[kind][tower], recipe
        )
        for tower, recipe in ends.items()
        if recipe is not None
    }


def _image(checkpoint: Checkpoint, kind: str) -> ImageRecipe:
    size = read_vision(checkpoint, SIGLIP_VISION if kind == "siglip" else CLIP_VISION).image_size
    processor = "SiglipImageProcessor" if kind == "siglip" else "CLIPImageProcessor"
    return read_image_recipe(checkpoint, size, processor)


def _text(checkpoint: Checkpoint, kind: str) -> Text:
    config = read_text(checkpoint, SIGLIP_TEXT if kind == "siglip" else CLIP_TEXT)
    if kind == "siglip":
        made = huggingface_siglip.tokenizer(checkpoint, config)
    else:
        made = read_tokenizer(checkpoint, config.context_length, config.vocabulary, config.end_id)
    return Text(*made, config.vocabulary)


def _scoring(checkpoint: Checkpoint, kind: str, scale: float | None, bias: float | None) -> Scoring:
    if kind == "clip":
        return Scoring("softmax", math.log(100) if scale is None else scale, bias or 0.0)
    if scale is None or bias is None:
        raise CheckpointError(
            f"{checkpoint.name} does not hold SigLIP's scale and bias: give --logit-scale and "
            "--logit-bias, which are tensors of those names in the original's model.safetensors"
        )
    return Scoring("sigmoid", scale, bias)


@dataclass(frozen=True)
class _Graph:
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
    ) -> "_Graph":
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

    def width(self) -> int:
        """Of its vectors, as it gives them."""
        recipe = self.recipe
        if isinstance(recipe, ImageRecipe):
            one: NDArray[Any] = np.zeros((1, recipe.size, recipe.size, 3), np.uint8)
        else:
            one = np.full((1, recipe.context_length), recipe.end_id)
        return int(self.reference()(one).shape[1])

    def reference(self) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
        """(a batch) -> (N, D) unit rows, by the graph as it is and its input made in NumPy."""
        return partial(_run, self.path, self.output, self.recipe)

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
        output.shape = ir.Shape(["batch", self.width()])
        graph.outputs[:] = [output]
        surgeon.prune()
        save(model, path)


def _load(path: Path) -> ir.Model:
    """Reads a graph. Weights that lie apart may lie behind links, as in huggingface_hub's cache.

    Raises:
        CheckpointError: It is no graph, or weights of it are not beside it.
    """
    try:
        model = ir.load(path)
    except Exception as error:  # protobuf's and onnx_ir's errors share no base
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path} cannot be read as an ONNX graph: {reason}; download it again (a clone of a "
            "repository holds pointers in the place of large files without git lfs pull)"
        ) from error
    for value in model.graph.initializers.values():
        if isinstance(tensor := value.const_value, ir.ExternalTensor):
            place = Path(tensor.location)
            real = (path.parent / place).resolve()
            if place.is_absolute() or ".." in place.parts or not real.is_file():
                raise CheckpointError(f"{path} has weights in {place}, which is not beside it")
            value.const_value = ir.ExternalTensor(
                real.name,
                tensor.offset,
                tensor.length,
                tensor.dtype,
                shape=tensor.shape,
                name=str(tensor.name),
                base_dir=real.parent,
            )
    return model


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


def _run(
    path: Path, output: str, recipe: ImageRecipe | TextRecipe, batch: NDArray[Any]
) -> NDArray[np.float64]:
    session = make_session(path, Device("cpu", required=True), Threads())
    feeds: dict[str, NDArray[Any]]
    if isinstance(recipe, ImageRecipe):
        values = (batch * recipe.scale - np.array(recipe.mean)) / np.array(recipe.std)
        half = session.get_inputs()[0].type == "tensor(float16)"
        values = values.transpose(0, 3, 1, 2)
        feeds = {"pixel_values": values.astype(np.float16 if half else np.float32)}
    else:
        feeds = {"input_ids": batch}
        if _MASK in [value.name for value in session.get_inputs()]:
            ends = [row.tolist().index(recipe.end_id) for row in batch]
            feeds[_MASK] = (np.arange(batch.shape[1]) <= np.array(ends)[:, None]).astype(np.int64)
    vectors: NDArray[np.float64] = session.run([output], feeds)[0].astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
