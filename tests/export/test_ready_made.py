"""bareclip import: folders in the Hub's transformers.js layout, made here."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import bareclip
from bareclip.bundle import Bundle
from bareclip_export.errors import CheckpointError, PrecisionError
from bareclip_export.export import import_graphs
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from tests.runtime.test_cli import run
from tests.seeded import siglip
from tests.seeded.clip import SIZES, write_checkpoint
from tests.variants import TEXTS, batch

WIDTH, OUT = 64, 20


def weights(*shape: int) -> onnx.TensorProto:
    rng = np.random.default_rng(shape)
    array = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    return numpy_helper.from_array(array.astype(np.float32), f"w{'x'.join(map(str, shape))}")


def write_graph(
    path: Path, inputs: dict[str, Any], nodes: list[Any], constants: list[Any], outputs: list[str]
) -> None:
    """At opset 14, as the Hub's folders have."""
    types = {"pixel_values": TensorProto.FLOAT}
    values = [
        helper.make_tensor_value_info(name, types.get(name, TensorProto.INT64), shape)
        for name, shape in inputs.items()
    ]
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(nodes, path.stem, values, given, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    path.parent.mkdir(exist_ok=True)
    onnx.save(model, path)


def write_vision(folder: Path, output: str = "image_embeds") -> None:
    kernel, hidden, last = weights(WIDTH, 3, 8, 8), weights(WIDTH, WIDTH), weights(WIDTH, OUT)
    node = helper.make_node
    nodes = [
        node("Conv", ["pixel_values", kernel.name], ["patches"], strides=[8, 8]),
        node("Relu", ["patches"], ["active"]),
        node("ReduceMean", ["active"], ["pooled"], axes=[2, 3], keepdims=0),
        node("MatMul", ["pooled", hidden.name], ["last_hidden_state"]),
        node("MatMul", ["last_hidden_state", last.name], [output]),
    ]
    shape = ["batch_size", "num_channels", "height", "width"]
    write_graph(
        folder / "onnx" / "vision_model.onnx",
        {"pixel_values": shape},
        nodes,
        [kernel, hidden, last],
        ["last_hidden_state", output],
    )


def write_text(
    folder: Path, vocabulary: int, output: str = "text_embeds", mask: bool = True
) -> None:
    """The mean of the tokens that the mask keeps, so that a wrong mask is seen."""
    table, last = weights(vocabulary, WIDTH), weights(WIDTH, OUT)
    node = helper.make_node
    axis = numpy_helper.from_array(np.array([2]), "axis")
    kept = "attention_mask" if mask else "input_ids"
    nodes = [
        node("Gather", [table.name, "input_ids"], ["tokens"]),
        node("Cast", [kept], ["kept"], to=TensorProto.FLOAT),
        node("Unsqueeze", ["kept", "axis"], ["column"]),
        node("Mul", ["tokens", "column"], ["masked"]),
        node("ReduceSum", ["masked", "one"], ["sum"], keepdims=0),
        node("MatMul", ["sum", last.name], [output]),
    ]
    one = numpy_helper.from_array(np.array([1]), "one")
    shape = ["batch_size", "sequence_length"]
    names = ["input_ids", "attention_mask"] if mask else ["input_ids"]
    path = folder / "onnx" / "text_model.onnx"
    write_graph(path, dict.fromkeys(names, shape), nodes, [table, last, axis, one], [output])


def set_weights_apart(path: Path) -> None:
    """Moves a graph's weights to a file beside it, named as transformers.js does."""
    model = onnx.load(path)
    apart = {"save_as_external_data": True, "location": f"{path.name}_data", "size_threshold": 0}
    onnx.save(model, path, **apart)


def source_answers(
    folder: Path, tower: str, output: str, feeds: dict[str, NDArray[Any]], name: str = ""
) -> NDArray[np.float64]:
    path = folder / "onnx" / (name or f"{tower}_model.onnx")
    session = onnxruntime.InferenceSession(str(path))
    vectors = session.run([output], feeds)[0].astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """CLIP's: float NCHW in, vectors of any length out, an attention mask."""
    made = write_checkpoint(tmp_path / "clip")
    (made / "model.safetensors").unlink()
    write_vision(made)
    write_text(made, json.loads((made / "config.json").read_text())["text_config"]["vocab_size"])
    return made


def test_a_folder_answers_as_its_graphs_do(folder: Path, tmp_path: Path) -> None:
    bundle = import_graphs(str(folder), tmp_path / "bundle")
    clip = bareclip.load(tmp_path / "bundle")
    images = batch(SIZES["tiny"].image, 4)
    image = bundle.image_recipe()
    values = (images / 255 - np.array(image.mean)) / np.array(image.std)
    given = values.transpose(0, 3, 1, 2).astype(np.float32)
    wanted = source_answers(folder, "vision", "image_embeds", {"pixel_values": given})
    np.testing.assert_allclose(clip.embed_images(list(images)), wanted, atol=1e-5)
    assert clip.texts.tokenizer is not None
    for text in TEXTS:
        ids = np.array(clip.texts.tokenizer.encode([text], truncate=True))
        feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        wanted = source_answers(folder, "text", "text_embeds", feeds)
        np.testing.assert_allclose(clip.embed_texts([text]), wanted, atol=1e-5)
    assert bundle.source.exporter.endswith("ready-made graphs")
    assert bundle.scoring.logit_scale == pytest.approx(np.log(100))
    for tower in bundle.precisions["fp32"].values():
        assert tower.parity is not None
        assert tower.parity.max_difference < 1e-6


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_it_is_quantized_as_ours_are(folder: Path, tmp_path: Path, precision: str) -> None:
    bundle = import_graphs(str(folder), tmp_path / "bundle")
    found = quantize(bundle, precision, Data([], []), force=True).fidelity[precision]
    for tower in found.towers.values():
        assert tower.mean_cosine > 0.97
        assert tower.batch_difference <= 1e-6


def test_one_graph_makes_a_bundle_of_one_tower(folder: Path, tmp_path: Path) -> None:
    (folder / "onnx" / "text_model.onnx").unlink()
    assert import_graphs(str(folder), tmp_path / "bundle").towers == ("vision",)


def test_siglip_wants_its_scale_and_bias(tmp_path: Path) -> None:
    folder = siglip.write_checkpoint(tmp_path / "siglip")
    vocabulary = json.loads((folder / "config.json").read_text())["text_config"]["vocab_size"]
    write_vision(folder, "pooler_output")
    write_text(folder, vocabulary, "pooler_output", mask=False)
    with pytest.raises(CheckpointError, match="does not hold SigLIP's scale and bias: give --logi"):
        import_graphs(str(folder), tmp_path / "bundle")
    made = tmp_path / "bundle"
    run("import", folder, "-o", made, "--logit-scale", "4.7", "--logit-bias", "-12.9")
    bundle = Bundle.read(made)
    assert bundle.scoring == bareclip.bundle.Scoring("sigmoid", 4.7, -12.9)
    assert bundle.text_recipe().fixed_length


def test_what_cannot_be_imported(folder: Path, tmp_path: Path) -> None:
    def refusal() -> str:
        with pytest.raises(CheckpointError) as caught:
            import_graphs(str(folder), tmp_path / "bundle")
        assert not (tmp_path / "bundle").exists()
        return str(caught.value)

    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "chinese_clip"}))
    assert "has model_type 'chinese_clip'; we import clip, siglip" in refusal()
    (folder / "config.json").write_text(json.dumps(config))
    write_vision(folder, "logits")
    assert "gives last_hidden_state, logits; it would have to take pixel_values" in refusal()
    for graph in (folder / "onnx").iterdir():
        graph.rename(graph.with_name(graph.name.replace(".onnx", "_quantized.onnx")))
    assert "neither onnx/vision_model.onnx nor onnx/text_model.onnx, which varia" in refusal()
    (folder / "config.json").unlink()
    assert "clip has no config.json, without which its graphs cannot be imported" in refusal()


