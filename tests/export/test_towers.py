"""The authored graphs: their nodes, and that folding and pooling change no answer."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from bareclip.bundle import Bundle
from bareclip_export.authored import convert
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.graph import IR_VERSION, OPSET
from bareclip_export.parity import TOLERANCE
from tests.seeded.clip import Sizes, Tower, write_checkpoint
from tests.variants import TEXTS, VARIANTS, batch

BLOCK = Counter(LayerNormalization=2, MatMul=8, Add=6, Reshape=4, Transpose=4, Softmax=1)
# As silu, its factor in the layers around it.
QUICK_GELU = Counter(Mul=1, Sigmoid=1)
GELU = Counter(Mul=3, Erf=1, Add=1)
HEAD = Counter(LayerNormalization=1, Squeeze=1, MatMul=1, ReduceL2=1, Div=1)
# The class token's block: the keys' and the values' weights on the query's side.
CLASS = Counter(
    LayerNormalization=2, MatMul=8, Add=6, Mul=2, Transpose=2, Softmax=1, ReduceSum=1, Slice=2
)


def graph(bundles: dict[str, Path], variant: str, tower: str) -> onnx.ModelProto:
    return onnx.load(bundles[variant] / "fp32" / f"{tower}.onnx", load_external_data=False)


def blocks(count: int, activation: Counter[str]) -> Counter[str]:
    total: Counter[str] = Counter()
    for _ in range(count):
        total += BLOCK + activation
    return total


def test_the_vision_graphs_nodes(bundles: dict[str, Path]) -> None:
    front = Counter(Reshape=2, Transpose=1, Cast=1, MatMul=1, Pad=1, Add=1, LayerNormalization=1)
    found = Counter(node.op_type for node in graph(bundles, "tiny", "vision").graph.node)
    assert found == front + blocks(2, QUICK_GELU) + CLASS + QUICK_GELU + HEAD
    found = Counter(node.op_type for node in graph(bundles, "odd", "vision").graph.node)
    # 30 pixels in patches of 7: two are cut off first.
    assert found == front + Counter(Slice=1) + CLASS + GELU + HEAD


def test_the_text_graphs_nodes(bundles: dict[str, Path]) -> None:
    front = Counter(Shape=1, Gather=2, Slice=2, Concat=1, Add=1, Cast=1, ArgMax=1, Unsqueeze=1)
    prefixes = Counter(
        Shape=1, Squeeze=2, Range=1, Unsqueeze=1, LessOrEqual=1, Where=1, Concat=2, Expand=1,
        Slice=2, Equal=1, Not=1, Cast=2, CumSum=3, Greater=1, And=1, Add=2, Sub=1, Transpose=1,
        NonZero=1, Split=1, Mul=1, Reshape=1, Gather=1,
    )  # fmt: skip
    pool = Counter(Unsqueeze=3, GatherND=1, Gather=4)  # the last block's spreads among them
    shared = Counter(Gather=4, Reshape=1)  # of each block but the last
    masks = Counter(Add=2)
    found = Counter(node.op_type for node in graph(bundles, "tiny", "text").graph.node)
    end = Counter(Equal=1)
    whole = front + prefixes + pool + HEAD
    assert found == whole + end + blocks(2, QUICK_GELU) + masks + shared
    found = Counter(node.op_type for node in graph(bundles, "odd", "text").graph.node)
    assert found == whole + blocks(3, GELU) + Counter(Add=3) + shared + shared


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_graphs_load_in_old_runtimes_and_keep_their_interface(
    bundles: dict[str, Path], variant: str, tower: str
) -> None:
    model = graph(bundles, variant, tower)
    assert model.ir_version == IR_VERSION <= 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    onnx.checker.check_model(str(bundles[variant] / "fp32" / f"{tower}.onnx"), full_check=True)

    def shape(value: onnx.ValueInfoProto) -> list[Any]:
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    size = VARIANTS[variant].image
    [given], [output] = model.graph.input, model.graph.output
    wanted = (
        ("pixels", ["batch", size, size, 3]) if tower == "vision" else ("ids", ["batch", "tokens"])
    )
    assert (given.name, shape(given)) == wanted
    assert (output.name, shape(output)) == ("embeddings", ["batch", VARIANTS[variant].embedding])
    manifest = Bundle.read(bundles[variant]).precisions["fp32"][tower]
    assert manifest.inputs == (given.name,)


def test_node_names_are_the_modules_own(bundles: dict[str, Path]) -> None:
    model = graph(bundles, "tiny", "vision")
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    weights = {i.name for i in model.graph.initializer}
    assert {"patch", "blocks.full.0.query.weight", "head.projection"} <= weights
    assert "blocks.last.attention.key.weight" in weights


def test_large_weights_lie_beside_the_graph_on_page_boundaries(bundles: dict[str, Path]) -> None:
    model = graph(bundles, "tiny", "vision")
    external = [i for i in model.graph.initializer if i.external_data]
    assert external
    for weight in external:
        fields = {entry.key: entry.value for entry in weight.external_data}
        assert fields["location"] == "vision.onnx.data"
        assert int(fields.get("offset", 0)) % 4096 == 0


# Widths, heads and depths that a mistake in a reshape or a scale would not survive.
SHAPES = {
    "one block each, one head": Sizes(Tower(16, 8, 1, 1), 16, 16, Tower(8, 24, 1, 1), 7, 5),
    "deep and narrow": Sizes(Tower(12, 20, 6, 4), 21, 5, Tower(20, 12, 5, 5), 30, 9, "gelu"),
    "wide heads": Sizes(Tower(96, 64, 2, 2), 48, 12, Tower(64, 96, 2, 1), 77, 64, legacy_end=True),
}


@pytest.mark.parametrize("name", SHAPES)
def test_any_shape_answers_as_the_float64_forward(tmp_path: Path, name: str) -> None:
    sizes = SHAPES[name]
    conversion = convert(Checkpoint.open(str(write_checkpoint(tmp_path / "checkpoint", sizes))))
    assert conversion.text is not None
    vocabulary = conversion.text.vocabulary
    pixels = batch(sizes.image, 5)
    ids = np.random.default_rng(1).integers(0, vocabulary, (5, sizes.context))
    ids[np.arange(5), [0, 1, 2, 3, sizes.context - 1]] = vocabulary - 1
    for tower, given in (("vision", pixels), ("text", ids)):
        path = tmp_path / f"{tower}.onnx"
        conversion.write[tower](path)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        [found] = session.run(None, {session.get_inputs()[0].name: given})
        assert np.abs(found - conversion.reference[tower](given)).max() < TOLERANCE


def test_padding_after_the_end_changes_nothing(bundles: dict[str, Path], variant: str) -> None:
    from bareclip.texts.tokenizer import Tokenizer

    folder = bundles[variant]
    bundle = Bundle.read(folder)
    tokenizer = Tokenizer.load(folder / "tokenizer.json", bundle.text)
    path = folder / "fp32" / "text.onnx"
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for ids in tokenizer.encode(TEXTS, truncate=True):
        short = np.array([ids], np.int64)
        room = bundle.text.context_length - len(ids)
        padded = np.pad(short, [(0, 0), (0, room)], constant_values=bundle.text.pad_id)
        answers = [session.run(None, {"ids": given})[0] for given in (short, padded)]
        np.testing.assert_allclose(*answers, atol=1e-6)
