"""Quantized graphs: their operators, their numbers, and that no vector depends on a batch."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray
from onnxruntime.quantization import QuantType, quantize_dynamic

from bareclip.bundle import Bundle
from bareclip_export.errors import PrecisionError
from bareclip_export.graph import save
from bareclip_export.precisions import fp16, int8
from bareclip_export.precisions.fp16 import write_fp16
from bareclip_export.precisions.fuse import fuse
from bareclip_export.precisions.int4 import write_int4
from bareclip_export.precisions.int8 import write_int8
from bareclip_export.precisions.observe import Observation, observe
from bareclip_export.precisions.products import Surgeon, array_of, find_products, find_tables
from bareclip_export.precisions.sensitivity import choose_static
from bareclip_export.precisions.smooth import smooth

from .conftest import operators, run

Inputs = dict[tuple[str, str], list[NDArray[Any]]]
TOWERS = ("vision", "text")


def source(bundles: dict[str, Path], variant: str, tower: str) -> Path:
    return bundles[variant] / "fp32" / f"{tower}.onnx"


def image_of(bundles: dict[str, Path], variant: str, tower: str) -> Any:
    return Bundle.read(bundles[variant]).image if tower == "vision" else None


def cosines(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    return (left * right).sum(axis=1)


def write_static(
    bundles: dict[str, Path], inputs: Inputs, variant: str, tower: str, folder: Path
) -> Path:
    graph = source(bundles, variant, tower)
    observed = observe(graph, inputs[variant, tower], folder)
    target = folder / f"{tower}.onnx"
    write_int8(graph, target, image_of(bundles, variant, tower), observed, observed)
    return target


def write(
    kind: str, bundles: dict[str, Path], inputs: Inputs, variant: str, tower: str, folder: Path
) -> Path:
    graph, image = source(bundles, variant, tower), image_of(bundles, variant, tower)
    target = folder / f"{tower}.onnx"
    if kind == "static":
        return write_static(bundles, inputs, variant, tower, folder)
    if kind == "weight-only":
        write_int8(graph, target, image, {}, ())
    elif kind == "int4":
        write_int4(graph, target, image, {}, ())
    else:
        write_fp16(graph, target, inputs[variant, tower], folder)
    return target


KINDS = {"static": 0.995, "weight-only": 0.999, "int4": 0.95, "fp16": 0.99999}


@pytest.mark.parametrize("tower", TOWERS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_valid_graph_near_fp32(
    bundles: dict[str, Path],
    inputs: Inputs,
    variant: str,
    tower: str,
    kind: str,
    tmp_path: Path,
) -> None:
    target = write(kind, bundles, inputs, variant, tower, tmp_path)
    onnx.checker.check_model(str(target))
    for batch in inputs[variant, tower]:
        wanted = run(source(bundles, variant, tower), batch)
        assert cosines(run(target, batch), wanted).min() > KINDS[kind]


@pytest.mark.parametrize("kind", ["static", "weight-only", "int4"])
def test_an_image_is_the_same_alone_and_among_bright_and_dark_ones(
    bundles: dict[str, Path], inputs: Inputs, variant: str, kind: str, tmp_path: Path
) -> None:
    target = write(kind, bundles, inputs, variant, "vision", tmp_path)
    assert batch_difference(target, inputs[variant, "vision"][0]) <= 1e-6


def test_dynamic_quantization_would_fail_that(
    bundles: dict[str, Path], inputs: Inputs, tmp_path: Path
) -> None:
    target = tmp_path / "dynamic.onnx"
    quantize_dynamic(source(bundles, "tiny", "vision"), target, weight_type=QuantType.QInt8)
    assert batch_difference(target, inputs["tiny", "vision"][0]) > 1e-4


def batch_difference(graph: Path, pixels: NDArray[np.uint8]) -> float:
    bright, dark = pixels[0] // 16 + 240, pixels[0] // 16
    worst = 0.0
    for image in pixels[:4]:
        alone = run(graph, image[None])[0]
        for count in (2, 7, 32):
            batch = np.stack([(bright, dark)[i % 2] for i in range(count)])
            batch[count // 2] = image
            worst = max(worst, float(np.abs(run(graph, batch)[count // 2] - alone).max()))
    return worst


def one_product(folder: Path, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> Path:
    """x @ weight + bias, and nothing else."""
    rows, columns = weight.shape
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["n", rows]))
    graph = ir.Graph([x], [], nodes=[], opset_imports={"": 18}, name="g")
    model = ir.Model(graph, ir_version=8)
    surgeon = Surgeon(model)
    product = ir.node("MatMul", [x, surgeon.constant("w", weight)])
    added = ir.node("Add", [product.outputs[0], surgeon.constant("b", bias)])
    graph.extend([product, added])
    added.outputs[0].name, product.outputs[0].name = "y", "xw"
    added.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    added.outputs[0].shape = ir.Shape(["n", columns])
    graph.outputs.append(added.outputs[0])
    save(model, folder / "product.onnx")
    return folder / "product.onnx"


@pytest.mark.parametrize("kind", ["static", "weight-only", "int4"])
def test_a_row_of_a_product_does_not_depend_on_how_many_there_are(
    tmp_path: Path, kind: str
) -> None:
    rng = np.random.default_rng(4)
    weight = rng.standard_normal((512, 256)).astype(np.float32)
    graph = one_product(tmp_path, weight, np.zeros(256, np.float32))
    x = rng.standard_normal((33, 512)).astype(np.float32)
    if kind == "static":
        write_int8(graph, tmp_path / "q.onnx", None, observe(graph, [x], tmp_path), {"w"})
    elif kind == "weight-only":
        write_int8(graph, tmp_path / "q.onnx", None, {}, ())
    else:
        write_int4(graph, tmp_path / "q.onnx", None, {}, ())
    together = run(tmp_path / "q.onnx", x)
    for count in (2, 3, 4, 5, 7, 8, 9, 16, 31, 32):
        np.testing.assert_array_equal(run(tmp_path / "q.onnx", x[:count]), together[:count])
    # Without VNNI, ONNX Runtime adds up a single row of 4 bits in another order.
    rounding_error = 1e-6 * np.abs(together).max() if kind == "int4" else 0
    alone = run(tmp_path / "q.onnx", x[:1])
    np.testing.assert_allclose(alone, together[:1], rtol=0, atol=rounding_error)


def test_a_static_product_is_the_one_that_numpy_computes_in_integers(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    weight = rng.standard_normal((64, 40)).astype(np.float32)
    bias = rng.standard_normal(40).astype(np.float32)
    x = (rng.standard_normal((50, 64)) * 2 + 1).astype(np.float32)
    graph = one_product(tmp_path, weight, bias)
    observed = observe(graph, [x], tmp_path)
    write_int8(graph, tmp_path / "q.onnx", None, observed, {"w"})
    assert operators(tmp_path / "q.onnx") == ["QuantizeLinear", "MatMulIntegerToFloat"]

    low, high = float(x.min()), float(x.max())
    scale = np.float32((high - low) / 255)
    zero = int(np.rint(-low / scale))
    numbers = np.clip(np.rint(x / scale) + zero, 0, 255).astype(np.int64) - zero
    steps = np.abs(weight).max(axis=0) / 64
    integers = np.rint(weight / steps).astype(np.int64)
    shift = x.mean(axis=0, dtype=np.float64) @ (weight - integers * steps)
    wanted = (numbers @ integers) * (scale * steps).astype(np.float64) + bias + shift
    np.testing.assert_allclose(run(tmp_path / "q.onnx", x), wanted, rtol=1e-5, atol=1e-5)
    # On the average nothing is shifted.
    plain = x.astype(np.float64) @ weight + bias
    assert np.abs((wanted - plain).mean(axis=0)).max() < np.abs(wanted - plain).mean() / 4


def test_the_first_product_takes_bytes(
    bundles: dict[str, Path], inputs: Inputs, tmp_path: Path
) -> None:
    target = write("weight-only", bundles, inputs, "tiny", "vision", tmp_path)
    found = operators(target)
    assert found[:4] == ["Reshape", "Transpose", "Reshape", "MatMulIntegerToFloat"]
    assert "Cast" not in found
    assert "QuantizeLinear" not in found


def test_operators_of_an_int8_tower(
    bundles: dict[str, Path], inputs: Inputs, tmp_path: Path
) -> None:
    found = Counter(operators(write("static", bundles, inputs, "tiny", "text", tmp_path)))
    # Two blocks: query, key, value, out and two of the MLP. The head is too small here to be
    # worth its scales.
    assert found["MatMulIntegerToFloat"] == 12
    # Once for query, key and value of the first block, and for key and value of the last.
    assert found["QuantizeLinear"] == 9
    assert found["MatMul"] == 5  # of attention, and the head
    assert found["MatMulNBits"] == 0
    found = Counter(operators(write("weight-only", bundles, inputs, "tiny", "text", tmp_path)))
    assert (found["MatMulNBits"], found["MatMulIntegerToFloat"]) == (12, 0)


def test_attention_without_a_mask_is_one_operator_in_int8(
    bundles: dict[str, Path], inputs: Inputs, tmp_path: Path
) -> None:
    for kind in ("static", "weight-only"):
        found = Counter(operators(write(kind, bundles, inputs, "tiny", "vision", tmp_path)))
        # The class token's, in the last of three blocks, is another thing.
        assert (found["MultiHeadAttention"], found["Softmax"]) == (2, 1)
        found = Counter(operators(write(kind, bundles, inputs, "tiny", "text", tmp_path)))
        assert (found["MultiHeadAttention"], found["Softmax"]) == (0, 2)


def test_a_fused_attention_is_what_its_products_and_softmax_compute(
    bundles: dict[str, Path], inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, image = source(bundles, "tiny", "vision"), image_of(bundles, "tiny", "vision")
    observed = observe(graph, inputs["tiny", "vision"], tmp_path)
    write_int8(graph, tmp_path / "fused.onnx", image, observed, observed)
    monkeypatch.setattr(int8, "fuse_unmasked_attention", lambda model: None)
    write_int8(graph, tmp_path / "plain.onnx", image, observed, observed)
    for batch in inputs["tiny", "vision"]:
        fused, plain = run(tmp_path / "fused.onnx", batch), run(tmp_path / "plain.onnx", batch)
        # What follows is rounded to 8 bits, so that a last bit may make a step.
        np.testing.assert_allclose(fused, plain, rtol=0, atol=2e-3)
        assert np.median(np.abs(fused - plain)) < 1e-4


def test_an_int4_tower_keeps_8_bits_where_one_token_is_pooled(
    bundles: dict[str, Path], inputs: Inputs, tmp_path: Path
) -> None:
    graph = source(bundles, "odd", "text")
    seen = observe(graph, inputs["odd", "text"], tmp_path)
    pooled = {name for name, one in seen.items() if one.pooled}
    assert {name for name in pooled if "last" in name} == {
        f"blocks.last.{layer}.weight" for layer in ("query", "out", "mlp.expand", "mlp.contract")
    }
    write_int4(graph, tmp_path / "int4.onnx", None, {}, pooled)
    bits = {
        attribute.i
        for node in onnx.load(tmp_path / "int4.onnx").graph.node
        if node.op_type == "MatMulNBits" and node.input[1].removesuffix(".int8") in pooled
        for attribute in node.attribute
        if attribute.name == "bits"
    }
    assert bits == {8}
    kept = Counter(operators(tmp_path / "int4.onnx"))["MatMulNBits"]
    assert kept == len(seen) > len(pooled)


def test_token_tables_are_rounded_too(
    bundles: dict[str, Path], inputs: Inputs, tmp_path: Path
) -> None:
    for kind, bits in (("weight-only", 8), ("int4", 4)):
        target = write(kind, bundles, inputs, "tiny", "text", tmp_path)
        tables = find_tables(ir.load(source(bundles, "tiny", "text")))
        [rows] = [table.rows() for table in tables if table.name == "tokens"]
        kept = {i.name: i for i in onnx.load(target).graph.initializer}
        assert "tokens" not in kept
        assert len(kept[f"tokens.int{bits}"].raw_data) == rows.size * bits // 8


# A tower with outlier channels, as trained ones have: the function is the same.
def with_outliers(graph: Path, target: Path, factor: float) -> None:
    model = ir.load(graph)
    products = find_products(model)
    surgeon = Surgeon(model)
    for product in products:
        norm = product.input.producer()
        if norm is None or norm.op_type != "LayerNormalization" or "expand" not in product.name:
            continue
        factors = np.ones(product.shape[0], np.float32)
        factors[::11] = factor
        for place in (1, 2):
            value = norm.inputs[place]
            norm.replace_input_with(
                place, surgeon.constant(f"{product.name}.{place}", array_of(value) * factors)
            )
        product.scale_rows(surgeon, 1 / factors)
    surgeon.prune()
    save(model, target)


@pytest.fixture
def outliers(bundles: dict[str, Path], tmp_path: Path) -> Path:
    with_outliers(source(bundles, "tiny", "vision"), tmp_path / "vision.onnx", 60)
    return tmp_path / "vision.onnx"


def test_smoothing_changes_no_answer(
    bundles: dict[str, Path], inputs: Inputs, variant: str, tmp_path: Path
) -> None:
    for tower in TOWERS:
        graph = source(bundles, variant, tower)
        observed = observe(graph, inputs[variant, tower], tmp_path)
        model = ir.load(graph)
        smoothed = smooth(model, find_products(model), observed)
        Surgeon(model).prune()
        save(model, tmp_path / "smooth.onnx")
        changed = [name for name in observed if smoothed[name] is not observed[name]]
        assert len(changed) >= 1
        batch = inputs[variant, tower][0]
        difference = np.abs(run(tmp_path / "smooth.onnx", batch) - run(graph, batch)).max()
        assert difference < 1e-6
        again = observe(tmp_path / "smooth.onnx", inputs[variant, tower], tmp_path)
        for name in changed:
            found = again[f"{name}.smooth"]
            np.testing.assert_allclose(found.high, smoothed[name].high, rtol=1e-3, atol=1e-4)
            np.testing.assert_allclose(found.mean, smoothed[name].mean, rtol=1e-3, atol=1e-4)


def test_smoothing_saves_what_outlier_channels_cost(
    bundles: dict[str, Path], inputs: Inputs, outliers: Path, tmp_path: Path
) -> None:
    batches = inputs["tiny", "vision"]
    image = image_of(bundles, "tiny", "vision")
    observed = observe(outliers, batches, tmp_path)
    wanted = np.concatenate([run(outliers, batch) for batch in batches])
    lost = {}
    for smoothed in (True, False):
        target = tmp_path / f"q{smoothed}.onnx"
        write_int8(outliers, target, image, observed, observed, smoothed)
        found = np.concatenate([run(target, batch) for batch in batches])
        lost[smoothed] = 1 - cosines(found, wanted).mean()
    assert lost[True] < lost[False] / 10
    assert lost[True] < 0.005


def test_sensitive_products_stay_float(
    inputs: Inputs, outliers: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    batches = inputs["tiny", "vision"]
    observed = observe(outliers, batches, tmp_path)
    chosen = choose_static(outliers, batches, observed, tmp_path, smoothed=False)
    left_out = set(observed) - set(chosen)
    assert any("expand" in name for name in left_out)
    assert 0 < len(chosen) < len(observed)
    assert not any(observed[name].pooled for name in chosen)
    harmless = choose_static(outliers, batches, observed, tmp_path)
    assert set(harmless) == {
        name for name, seen in observed.items() if not seen.pooled and name != "patch"
    }


def test_what_is_observed(bundles: dict[str, Path], inputs: Inputs, tmp_path: Path) -> None:
    graph = source(bundles, "tiny", "vision")
    observed = observe(graph, inputs["tiny", "vision"], tmp_path)
    assert len(observed) == len(find_products(ir.load(graph))) == 19
    pixels = np.concatenate(inputs["tiny", "vision"]).reshape(16, 4, 8, 4, 8, 3)
    rows = pixels.transpose(0, 1, 3, 2, 4, 5).reshape(-1, 192)
    patch = observed["patch"]
    np.testing.assert_array_equal(patch.high, rows.max(axis=0))
    np.testing.assert_array_equal(patch.low, rows.min(axis=0))
    np.testing.assert_allclose(patch.mean, rows.mean(axis=0), rtol=1e-6)
    assert (patch.rows, patch.inputs) == (16 * 16, 16)
    assert observed["blocks.last.attention.query.weight"].pooled
    texts = observe(source(bundles, "tiny", "text"), inputs["tiny", "text"], tmp_path)
    assert texts["blocks.last.query.weight"].pooled
    assert not texts["blocks.full.0.query.weight"].pooled
    halved = patch.divided(np.full(192, 2, np.float32))
    assert dataclasses.astuple(halved)[3:] == (patch.rows, patch.inputs)
    np.testing.assert_allclose(halved.high, patch.high / 2)
    assert isinstance(halved, Observation)


def test_an_fp16_tower_is_fused_and_keeps_its_ends_float32(
    bundles: dict[str, Path], inputs: Inputs, variant: str, tmp_path: Path
) -> None:
    activation = "QuickGelu" if variant == "tiny" else "Gelu"
    for tower in TOWERS:
        target = write("fp16", bundles, inputs, variant, tower, tmp_path)
        model = onnx.load(target)
        found = Counter(node.op_type for node in model.graph.node)
        blocks = found[activation]
        plain = int(tower == "vision")  # the class token's attention
        assert found["MultiHeadAttention"] == blocks - plain >= 0
        assert found["Softmax"] == plain
        assert found["Sigmoid"] + found["Erf"] + found["NonZero"] == 0
        types = {i.name: i.data_type for i in model.graph.initializer}
        whole = {name for name, kind in types.items() if kind == onnx.TensorProto.FLOAT}
        assert whole == ({"patch", "positions"} if tower == "vision" else set())
        assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        attention = [n for n in model.graph.node if n.op_type == "MultiHeadAttention"]
        causal = [any(a.name == "unidirectional" for a in n.attribute) for n in attention]
        if tower == "vision":
            assert causal == [False] * (blocks - 1)
            continue
        # The pooled token's row of the mask is not a causal one; it goes in as a bias.
        assert causal == [True] * (blocks - 1) + [False]
        assert [len(n.input) for n in attention] == [3] * (blocks - 1) + [6]


def test_fused_towers_answer_as_plain_ones(
    bundles: dict[str, Path], inputs: Inputs, variant: str, tmp_path: Path
) -> None:
    for tower in TOWERS:
        graph = source(bundles, variant, tower)
        model = ir.load(graph)
        fuse(model)
        save(model, tmp_path / "fused.onnx")
        fused = Counter(operators(tmp_path / "fused.onnx"))
        plain = int(tower == "vision")
        assert fused["MultiHeadAttention"] == fused["QuickGelu"] + fused["Gelu"] - plain
        for batch in inputs[variant, tower]:
            np.testing.assert_allclose(
                run(tmp_path / "fused.onnx", batch), run(graph, batch), atol=2e-6
            )


def test_numbers_too_large_for_16_bits_are_refused(
    bundles: dict[str, Path], inputs: Inputs, tmp_path: Path
) -> None:
    graph = tmp_path / "vision.onnx"
    with_outliers(source(bundles, "tiny", "vision"), graph, 1e5)
    model = ir.load(graph)
    [product, *_] = [p for p in find_products(model) if "expand" in p.name]
    product.scale_rows(Surgeon(model), np.full(product.shape[0], 1e5, np.float32))
    Surgeon(model).prune()
    save(model, graph)
    with pytest.raises(PrecisionError, match=r"reaches \d+, too near to what 16 bits hold \(65504"):
        write_fp16(graph, tmp_path / "half.onnx", inputs["tiny", "vision"], tmp_path)
    assert fp16.LARGEST == 65504