def write_half(folder: Path, ends: bool) -> None:
    """Variants as transformers.js' conversion makes them: with ends in float32, or not."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    for path in [*(folder / "onnx").glob("*_model.onnx")]:
        half = convert_float_to_float16(onnx.load(path), keep_io_types=ends)
        onnx.save(half, path.with_name(path.name.replace("model", "model_fp16")))


def write_dynamic(folder: Path) -> None:
    from onnxruntime.quantization import quantize_dynamic

    for path in [*(folder / "onnx").glob("*_model.onnx")]:
        quantize_dynamic(path, path.with_name(path.name.replace("model", "model_quantized")))


@pytest.mark.parametrize("ends", [True, False])
def test_a_variant_is_taken_beside_float32(folder: Path, tmp_path: Path, ends: bool) -> None:
    write_half(folder, ends)
    run("import", folder, "-o", tmp_path / "bundle", "--variant", "fp16")
    bundle = Bundle.read(tmp_path / "bundle")
    assert set(bundle.precisions) == {"fp32", "fp16"}
    images = batch(SIZES["tiny"].image, 4)
    image = bundle.image_recipe()
    values = (images / 255 - np.array(image.mean)) / np.array(image.std)
    given = values.transpose(0, 3, 1, 2).astype(np.float32 if ends else np.float16)
    feeds = {"pixel_values": given}
    wanted = source_answers(folder, "vision", "image_embeds", feeds, "vision_model_fp16.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "bundle" / "fp16" / "vision.onnx")
    found = session.run(None, {"pixels": images})[0]
    assert found.dtype == np.float32
    stored = onnx.load(tmp_path / "bundle" / "fp16" / "vision.onnx").graph.initializer
    large = [tensor.data_type for tensor in stored if np.prod(tensor.dims) > WIDTH]
    assert set(large) == {TensorProto.FLOAT16}
    np.testing.assert_allclose(found, wanted, atol=2e-3)
    assert bundle.fidelity["fp16"].towers["text"].min_cosine > 0.9999


def test_a_variant_that_depends_on_its_batch_is_refused(folder: Path, tmp_path: Path) -> None:
    write_dynamic(folder)
    with pytest.raises(PrecisionError, match="depend on their batch by .*; nothing .* Leave quant"):
        import_graphs(str(folder), tmp_path / "bundle", variants=("quantized",))
    assert not (tmp_path / "bundle").exists()
    shown = run("import", folder, "-o", tmp_path / "bundle", "--variant", "quantized", "--force")
    assert "kept by force" in shown.stdout
    made = Bundle.read(tmp_path / "bundle")
    assert made.fidelity["int8"].forced
    assert made.damage() == []


def test_the_oldest_onnx_runtime_is_what_is_known(folder: Path, tmp_path: Path) -> None:
    made = import_graphs(str(folder), tmp_path / "plain")
    assert {tower.onnxruntime for tower in made.precisions["fp32"].values()} == {"1.18"}
    path = folder / "onnx" / "text_model.onnx"
    model = onnx.load(path)
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, path)
    made = import_graphs(str(folder), tmp_path / "contrib")
    assert made.precisions["fp32"]["vision"].onnxruntime == "1.18"
    assert onnxruntime.__version__.startswith(made.precisions["fp32"]["text"].onnxruntime)


def test_what_is_no_graph(folder: Path, tmp_path: Path) -> None:
    path = folder / "onnx" / "text_model.onnx"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n")
    found = run("import", folder, "-o", tmp_path / "bundle", code=1).stderr.splitlines()[-1]
    assert found.startswith(f"bareclip: {path} cannot be read as an ONNX graph: ")
    assert "git lfs pull" in found


def test_weights_that_are_missing(folder: Path, tmp_path: Path) -> None:
    set_weights_apart(folder / "onnx" / "vision_model.onnx")
    (folder / "onnx" / "vision_model.onnx_data").unlink()
    with pytest.raises(
        CheckpointError, match="has weights in vision_model.onnx_data, which is not"
    ):
        import_graphs(str(folder), tmp_path / "bundle")


def test_variants_that_cannot_be_had(folder: Path, tmp_path: Path) -> None:
    for given, message in (
        ("fp61", "variant 'fp61' is unknown; it is fp16, quantized, int8"),
        ("quantized,uint8", "variants quantized and uint8 are both in int8, of which a bundle has"),
        ("q4", "clip has no onnx/vision_model_q4.onnx"),
    ):
        found = run("import", folder, "-o", tmp_path / "b", "--variant", given, code=1).stderr
        assert message in found
        assert "Traceback" not in found


def refused(folder: Path, tmp_path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        import_graphs(str(folder), tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    return str(caught.value)


def test_nothing_is_taken_from_outside(folder: Path, tmp_path: Path) -> None:
    """A folder from elsewhere must not put a user's files into a bundle."""
    graph = folder / "onnx" / "vision_model.onnx"
    set_weights_apart(graph)
    apart, secret = graph.with_name("vision_model.onnx_data"), tmp_path / "secret"
    secret.write_bytes(apart.read_bytes())
    apart.unlink()
    apart.symlink_to(secret)
    assert f"a link to {secret}, which is not beside it: copy it there" in refused(folder, tmp_path)
    apart.unlink()
    for place in (str(secret), "../../secret", "sub/../../../secret"):
        model = onnx.load(graph, load_external_data=False)
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                entry.value = place if entry.key == "location" else entry.value
        onnx.save(model, graph)
        assert f"has weights in {place}, which is not beside it" in refused(folder, tmp_path)
    graph.unlink()
    write_vision(folder)
    graph.rename(tmp_path / "outside.onnx")
    graph.symlink_to(tmp_path / "outside.onnx")
    assert f"{graph} is a link to {tmp_path / 'outside.onnx'}, outside of" in refused(
        folder, tmp_path
    )


