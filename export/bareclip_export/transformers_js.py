"""A bundle as a folder that transformers.js loads: its names, its files, one graph of both towers.

What transformers.js does to a picture and a text before they reach a graph is its own: see
docs/edge.md.
"""

import json
import math
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import tokenizers
from onnxscript import GraphBuilder
from tokenizers import Regex, normalizers

from bareclip import __version__
from bareclip.bundle import TOKENIZER, Bundle, CleanUp, ImageRecipe, TextRecipe
from bareclip.encoders import ImageEncoder, Options, TextEncoder
from bareclip.files import scratch_folder
from bareclip.inference.device import Device
from bareclip.inference.session import make_session
from bareclip.inference.threads import Threads
from bareclip.measure.samples import AWKWARD_TEXTS, drawn_pixels
from bareclip.texts.guard import open_tokenizer

from .disk import room_on_disk
from .errors import CheckpointError, ParityError
from .files import graph_file
from .graph import add_output, check_graphs, finished, new_graph, open_graph
from .image_recipe import RESAMPLING
from .join import absorb
from .parity import TOLERANCE
from .text_recipe import save_tokenizer

# What transformers.js calls our precisions in its files' names; its "q8" is "quantized".
_VARIANTS = {"fp32": None, "int8": "quantized", "int4": "q4", "fp16": "fp16"}
# A protocol buffer ends at 2 GiB; weights of more lie in a file beside the graph.
_LARGEST_FILE = 1_900_000_000
# What each graph is called, and the towers in it.
_GRAPHS = {"model": ("vision", "text"), "vision": ("vision",), "text": ("text",)}
# What a tower gives, in a graph of its own, by what scores are made of.
_OUTPUTS = {
    "softmax": {"vision": "image_embeds", "text": "text_embeds"},
    "sigmoid": {"vision": "pooler_output", "text": "pooler_output"},
}
# Steps before a tokenizer as what tokenizer.json itself can do.
_NORMALIZERS: dict[CleanUp, Callable[[], list[normalizers.Normalizer]]] = {
    "underscores_to_spaces": lambda: [normalizers.Replace("_", " ")],
    "remove_punctuation": lambda: [
        normalizers.Replace(Regex("[" + "".join(f"\\{c}" for c in string.punctuation) + "]"), "")
    ],
    "lowercase": lambda: [normalizers.Lowercase()],
    "collapse_whitespace": lambda: [
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
    ],
}


def write_layout(
    bundle: Bundle, output: Path, report: Callable[[str], None] = lambda message: None
) -> list[Path]:
    """Writes a folder for transformers.js, and verifies it before it appears.

    Args:
        bundle: Of both towers.
        output: The folder, which is not there yet.
        report: Told each step in a line.

    Returns:
        The graphs that were written.

    Raises:
        CheckpointError: A tower is missing, or ``output`` is there.
        BundleError: A graph names other files than the bundle's.
        ParityError: A graph answers otherwise than the bundle.
        DiskFullError: It does not fit.
    """
    image, text = bundle.image_recipe(), bundle.text_recipe()
    output = free_place(output)
    if bundle.static_batch is not None:
        raise CheckpointError(
            f"{bundle.folder} has graphs of fixed shapes, and transformers.js asks for any: "
            "export the checkpoint without --static"
        )
    precisions = [name for name in bundle.precisions if name in _VARIANTS]
    check_graphs(bundle, precisions)
    apart: dict[str, int] = {}
    made = []
    with room_on_disk(), scratch_folder(output) as folder:
        (folder / "onnx").mkdir()
        for precision in precisions:
            for name, towers in _GRAPHS.items():
                path = folder / _file(name, _VARIANTS[precision])
                report(f"writing {path.relative_to(folder)}")
                if _write(bundle, precision, towers, path):
                    apart[path.name] = 1
                made.append(output / path.relative_to(folder))
            report(f"verifying {precision} against the bundle")
            _check(bundle, precision, folder)
        _write_json(folder / "config.json", _config(bundle, image, text, apart))
        _write_json(folder / "preprocessor_config.json", _preprocessor(image))
        _write_tokenizer(bundle, text, folder, report)
        folder.rename(output)
    return made


def free_place(output: Path) -> Path:
    """Where a folder for transformers.js can be made, as a whole path.

    Raises:
        CheckpointError: Something is there.
    """
    output = output.resolve()
    if output.exists():
        raise CheckpointError(f"{output} exists already; give another -o")
    return output


def _file(graph: str, variant: str | None) -> str:
    if graph != "model":
        return graph_file(graph, variant)
    return f"onnx/model{f'_{variant}' if variant else ''}.onnx"


