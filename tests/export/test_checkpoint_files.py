"""Checkpoints as people have them: weights alone, of a training, archives, folders within."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bareclip.bundle import Bundle
from bareclip_export import open_clip_models
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.errors import CheckpointError
from bareclip_export.export import export
from bareclip_export.open_clip_models import config_of_name
from bareclip_export.pickle_weights import read_pickle_weights
from tests.runtime.test_cli import run
from tests.seeded.clip import write_checkpoint as write_clip
from tests.seeded.open_clip import CONFIGS, write_checkpoint
from tests.torch_zip import write_torch_program, write_torch_zip

NAME = "Seeded"


@pytest.fixture(autouse=True)
def _a_small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenCLIP's names, and a small one among them."""
    tags = {"webli": {"preprocess_cfg": {"mean": [0.5] * 3, "resize_mode": "squash"}}}
    small = {
        NAME: {"model_cfg": _with_vocabulary("tiny"), "tags": {"openai": {"quick_gelu": True}}},
        "Squashed": {"model_cfg": _with_vocabulary("tiny"), "tags": tags},
    }
    known = open_clip_models.models() | small
    monkeypatch.setattr(open_clip_models, "models", lambda: known)


def _with_vocabulary(name: str) -> dict[str, Any]:
    from tests.seeded.clip import make_tokenizer

    config: dict[str, Any] = json.loads(json.dumps(CONFIGS[name]))
    config["text_cfg"]["vocab_size"] = len(make_tokenizer()["model"]["vocab"])
    return config


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tokenizer and, as safetensors, weights; no configuration."""
    made = write_checkpoint(tmp_path / "checkpoint")
    (made / "open_clip_config.json").unlink()
    return made


@pytest.fixture
def plain(tmp_path: Path) -> Bundle:
    return export(str(write_checkpoint(tmp_path / "plain")), tmp_path / "plain-bundle")


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "open_clip_model.safetensors")


@pytest.mark.parametrize("form", ["bare", "parallel", "training", "tutorial", "safetensors"])
def test_a_file_of_weights_is_the_model_that_it_is_said_to_be(
    folder: Path, plain: Bundle, form: str
) -> None:
    tensors, path = weights(folder), folder / "epoch_5.pt"
    parallel = {f"module.{name}": array for name, array in tensors.items()}
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(tensors, path)
    elif form == "bare":
        write_torch_zip(path, tensors)
    elif form == "parallel":
        write_torch_zip(path, parallel)
    elif form == "training":
        # As open_clip's trainer saves: the optimizer's state has numbers for keys.
        rest = {
            "epoch": 5,
            "name": "a run",
            "optimizer": {"state": {0: {"step": 3.0}, 1: {}}, "param_groups": [{"betas": (1, 2)}]},
            "scaler": {"scale": 65536.0, "_growth_tracker": 0},
        }
        write_torch_zip(path, parallel, within=("state_dict", rest))
    else:
        write_torch_zip(path, tensors, within=("model_state_dict", {"loss": 0.1}))
    made = export(str(path), folder.parent / "bundle", model=NAME)
    assert made.files() == plain.files()
    assert (made.name, made.source.checkpoint) == ("epoch_5", "epoch_5")


def test_a_training_checkpoint_in_openclips_folder(folder: Path, plain: Bundle) -> None:
    parallel = {f"module.{name}": array for name, array in weights(folder).items()}
    write_torch_zip(folder / "open_clip_pytorch_model.bin", parallel, within=("state_dict", {}))
    (folder / "open_clip_model.safetensors").unlink()
    shutil.copy(folder.parent / "plain" / "open_clip_config.json", folder)
    assert export(str(folder), folder.parent / "bundle").files() == plain.files()


def test_a_file_beside_openclips_configuration_needs_no_name(folder: Path, plain: Bundle) -> None:
    write_torch_zip(folder / "epoch_5.pt", weights(folder))
    shutil.copy(folder.parent / "plain" / "open_clip_config.json", folder)
    made = export(str(folder / "epoch_5.pt"), folder.parent / "bundle")
    assert made.files() == plain.files()


def test_the_command_takes_one(folder: Path) -> None:
    """Of real names there is none so small, so it says what is missing of one."""
    write_torch_zip(folder / "epoch_5.pt", weights(folder))
    found = run("export", folder / "epoch_5.pt", "--model", "ViT-B-32", "-o", folder / "x", code=1)
    assert found.stderr.count("\n") <= 2
    assert "where OpenCLIP's ViT-B-32 asks for" in found.stderr
    assert "give another --model" in found.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            None,
            r"does not say what model its weights are of: give one .* such as ViT-B-32 or",
        ),
        ("ViT-B-23", r"'ViT-B-23' is none of OpenCLIP's names, such as ViT-B-32"),
        (f"{NAME}__laion", r"no published weights 'laion'; known are openai"),
        ("Squashed", r"for this Squashed is unknown: .* Give --model Squashed__webli if it"),
        ("ViT-B-16-SigLIP", r"Give --model ViT-B-16-SigLIP__webli if it descends from those"),
        ("coca_ViT-B-32", r"OpenCLIP's coca_ViT-B-32 describes a CoCa"),
        (
            "ViTamin-S",
            r"has the timm model .vitamin_small_224.; we author convnext_tiny",
        ),
        ("RN50", r"is missing in .*epoch_5\.pt; the weights do not fit OpenCLIP's RN50: give"),
    ],
)
def test_what_is_not_known_is_said(folder: Path, name: str | None, message: str) -> None:
    write_torch_zip(folder / "epoch_5.pt", weights(folder))
    with pytest.raises(CheckpointError, match=message) as caught:
        export(str(folder / "epoch_5.pt"), folder.parent / "bundle", model=name)
    assert "\n" not in str(caught.value)
    assert not (folder.parent / "bundle").exists()


def test_a_file_without_a_tokenizer_says_where_its_own_is(folder: Path) -> None:
    write_torch_zip(folder / "epoch_5.pt", weights(folder))
    (folder / "tokenizer.json").unlink()
    for name, wanted in (
        ("ViT-B-32", "take them from .* for CLIP's own from openai/clip-vit-large-patch14"),
        ("ViT-B-16-SigLIP__webli", "take it, and tokenizer_config.json, from timm/ViT-B-16-Sig"),
        ("ViT-L-14-CLIPA__datacomp1b", "take either, and tokenizer_config.json, from bert-base-un"),
    ):
        with pytest.raises(CheckpointError, match=wanted):
            export(str(folder / "epoch_5.pt"), folder.parent / "bundle", model=name)


def test_a_file_of_hugging_faces_is_a_part_of_a_folder(tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip")
    with pytest.raises(CheckpointError, match=r"in Hugging Face's layout: give its folder, .*clip"):
        Checkpoint.open(str(folder / "model.safetensors"))


def test_an_archive_of_another_model_is_not_guessed(tmp_path: Path) -> None:
    odd = {
        "positional_embedding": np.zeros((0, 4), np.float32),
        "visual.proj": np.zeros(3, np.float32),
        "visual.conv1.weight": np.zeros((4, 3, 2, 2), np.float32),
        "visual.positional_embedding": np.zeros((0, 4), np.float32),
    }
    for number, tensors in enumerate(({"a.weight": np.ones(3, np.float32)}, odd)):
        path = tmp_path / f"{number}.pt"
        write_torch_program(path, tensors)
        with pytest.raises(CheckpointError, match="does not say what model its weights are of"):
            Checkpoint.open(str(path))


def test_a_folder_names_its_model_itself(folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"--model is for a file of weights, such as epoch_5"):
        Checkpoint.open(str(folder), model="ViT-B-32")


def test_a_tag_says_how_pictures_are_prepared(folder: Path) -> None:
    write_torch_zip(folder / "epoch_5.pt", weights(folder))
    path = str(folder / "epoch_5.pt")
    made = export(path, folder.parent / "squashed", model="Squashed__webli").image_recipe()
    assert (made.resize, made.mean) == ("squash", (0.5, 0.5, 0.5))
    quick = export(path, folder.parent / "quick", model=f"{NAME}__openai")
    other = export(path, folder.parent / "other", model=NAME)
    assert quick.files()["fp32/vision.onnx"] != other.files()["fp32/vision.onnx"]
    assert config_of_name("ViT-B-32-quickgelu__openai") == config_of_name("ViT-B-32__openai")


@pytest.mark.parametrize("model", ["tiny-quickgelu", "tiny-resnet"])
def test_openais_archives_say_themselves_what_they_are(tmp_path: Path, model: str) -> None:
    """Heads of 64, QuickGELU, texts among the model's own tensors: a program is not run for it."""
    config: dict[str, Any] = json.loads(json.dumps(CONFIGS[model]))
    config |= {"quick_gelu": True, "custom_text": False}
    vision = config["vision_cfg"]
    vision |= {"head_width": 64, "width": 64 if "patch_size" in vision else 8, "mlp_ratio": 4.0}
    if "patch_size" in vision:
        vision |= {"image_size": 28}
    config["text_cfg"] |= {"width": 64, "heads": 1}
    config["text_cfg"].pop("act_kwargs", None)
    folder = write_checkpoint(tmp_path / "checkpoint", config)
    wanted = export(str(folder), tmp_path / "wanted")
    half = {
        name: array.astype(np.float16) if array.dtype == np.float32 else array
        for name, array in weights(folder).items()
    }
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(folder / "tokenizer.json", alone)
    write_torch_program(alone / "archive.pt", half)
    made = export(str(alone / "archive.pt"), tmp_path / "bundle")
    assert made.source.architecture == wanted.source.architecture
    assert (made.image, made.text) == (wanted.image, wanted.text)
    widened = {name: array.astype(np.float32) for name, array in half.items()}
    save_file(widened, folder / "open_clip_model.safetensors")
    assert export(str(folder), tmp_path / "widened").files() == made.files()