def in_attribute(location: str) -> onnx.NodeProto:
    tensor = numpy_helper.from_array(np.zeros(OUT, np.float32), "hidden")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return helper.make_node("Constant", [], ["hidden"], value=tensor)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("../../secret", "has weights in ../../secret, which is not beside it"),
        ("beside", "the vision graph refers to weights in beside, other than by an initializer"),
    ],
)
@pytest.mark.parametrize("within", [False, True])
def test_weights_of_attributes_do_not_stay_behind(
    folder: Path, tmp_path: Path, location: str, message: str, within: bool
) -> None:
    graph = folder / "onnx" / "vision_model.onnx"
    (tmp_path / "secret").write_bytes(bytes(4 * OUT))
    (graph.parent / "beside").write_bytes(bytes(4 * OUT))
    model = onnx.load(graph)
    nodes = [in_attribute(location)]
    if within:
        value = helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [OUT])
        branch = helper.make_graph(nodes, "branch", [], [value])
        yes = numpy_helper.from_array(np.array(True), "yes")
        model.graph.initializer.append(yes)
        nodes = [
            helper.make_node("If", ["yes"], ["hidden"], then_branch=branch, else_branch=branch)
        ]
    model.graph.node[-1].output[0] = "before"
    model.graph.node.extend(
        [*nodes, helper.make_node("Add", ["before", "hidden"], ["image_embeds"])]
    )
    onnx.save(model, graph)
    assert message in refused(folder, tmp_path)


def test_images_that_no_model_takes(folder: Path, tmp_path: Path) -> None:
    """An import would run the graph on one."""
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["image_size"] = 8192
    (folder / "config.json").write_text(json.dumps(config))
    assert "has images of 8192 pixels a side; we author up to 2048" in refused(folder, tmp_path)
