import json
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import bareclip
from bareclip.bundle import Bundle
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.errors import CheckpointError
from bareclip_export.export import export
from tests.seeded.clip import write_checkpoint
from tests.torch_zip import write_torch_zip
from tests.variants import TEXTS, batch


@pytest.fixture
def folder(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the tiny checkpoint, to change."""
    return Path(shutil.copytree(checkpoints["tiny"], tmp_path / "checkpoint"))


def refusal(folder: Path) -> str:
    """Why it is not exported; and nothing is left where the bundle would have been."""
    with pytest.raises(CheckpointError) as caught:
        export(str(folder), folder.parent / "bundle")
    assert [path.name for path in folder.parent.iterdir()] == ["checkpoint"]
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def shard(folder: Path, tensors: dict[str, Any], suffix: str) -> None:
    """Replaces the weights by two shards and their index."""
    names = sorted(tensors)
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    weight_map = {}
    for index, part in enumerate((names[::2], names[1::2]), start=1):
        shard_name = f"{stem}-0000{index}-of-00002.{suffix}"
        chosen = {name: tensors[name] for name in part}
        (save_file if suffix == "safetensors" else _save_bin)(chosen, folder / shard_name)
        weight_map |= dict.fromkeys(part, shard_name)
    index_file = folder / f"{stem}.{suffix}.index.json"
    index_file.write_text(json.dumps({"weight_map": weight_map}))


def _save_bin(tensors: dict[str, Any], path: Path) -> None:
    write_torch_zip(path, tensors)


@pytest.mark.parametrize("form", ["sharded", "bin", "sharded bin"])
def test_other_forms_of_the_same_weights_give_the_same_bundle(
    folder: Path, bundles: dict[str, Path], form: str
) -> None:
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    if form == "bin":
        write_torch_zip(folder / "pytorch_model.bin", tensors)
    else:
        shard(folder, tensors, "bin" if form == "sharded bin" else "safetensors")
    made = export(str(folder), folder.parent / "bundle")
    assert made.files() == Bundle.read(bundles["tiny"]).files()


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_weights_are_read_as_they_are(tmp_path: Path, dtype: Any) -> None:
    half = write_checkpoint(tmp_path / "half", dtype=dtype)
    whole = write_checkpoint(tmp_path / "whole")
    widened = {
        name: array.astype(np.float32)
        for name, array in load_file(half / "model.safetensors").items()
    }
    save_file(widened, whole / "model.safetensors")
    files = [export(str(path), tmp_path / f"{path.name}-bundle").files() for path in (half, whole)]
    assert files[0] == files[1]


def test_safetensors_are_preferred_to_a_pickle(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"would be refused")
    export(str(folder), folder.parent / "bundle")


def test_the_license_travels_where_the_card_states_it(folder: Path) -> None:
    assert Checkpoint.open(str(folder)).license() is None
    (folder / "README.md").write_text("---\ntags:\n- vision\nlicense: apache-2.0\n---\n# card\n")
    made = export(str(folder), folder.parent / "bundle")
    assert made.source.license == "apache-2.0"
    assert made.source.checkpoint == "checkpoint"


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither config.json nor open_clip_config.json"):
        Checkpoint.open(str(tmp_path))
    with pytest.raises(CheckpointError, match="neither a folder here nor a name"):
        Checkpoint.open(str(tmp_path / "none"))


def test_an_architecture_we_do_not_author(folder: Path) -> None:
    edit(folder / "config.json", {"architectures": ["AltCLIPModel"]})
    assert "has the architecture AltCLIPModel; we author CLIPModel, " in refusal(folder)
    edit(folder / "config.json", {"architectures": None, "model_type": "bert"})
    assert "has the architecture bert" in refusal(folder)
    edit(folder / "config.json", {"architectures": [], "model_type": None})
    message = refusal(folder)
    assert "names neither architectures nor a model_type" in message
    assert 'add "architectures": ["CLIPModel"], or whichever of CLIPModel' in message


def test_a_config_as_transformers_5_may_have_it(folder: Path, bundles: dict[str, Path]) -> None:
    """Lists of one number, and no architectures: its model_type says as much."""
    config = json.loads((folder / "config.json").read_text())
    del config["architectures"]
    config["vision_config"] |= {"image_size": [32, 32], "patch_size": [8, 8]}
    config["text_config"]["eos_token_id"] = [config["text_config"]["eos_token_id"]]
    (folder / "config.json").write_text(json.dumps(config))
    made = export(str(folder), folder.parent / "bundle")
    assert made.files() == Bundle.read(bundles["tiny"]).files()
    assert made.source.architecture == "CLIPModel"


@pytest.mark.parametrize("name", ["gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh"])
def test_an_activation_by_another_name(folder: Path, name: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    files = []
    for activation in ("gelu_pytorch_tanh", name):
        for section in ("vision_config", "text_config"):
            config[section]["hidden_act"] = activation
        edit(folder / "config.json", config)
        files.append(export(str(folder), folder.parent / activation).files())
    assert files[0] == files[1]


@pytest.mark.parametrize("prefix", ["clip.", "model.", "module.", "_orig_mod.module.model."])
def test_a_model_that_was_a_part_of_another(
    folder: Path, bundles: dict[str, Path], prefix: str
) -> None:
    tensors = load_file(folder / "model.safetensors")
    named = {prefix + name: array for name, array in tensors.items()}
    save_file(named | {"head.weight": np.ones(3)}, folder / "model.safetensors")
    made = export(str(folder), folder.parent / "bundle")
    assert made.files() == Bundle.read(bundles["tiny"]).files()


def test_several_models_in_a_file(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    names = ("student.", "teacher.")
    both = {prefix + name: array for prefix in names for name, array in tensors.items()}
    save_file(both, folder / "model.safetensors")
    assert "holds several models, whose tensors begin with student., teacher.:" in refusal(folder)


def test_missing_and_misshapen_tensors_are_named_with_both_shapes(folder: Path) -> None:
    name = "text_model.encoder.layers.1.mlp.fc2.weight"
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: tensors[name].T.copy()}, folder / "model.safetensors")
    message = refusal(folder)
    assert f"{name!r} in" in message
    assert "has shape (64, 32), where the config.json beside them asks for (32, 64)" in message
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    assert f"{name!r} of shape (32, 64) is missing" in refusal(folder)


def test_no_weights_cut_weights_and_missing_shards(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2])
    assert "is not a whole safetensors file" in refusal(folder)
    weights.unlink()
    assert "has no weights: neither model.safetensors nor pytorch_model.bin" in refusal(folder)
    index = folder / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "model-00001-of-00002.safetensors"}}')
    assert "model-00001-of-00002.safetensors" in refusal(folder)
    (folder.parent / "checkpoint" / "model-1.safetensors").write_bytes(b"")
    index.write_text('{"weight_map": {"a": "../checkpoint/model-1.safetensors"}}')
    assert "is missing" in refusal(folder)
    index.write_text('{"weights": 1}')
    assert "has no weight_map" in refusal(folder)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        (
            "vision_config",
            {"hidden_act": "silu"},
            "the activation 'silu' of this checkpoint is none",
        ),
        ("vision_config", {"num_attention_heads": 5}, "5 heads in a width of 48"),
        ("vision_config", {"num_attention_heads": 1.5}, "num_attention_heads = 1.5, not a int"),
        ("text_config", {"num_hidden_layers": 0}, "num_hidden_layers = 0, not a int such as 12"),
        ("text_config", {"hidden_size": "wide"}, "text_config.hidden_size = 'wide', not a int"),
        ("vision_config", {"patch_size": 0}, "patch_size = 0, not a int such as 32"),
        ("text_config", {"eos_token_id": 5}, "says texts end with token 5"),
        ("vision_config", {"num_channels": 4}, "has 4 channels; we author 3"),
        ("vision_config", {"patch_size": 64}, "patches of 64 pixels in images of 32"),
        ("vision_config", {"image_size": [32, 64]}, "= [32, 64]; we author square images, and one"),
        ("vision_config", {"image_size": []}, "image_size = [], not a int such as 224"),
        ("text_config", {"eos_token_id": [604, 2]}, "= [604, 2]; we author square images, and one"),
    ],
)
def test_configs_that_make_no_sense(
    folder: Path, section: str, change: dict[str, Any], message: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", {section: config[section] | change})
    assert message in refusal(folder)


def test_sections_that_are_no_objects(folder: Path) -> None:
    edit(folder / "config.json", {"vision_config": ["x"]})
    assert "has ['x'] for vision_config, not an object" in refusal(folder)
    edit(folder / "config.json", {"vision_config": {}, "projection_dim": "wide"})
    assert "projection_dim = 'wide'" in refusal(folder)


def test_a_config_that_is_no_json(folder: Path) -> None:
    (folder / "config.json").write_text("{")
    assert "cannot read" in refusal(folder)
    (folder / "config.json").write_text("[]")
    assert "holds a list, not an object" in refusal(folder)


def test_defaults_and_repeated_sections_are_read_as_transformers_does(tmp_path: Path) -> None:
    """A section's "_dict" wins over it, with its defaults (transformers 4.57, CLIPConfig)."""
    folder = write_checkpoint(tmp_path / "checkpoint")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    wrong = config["text_config"] | {"num_attention_heads": 1, "hidden_act": "gelu"}
    whole = config["text_config"] | {"hidden_act": "quick_gelu"}
    edit(path, {"text_config": wrong, "text_config_dict": whole})
    made = export(str(folder), tmp_path / "made")
    plain = export(str(write_checkpoint(tmp_path / "plain")), tmp_path / "other")
    assert made.files() == plain.files()


def test_answers_do_not_depend_on_where_the_checkpoint_lay(
    folder: Path, bundles: dict[str, Path]
) -> None:
    export(str(folder), folder.parent / "bundle")
    clips = [bareclip.load(path) for path in (folder.parent / "bundle", bundles["tiny"])]
    answers = [
        np.concatenate([c.embed_images(list(batch(32, 3))), c.embed_texts(TEXTS)]) for c in clips
    ]
    np.testing.assert_array_equal(*answers)