def _write(bundle: Bundle, precision: str, towers: tuple[str, ...], path: Path) -> bool:
    """Writes a graph; whether its weights lie in a file of their own."""
    side = bundle.image_recipe().size
    inputs = {
        "text": [
            _value("input_ids", ir.DataType.INT64, ["batch_text", "sequence_length"]),
            # Unused: a tower finds the end of a text itself. transformers.js hands it over.
            _value("attention_mask", ir.DataType.INT64, ["batch_text", "sequence_length"]),
        ],
        "vision": [_value("pixel_values", ir.DataType.FLOAT, ["batch_image", 3, side, side])],
    }
    wanted = [value for name in inputs if name in towers for value in inputs[name]]
    builder = new_graph(path.stem, wanted)
    vectors: dict[str, ir.Value] = {}
    for name in towers:
        model = open_graph(bundle.folder / bundle.tower(precision, name).graph)
        given = _bytes if name == "vision" else _ids
        recipe = bundle.image_recipe() if name == "vision" else bundle.text_recipe()
        source = given(builder, inputs[name][0], recipe)
        [vectors[name]] = absorb(builder.graph, model, {str(model.graph.inputs[0].name): source})
    width, kind = bundle.embedding_dim, bundle.scoring.function
    if len(towers) == 2:
        _add_scores(builder, bundle, vectors)
    for name in reversed(towers):
        label = _OUTPUTS[kind][name] if len(towers) == 1 else _OUTPUTS["softmax"][name]
        batch = "batch_image" if name == "vision" else "batch_text"
        add_output(builder, vectors[name], label, ir.DataType.FLOAT, [batch, width])
    model = finished(builder)
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value)
    if size > _LARGEST_FILE:
        ir.save(model, path, external_data=f"{path.name}_data")
        return True
    ir.external_data.load_to_model(model)
    ir.save(model, path)
    return False


def _value(name: str, dtype: ir.DataType, shape: list[int | str]) -> ir.Value:
    return ir.Value(name=name, type=ir.TensorType(dtype), shape=ir.Shape(shape))


def _bytes(builder: GraphBuilder, values: ir.Value, recipe: Any) -> ir.Value:
    """(N, 3, S, S) normalised floats -> the bytes (N, S, S, 3) that they were made of."""
    op = builder.op
    std, mean = np.array(recipe.std), np.array(recipe.mean)
    gain, offset = (
        ir.tensor((part / recipe.scale).astype(np.float32).reshape(3, 1, 1), name=f"bytes.{name}")
        for name, part in (("gain", std), ("offset", mean))
    )
    x = op.Add(op.Mul(values, builder.initializer(gain)), builder.initializer(offset))
    x = op.Cast(op.Clip(op.Round(x), 0.0, 255.0), to=ir.DataType.UINT8)
    return op.Transpose(x, perm=[0, 2, 3, 1])


def _ids(builder: GraphBuilder, ids: ir.Value, recipe: Any) -> ir.Value:
    """Ids whose last one is the end where transformers.js cut it off, filled up where they must be.

    It cuts a long text and all that stood around it (tokenization_utils.js, truncateHelper).
    """
    op, end = builder.op, recipe.end_id
    length = op.Shape(ids, start=1, end=2)
    ordinal = op.Range(1, op.Add(op.Squeeze(length), 1), 1)
    ended = op.ReduceMax(op.Cast(op.Equal(ids, end), to=ir.DataType.INT32), [1], keepdims=1)
    cut = op.And(op.Equal(ended, op.Cast(0, to=ir.DataType.INT32)), op.Equal(ordinal, length))
    ids = op.Where(cut, end, ids)
    if recipe.fixed_length:
        missing = op.Sub([recipe.context_length], length)
        ids = op.Pad(ids, op.Concat([0, 0, 0], missing, axis=0), recipe.pad_id)
    return ids


def _add_scores(builder: GraphBuilder, bundle: Bundle, vectors: dict[str, ir.Value]) -> None:
    op, scoring = builder.op, bundle.scoring
    cosines = op.MatMul(vectors["vision"], op.Transpose(vectors["text"], perm=[1, 0]))
    scores = op.Add(op.Mul(cosines, math.exp(scoring.logit_scale)), scoring.logit_bias)
    by_text = op.Transpose(scores, perm=[1, 0])
    for name, value, shape in (
        ("logits_per_image", scores, ["batch_image", "batch_text"]),
        ("logits_per_text", by_text, ["batch_text", "batch_image"]),
    ):
        add_output(builder, value, name, ir.DataType.FLOAT, shape)


