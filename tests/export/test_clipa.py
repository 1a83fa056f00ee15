"""CLIPA's texts: padding where BERT has its separator, and whatever has another is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import bareclip
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.errors import CheckpointError, ParityError
from bareclip_export.export import export
from bareclip_export.layouts import open_clip_clipa, read_model
from tests.seeded.bert import write_pieces


def test_padding_stands_for_every_separator(families: dict[str, Path]) -> None:
    clip = bareclip.load(families["tiny-clipa"])
    recipe, tokenizer = clip.bundle.text_recipe(), clip.texts.tokenizer
    assert tokenizer is not None
    assert (recipe.fixed_length, recipe.context_length, recipe.pad_id) == (True, 32, 0)
    [plain, named, both] = tokenizer.encode(
        ["a cat", "a [SEP] cat", "[PAD]a cat[SEP]"], truncate=True
    )
    first, a, cat, end = plain
    assert end == 0
    assert named == [first, a, 0, cat, 0]
    assert both == [first, 0, a, cat, 0, 0]
    # Of a lower-case one, brackets and letters are words.
    assert 0 not in tokenizer.encode(["[sep]"], truncate=True)[0][:-1]
    [long] = tokenizer.encode(["cat " * 60], truncate=True)
    assert long == [first, *[cat] * 30, 0]
    # The last of all is pooled, which is padding, and what fills a text up is looked at.
    [(_, ids)] = clip.texts.batches(["a cat"])
    assert ids.tolist() == [[*plain, *[0] * 28]]


@pytest.mark.parametrize(
    "wrong",
    [
        {"clean_up": ("fix_text", "unescape_html", "collapse_whitespace")},
        {"context_length": 24, "fixed_length": False},
    ],
)
def test_a_mistake_fails_the_export(
    family_checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wrong: dict[str, Any],
) -> None:
    right = open_clip_clipa.read_tokenizer

    def changed(*given: Any) -> Any:
        tokenizer, recipe = right(*given)
        return tokenizer, replace(recipe, **wrong)

    monkeypatch.setattr(open_clip_clipa, "read_tokenizer", changed)
    with pytest.raises(ParityError):
        export(str(family_checkpoints["tiny-clipa"]), tmp_path / "bundle")


def no_tokenizer(folder: Path) -> None:
    (folder / "vocab.txt").unlink()


def of_xlm_roberta(folder: Path) -> None:
    no_tokenizer(folder)
    write_pieces(folder)


def another_separator(folder: Path) -> None:
    path = folder / "vocab.txt"
    path.write_text(path.read_text("utf-8").replace("[SEP]", "[END]"), "utf-8")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"sep_token": "[END]"}))


def padding_elsewhere(folder: Path) -> None:
    path = folder / "vocab.txt"
    lines = path.read_text("utf-8").split("\n")
    lines[0], lines[1] = lines[1], lines[0]
    path.write_text("\n".join(lines), "utf-8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_tokenizer, "neither tokenizer.json nor vocab.txt: take either, .* bert-base-uncased"),
        (of_xlm_roberta, "pads with '<pad>', token 1, the model with 0"),
        (another_separator, r"puts '.CLS. .END.' around a text, and reads .SEP. and .PAD. as"),
        (padding_elsewhere, "pads with .*, token 1, the model with 0: they do not belong together"),
    ],
)
def test_another_tokenizer_is_refused(
    family_checkpoints: dict[str, Path],
    tmp_path: Path,
    change: Callable[[Path], None],
    message: str,
) -> None:
    folder = Path(shutil.copytree(family_checkpoints["tiny-clipa"], tmp_path / "checkpoint"))
    change(folder)
    with pytest.raises(CheckpointError, match=message):
        read_model(Checkpoint.open(str(folder)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pool_type": "eos"}, "'bert-base-uncased' and pool_type 'eos'; we author it with one"),
        ({"hf_model_name": "bert-base-uncased"}, "unknown tokenizer_kwargs .* known is clean, of"),
    ],
)
def test_another_use_of_it_is_refused(
    family_checkpoints: dict[str, Path], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(family_checkpoints["tiny-clipa"], tmp_path / "checkpoint"))
    path = folder / "open_clip_config.json"
    config = json.loads(path.read_text())
    config["model_cfg"]["text_cfg"] |= change
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        read_model(Checkpoint.open(str(folder)))