def test_a_module_that_holds_a_call_is_refused(tmp_path: Path) -> None:
    target = tmp_path / "was-run"
    call = b"cposix\nsystem\nX%b%b\x85R" % (len(f"touch {target}").to_bytes(4, "little"),
                                            f"touch {target}".encode())  # fmt: skip
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as archive:
        module = b"c__torch__.m\nM\n)\x81}X\x01\0\0\0a" + call + b"sb."
        archive.writestr("archive/data.pkl", b"\x80\x02" + module)
        archive.writestr("archive/constants.pkl", b"\x80\x02)" + call + b".")
    with pytest.raises(CheckpointError, match=r"its pickle asks for posix\.system"):
        export(str(path), tmp_path / "bundle")
    assert not target.exists()


def test_a_module_within_itself_ends(tmp_path: Path) -> None:
    module = b"c__torch__.m\nM\n)\x81q\x00}X\x01\0\0\0ah\x00sb."
    path = tmp_path / "archive.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + module)
    assert read_pickle_weights(path) == {}


MODULES = [{"idx": 0, "name": "0", "path": "0_CLIPModel", "type": "x.models.CLIPModel"}]


@pytest.mark.parametrize("inner", ["0_CLIPModel", ""])
@pytest.mark.parametrize("normalized", [False, True])
def test_a_folder_of_sentence_transformers(
    tmp_path: Path, bundles: dict[str, Path], inner: str, normalized: bool
) -> None:
    outer = tmp_path / "clip-ViT-B-32"
    write_clip(outer / inner)
    more = [{"idx": 1, "name": "1", "path": "1_Normalize", "type": "x.Normalize"}] * normalized
    (outer / "modules.json").write_text(json.dumps([MODULES[0] | {"path": inner}, *more]))
    made = export(str(outer), tmp_path / "bundle")
    assert made.files() == Bundle.read(bundles["tiny"]).files()
    assert made.name == "clip-ViT-B-32"


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ([{"type": "x.Transformer", "path": ""}, {"type": "x.WordWeights", "path": "1"}],
         "with the modules Transformer, WordWeights; we author a CLIPModel alone"),
        ([{"type": "x.CLIPModel", "path": ""}, {"type": "x.Dense", "path": "1_Dense"}],
         "with the modules CLIPModel, Dense; we author a CLIPModel alone"),
        ([*MODULES, {"type": "x.Dense", "path": "2_Dense"}], "with the modules CLIPModel, Dense"),
        ([{"type": "x.CLIPModel", "path": "../elsewhere"}], r"in '\.\./elsewhere', outside of"),
        ([{"type": "x.CLIPModel", "path": ".."}], r"in '\.\.', outside of"),
        ({"type": 1}, "cannot read .*modules.json"),
        ([1], "cannot read .*modules.json"),
        ([], "cannot read .*modules.json"),
    ],
)  # fmt: skip
def test_other_modules_are_refused(tmp_path: Path, modules: Any, message: str) -> None:
    outer = write_clip(tmp_path / "outer")
    (outer / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(CheckpointError, match=message):
        Checkpoint.open(str(outer))
