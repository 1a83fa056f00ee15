"""Configs, indices and tokenizers that nobody wrote: one clear error, whatever is in them."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bareclip.errors import BareclipError
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.image_recipe import read_image_recipe
from bareclip_export.layouts import read_model
from bareclip_export.ready_made import convert
from bareclip_export.reference import read_forwards
from bareclip_export.sentencepiece_model import read_siglip
from tests.export.fuzzing import COUNT, damaged, odd
from tests.export.test_ready_made import write_text, write_vision
from tests.export.test_sentencepiece_model import END, model

FILES = {
    "tiny": ["config.json", "preprocessor_config.json", "tokenizer.json"],
    "siglip": ["config.json", "preprocessor_config.json", "tokenizer_config.json"],
    "open_clip": ["open_clip_config.json", "tokenizer.json"],
    "open_clip-last": ["open_clip_config.json", "tokenizer_config.json"],
    "open_clip-resnet": ["open_clip_config.json"],
    "open_clip-siglip": ["open_clip_config.json"],
}


@pytest.fixture
def folders(checkpoints: dict[str, Path], family_checkpoints: dict[str, Path]) -> dict[str, Path]:
    return {
        "tiny": checkpoints["tiny"],
        "siglip": family_checkpoints["siglip"],
        "open_clip": family_checkpoints["tiny"],
        **{f"open_clip-{k}": family_checkpoints[f"tiny-{k}"] for k in ("last", "resnet", "siglip")},
    }


def refused_or_read(read: Callable[[], Any], given: Any) -> None:
    """Nothing but errors of ours, each of one line that is not too long to read."""
    message = ""
    try:
        read()
    except BareclipError as error:
        message = str(error)
    except Exception as error:
        raise AssertionError(f"{type(error).__name__} for {str(given)[:2000]}") from error
    assert "\n" not in message, given
    assert len(message) < 3000, given


@pytest.mark.parametrize(("layout", "name"), [(k, v) for k, names in FILES.items() for v in names])
def test_an_odd_config_is_refused_or_read(
    folders: dict[str, Path], tmp_path: Path, layout: str, name: str
) -> None:
    folder = Path(shutil.copytree(folders[layout], tmp_path / "checkpoint"))
    whole = json.loads((folder / name).read_text(encoding="utf-8"))
    weights = Checkpoint.open(str(folder)).tensors
    for config in odd(whole, seed=len(layout) * 100 + len(name), count=COUNT // 8):
        (folder / name).write_text(json.dumps(config), encoding="utf-8")

        def read() -> None:
            checkpoint = Checkpoint.open(str(folder))
            checkpoint.__dict__["tensors"] = weights
            read_model(checkpoint)
            read_forwards(checkpoint)

        refused_or_read(read, config)


def test_an_odd_index_of_shards_is_refused_or_read(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoints["tiny"], tmp_path / "checkpoint"))
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    names = Checkpoint.open(str(checkpoints["tiny"])).tensors.tensors
    whole = {"metadata": {}, "weight_map": dict.fromkeys(names, "model-00001-of-00001.safetensors")}
    for index in odd(whole, seed=3):
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
        refused_or_read(lambda: Checkpoint.open(str(folder)).tensors, index)


def test_damaged_safetensors_are_refused_or_read(
    checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(checkpoints["tiny"], tmp_path / "checkpoint"))
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    head = 8 + int.from_bytes(whole[:8], "little")
    for data in damaged(whole[:head], seed=4):
        path.write_bytes(data + whole[head:])
        refused_or_read(
            lambda: [t.shape for t in Checkpoint.open(str(folder)).tensors.tensors.values()], data
        )


def test_a_damaged_sentencepiece_model_is_refused_or_read(tmp_path: Path) -> None:
    path = tmp_path / "spiece.model"
    for data in damaged(model(fallback=True), seed=5):
        path.write_bytes(data)
        refused_or_read(lambda: read_siglip(path, END, lower=True).encode("a cat ü").ids, data)


def test_odd_ready_made_folders_are_refused_or_read(tmp_path: Path) -> None:
    from tests.seeded.clip import write_checkpoint

    folder = write_checkpoint(tmp_path / "clip")
    write_vision(folder)
    whole = json.loads((folder / "config.json").read_text())
    write_text(folder, whole["text_config"]["vocab_size"])
    for name in ("vision_model", "text_model"):
        path = folder / "onnx" / f"{name}.onnx"
        graph = path.read_bytes()
        # Of the graph's beginning and its end, where nodes and names are, not of its weights.
        for data in damaged(graph[:800], seed=6, count=COUNT // 16):
            path.write_bytes(data + graph[800:])
            refused_or_read(lambda: convert(Checkpoint.open(str(folder), ["x"]), 1, 1, ()), data)
        path.write_bytes(graph)
    for config in odd(whole, seed=7, count=COUNT // 16):
        (folder / "config.json").write_text(json.dumps(config))
        refused_or_read(lambda: convert(Checkpoint.open(str(folder), ["x"]), 1, 1, ()), config)


def test_a_deep_config(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints["tiny"], tmp_path / "checkpoint"))
    (folder / "config.json").write_text("[" * 100_000)
    with pytest.raises(BareclipError, match=r"cannot read .*config\.json"):
        Checkpoint.open(str(folder))
    (folder / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(BareclipError, match=r"cannot read .*config\.json"):
        Checkpoint.open(str(folder))


def test_a_processors_file_is_refused_or_read(
    family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(family_checkpoints["siglip"], tmp_path / "checkpoint"))
    path = folder / "preprocessor_config.json"
    for config in odd(json.loads(path.read_text()), seed=8):
        path.write_text(json.dumps(config))
        with contextlib.suppress(BareclipError):
            read_image_recipe(Checkpoint.open(str(folder)), 32)
