"""A third route: ready-made ONNX graphs in the Hub's transformers.js layout.

Nothing is exported. The graphs in ``onnx/`` keep all their nodes; at their ends they are given
what every bundle's graphs have: uint8 pixels or token ids in, unit vectors out.
"""

import math
from collections.abc import Sequence
from pathlib import Path

from bareclip.bundle import TOWERS, Bundle, ImageRecipe, Scoring, TextRecipe
from bareclip.errors import short

from .checkpoint import Checkpoint
from .errors import CheckpointError, PrecisionError
from .files import VARIANTS, graph_file
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
from .ready_made_graph import ReadyMadeGraph
from .reference import read_tokens
from .route import Conversion, Text
from .text_recipe import read_tokenizer

# By model type. CLIP's pooler_output is what comes before the projection.
_OUTPUTS = {
    "clip": {"vision": "image_embeds", "text": "text_embeds"},
    "siglip": {"vision": "pooler_output", "text": "pooler_output"},
}


def convert(
    checkpoint: Checkpoint, scale: float | None, bias: float | None, variants: Sequence[str]
) -> Conversion:
    """Prepares a folder of ready-made graphs.

    Args:
        checkpoint: With config.json, the processor's and the tokenizer's files, and ``onnx/``.
        scale, bias: logit_scale and logit_bias of the model, which such folders do not hold, but
            those that bareclip wrote.
            Without a scale CLIP has the logarithm of 100, where its training ends.
        variants: Which are to be there too, for every tower.

    Raises:
        CheckpointError: No graphs, or none of a variant; of another model type; with inputs or
            outputs that are unknown; or a SigLIP without its scale and bias.
    """
    graphs = [t for t in TOWERS if checkpoint.holds(graph_file(t))]
    if not graphs:
        raise CheckpointError(
            f"{checkpoint.name} has neither {graph_file('vision')} nor {graph_file('text')}, which "
            "variants beside them are measured against"
        )
    for name in (graph_file(tower, variant) for variant in variants for tower in graphs):
        if not checkpoint.holds(name):
            raise CheckpointError(f"{checkpoint.name} has no {name}")
    kind = _kind(checkpoint)
    image = _image(checkpoint, kind) if "vision" in graphs else None
    text = _text(checkpoint, kind) if "text" in graphs else None
    towers = _towers(checkpoint, image, text.recipe if text else None)
    return Conversion(
        architecture=f"ready-made {kind}",
        exporter="ready-made graphs",
        embedding_dim=next(iter(towers.values())).width,
        scoring=_scoring(checkpoint, kind, scale, bias),
        image=image,
        text=text,
        write={tower: graph.write for tower, graph in towers.items()},
        reference={tower: graph.embed for tower, graph in towers.items()},
        reference_name="the ready-made graph",
        tokens=read_tokens(checkpoint) if text else None,
        onnxruntime={tower: graph.onnxruntime for tower, graph in towers.items()},
    )


def check_variants(names: Sequence[str]) -> None:
    """Refuses variants that a bundle cannot have.

    Raises:
        PrecisionError: One is unknown, or two are in the same precision.
    """
    for name in names:
        if name not in VARIANTS:
            raise PrecisionError(f"variant {name!r} is unknown; it is {', '.join(VARIANTS)}")
    for name in names:
        alike = [other for other in names if VARIANTS[other] == VARIANTS[name]]
        if len(alike) > 1:
            raise PrecisionError(
                f"variants {' and '.join(alike)} are both in {VARIANTS[name]}, of which a bundle "
                "has one: give one of them"
            )


def write_variant(
    checkpoint: Checkpoint, bundle: Bundle, variant: str, made: Path, scratch: Path
) -> dict[str, Written]:
    """Writes graphs of a variant as a precision of the bundle that its float32 graphs became.

    Raises:
        CheckpointError: A graph has unknown inputs or outputs.
    """
    towers = _towers(checkpoint, bundle.image, bundle.text, variant)
    for tower, graph in towers.items():
        graph.write(made / f"{tower}.onnx")
    return {
        tower: Written(f"ready-made, {variant}", graph.onnxruntime)
        for tower, graph in towers.items()
    }


def _towers(
    checkpoint: Checkpoint,
    image: ImageRecipe | None,
    text: TextRecipe | None,
    variant: str | None = None,
) -> dict[str, ReadyMadeGraph]:
    ends: dict[str, ImageRecipe | TextRecipe | None] = {"vision": image, "text": text}
    outputs = _OUTPUTS[_kind(checkpoint)]
    return {
        tower: ReadyMadeGraph.open(
            checkpoint.folder / graph_file(tower, variant), tower, outputs[tower], recipe
        )
        for tower, recipe in ends.items()
        if recipe is not None
    }


def _kind(checkpoint: Checkpoint) -> str:
    """The family whose names its graphs' outputs have."""
    given = checkpoint.config.get("model_type")
    kind = str(given).removesuffix("_model").partition("_")[0]
    if kind not in _OUTPUTS:
        raise CheckpointError(
            f"{checkpoint.config_path} has model_type {short(given)}; we import "
            f"{', '.join(_OUTPUTS)}"
        )
    return kind


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
    # Folders of ours have them in their config.json.
    scale = _trained(checkpoint, "logit_scale") if scale is None else scale
    bias = _trained(checkpoint, "logit_bias") if bias is None else bias
    if kind == "clip":
        return Scoring("softmax", math.log(100) if scale is None else scale, bias or 0.0)
    if scale is None or bias is None:
        raise CheckpointError(
            f"{checkpoint.name} does not hold SigLIP's scale and bias: give --logit-scale and "
            "--logit-bias, which are tensors of those names in the original's model.safetensors"
        )
    return Scoring("sigmoid", scale, bias)


def _trained(checkpoint: Checkpoint, name: str) -> float | None:
    """A scalar of the trained model, where the config has it."""
    value = checkpoint.config.get(name)
    if value is None or (type(value) in (int, float) and abs(value) < 1e6):
        return None if value is None else float(value)
    raise CheckpointError(f"{checkpoint.config_path} has {name} = {short(value)}, not a number")
