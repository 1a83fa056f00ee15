import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from bareclip_export.checkpoint import Checkpoint
from bareclip_export.errors import CheckpointError
from bareclip_export.image_recipe import read_image_recipe
from bareclip_export.text_recipe import read_own_tokenizer, read_tokenizer
from tests.seeded import siglip
from tests.seeded.clip import make_tokenizer, processor
from tests.variants import TEXTS, VARIANTS

MERGED = make_tokenizer()["model"]


@pytest.fixture
def folder(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(checkpoints["tiny"], tmp_path / "checkpoint"))


def recipe(folder: Path, change: dict[str, Any], size: int = 32) -> Any:
    data = {k: v for k, v in (processor(size) | change).items() if v is not ...}
    (folder / "preprocessor_config.json").write_text(json.dumps(data))
    return read_image_recipe(Checkpoint.open(str(folder)), size)


def test_what_openais_repositories_say(folder: Path) -> None:
    # openai/clip-vit-base-patch32 has these older forms.
    old = {
        "crop_size": 32,
        "size": 32,
        "do_rescale": ...,
        "rescale_factor": ...,
        "do_convert_rgb": ...,
    }
    assert recipe(folder, old) == recipe(folder, {})
    found = recipe(folder, {})
    assert (found.resize, found.resize_to, found.size) == ("shortest", 32, 32)
    assert (found.interpolation, found.crop_offset, found.layout) == (
        "bicubic",
        "floor",
        "uint8_nhwc",
    )
    assert found.scale == 1 / 255


def test_other_processors_are_read(folder: Path) -> None:
    assert recipe(folder, {"size": {"shortest_edge": 40}}).resize_to == 40
    squash = recipe(folder, {"size": {"height": 32, "width": 32}, "do_center_crop": False})
    assert (squash.resize, squash.resize_to) == ("squash", 32)
    assert recipe(folder, {"resample": 2}).interpolation == "bilinear"
    plain = recipe(folder, {"do_normalize": False, "do_rescale": False})
    assert (plain.mean, plain.std, plain.scale) == ((0, 0, 0), (1, 1, 1), 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 9}, r"unknown resampling 9; known are 0 \(nearest\), 1 \(lanczos\)"),
        ({"resample": "bicubic"}, "unknown resampling 'bicubic'"),
        ({"do_resize": False}, "do_resize false"),
        ({"crop_size": {"height": 32, "width": 16}}, "we author square images"),
        ({"size": {"longest_edge": 32}}, "resizes to"),
        ({"size": 16}, "resizes to 16 and crops to 32, where the vision tower takes 32"),
        ({"crop_size": 24}, "crops to 24, where the vision tower takes 32"),
        ({"do_center_crop": False}, "neither crops nor squashes"),
        ({"image_mean": [0.5]}, "where three numbers are due"),
        ({"image_std": [0, 1, 1]}, "standard deviations are above 0"),
        ({"rescale_factor": "x"}, "has rescale_factor 'x'"),
        ({"resample": [3]}, r"unknown resampling \[3\]"),
    ],
)
def test_processors_we_do_not_reproduce(folder: Path, change: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        recipe(folder, change)


def test_without_a_processor_nothing_is_guessed(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"no preprocessor_config.json, so how its images"):
        read_image_recipe(Checkpoint.open(str(folder)), 32)
    nested = {"image_processor": processor(32)}
    (folder / "processor_config.json").write_text(json.dumps(nested))
    assert read_image_recipe(Checkpoint.open(str(folder)), 32).resize_to == 32


def write_slow_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(MERGED["vocab"]))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGED["merges"]), ""]
    (folder / "merges.txt").write_text("\n".join(lines), encoding="utf-8")


def test_vocab_and_merges_make_the_same_tokenizer(folder: Path, goldens: dict[str, Any]) -> None:
    write_slow_tokenizer(folder)
    context = VARIANTS["tiny"].context
    vocabulary = len(MERGED["vocab"])
    found, text = read_tokenizer(Checkpoint.open(str(folder)), context, vocabulary, vocabulary - 1)
    wanted = tokenizers.Tokenizer.from_str(json.dumps(make_tokenizer()))
    awkward = [*TEXTS, "<|endoftext|> inside", "it's DON'T we'll", "ﬁ ① Å İ", "\u200b \x00"]
    assert [e.ids for e in found.encode_batch(awkward)] == [
        e.ids for e in wanted.encode_batch(awkward)
    ]
    found.enable_truncation(context)
    rows = [e.ids for e in found.encode_batch(TEXTS)]
    for row, golden in zip(rows, goldens["tiny.ids"], strict=True):
        np.testing.assert_array_equal(row, golden[: len(row)])
    assert text.end_id == text.pad_id == MERGED["vocab"]["<|endoftext|>"]


def test_tokenizers_that_cannot_be_used(folder: Path) -> None:
    checkpoint = Checkpoint.open(str(folder))
    vocabulary = len(MERGED["vocab"])
    with pytest.raises(CheckpointError, match=f"ids up to {vocabulary - 1}, the model's token"):
        read_tokenizer(checkpoint, 24, vocabulary - 1, None)
    with pytest.raises(
        CheckpointError, match=f"end with token 5, its tokenizer .* {vocabulary - 1}:"
    ):
        read_tokenizer(checkpoint, 24, vocabulary, 5)
    bare = make_tokenizer() | {"post_processor": None}
    (folder / "tokenizer.json").write_text(json.dumps(bare))
    with pytest.raises(CheckpointError, match="no start and end token"):
        read_tokenizer(checkpoint, 24, vocabulary, None)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot read the tokenizer in"):
        read_tokenizer(checkpoint, 24, vocabulary, None)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"neither tokenizer.json nor vocab.json and merges"):
        read_tokenizer(checkpoint, 24, vocabulary, None)


def write_gemma(folder: Path, **changes: Any) -> Checkpoint:
    """A SigLIP whose tokenizer_config.json is SigLIP 2's, with what its tokens are called here."""
    siglip.write_checkpoint(folder)
    config = {
        "tokenizer_class": "GemmaTokenizer",
        "bos_token": "<unk>",
        "eos_token": {"content": "</s>"},
        "pad_token": "</s>",
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "right",
    }
    kept = {name: value for name, value in (config | changes).items() if value is not ...}
    (folder / "tokenizer_config.json").write_text(json.dumps(kept))
    return Checkpoint.open(str(folder))


def test_gemmas_frame_is_what_its_config_says(tmp_path: Path) -> None:
    vocabulary = len(siglip.make_unigram_tokenizer()["model"]["vocab"])
    plain = read_own_tokenizer(write_gemma(tmp_path), 16, vocabulary, (), True)[0].encode("a cat")
    framed = write_gemma(tmp_path, add_bos_token=True)
    found, text = read_own_tokenizer(framed, 16, vocabulary, (), True)
    assert found.encode("a cat").ids == [0, *plain.ids]
    assert plain.ids[-1] == text.end_id == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"padding_side": ...}, "has padding_side 'left'; SigLIP's texts are filled up on the ri"),
        ({"add_eos_token": ...}, "puts no end token after a text"),
        ({"add_eos_token": False, "add_bos_token": True}, "puts no end token after a text"),
        ({"eos_token": "<eos>"}, "puts '<eos>' around a text, a token that its tokenizer.json"),
        ({"pad_token": ...}, "says nowhere what pads a text"),
    ],
)
def test_what_gemmas_config_may_not_say(tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_own_tokenizer(write_gemma(tmp_path, **changes), 16, 10_000, (), True)