def _config(
    bundle: Bundle, image: ImageRecipe, text: TextRecipe, apart: dict[str, int]
) -> dict[str, Any]:
    vocabulary = open_tokenizer(bundle.folder / TOKENIZER).get_vocab()
    return {
        "model_type": "siglip" if bundle.scoring.function == "sigmoid" else "clip",
        "exporter": f"bareclip {__version__}",
        # Of the trained model, for who makes scores of vectors.
        "logit_scale": bundle.scoring.logit_scale,
        "logit_bias": bundle.scoring.logit_bias,
        "projection_dim": bundle.embedding_dim,
        # Readers want patches that fit, of whatever tower.
        "vision_config": {"image_size": image.size, "patch_size": min(image.size, 32)},
        "text_config": {
            "vocab_size": max(vocabulary.values()) + 1,
            "max_position_embeddings": text.context_length,
            "eos_token_id": text.end_id,
        },
        "transformers.js_config": {"use_external_data_format": apart},
    }


def _preprocessor(image: ImageRecipe) -> dict[str, Any]:
    shortest = image.resize == "shortest"
    kind = "CLIPImageProcessor" if shortest else "SiglipImageProcessor"
    square = {"height": image.size, "width": image.size}
    to = image.resize_to
    return {
        "image_processor_type": kind,
        "do_resize": True,
        "size": {"shortest_edge": to} if shortest else {"height": to, "width": to},
        "resample": next(n for n, name in RESAMPLING.items() if name == image.interpolation),
        "do_center_crop": shortest or to > image.size,
        "crop_size": square,
        "do_rescale": True,
        "rescale_factor": image.scale,
        "do_normalize": True,
        "image_mean": image.mean,
        "image_std": image.std,
        "do_convert_rgb": True,
    }


def _write_tokenizer(
    bundle: Bundle, text: TextRecipe, folder: Path, report: Callable[[str], None]
) -> None:
    tokenizer = open_tokenizer(bundle.folder / TOKENIZER)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    steps: list[normalizers.Normalizer] = []
    for step in text.clean_up:
        if step in _NORMALIZERS:
            steps += _NORMALIZERS[step]()
        else:
            report(f"tokenizer.json cannot do {step}: clean texts so before they are tokenized")
    if steps:
        given = [tokenizer.normalizer] if tokenizer.normalizer else []
        tokenizer.normalizer = normalizers.Sequence([*steps, *given])
    save_tokenizer(tokenizer, folder / TOKENIZER)
    clip = bundle.scoring.function == "softmax"
    config = {
        "tokenizer_class": "CLIPTokenizer" if clip else "PreTrainedTokenizerFast",
        "model_max_length": text.context_length,
        "padding_side": "right",
        "pad_token": _token(tokenizer, text.pad_id),
        "eos_token": _token(tokenizer, text.end_id),
    }
    _write_json(folder / "tokenizer_config.json", config)


def _token(tokenizer: tokenizers.Tokenizer, number: int) -> str:
    found = tokenizer.id_to_token(number)
    if found is None:
        raise CheckpointError(f"the bundle's tokenizer has no token {number}, which fills texts up")
    return str(found)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _check(bundle: Bundle, precision: str, folder: Path) -> None:
    """Holds the graph of both towers to the bundle's own, on the same pixels and tokens."""
    options = Options(precision=precision, device="cpu", cache=False, any_precision=True)
    images, texts = ImageEncoder(bundle, options), TextEncoder(bundle, options)
    recipe = images.recipe
    pixels = drawn_pixels(recipe.size, 2)
    values = (pixels * recipe.scale - np.array(recipe.mean)) / np.array(recipe.std)
    vectors = {"image_embeds": images.embed_pixels(pixels)}
    rows = [(ids, texts.embed_tokens(ids)) for _, ids in texts.batches(AWKWARD_TEXTS)]
    session = make_session(
        folder / _file("model", _VARIANTS[precision]), Device("cpu", required=True), Threads()
    )
    for ids, wanted in rows:
        feeds = {
            "pixel_values": values.transpose(0, 3, 1, 2).astype(np.float32),
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
        }
        names = [value.name for value in session.get_outputs()]
        found = dict(zip(names, session.run(None, feeds), strict=True))
        vectors["text_embeds"] = wanted
        for name, vector in vectors.items():
            difference = float(np.abs(found[name] - vector).max())
            if not difference <= TOLERANCE:  # NaN fails too
                raise ParityError(
                    f"{name} of the {precision} graph differ from the bundle's vectors by "
                    f"{difference:.1e}; nothing was written. Please report this bundle"
                )
