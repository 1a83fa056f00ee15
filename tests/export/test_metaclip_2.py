"""MetaCLIP 2 in Hugging Face's layout: a CLIPModel but for its tokenizer and its end token, 2."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip_export.errors import CheckpointError, ParityError
from bareclip_export.export import export
from bareclip_export.layouts import huggingface_clip
from bareclip_export.layouts.huggingface_config import read_text


def edit(path: Path, change: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


@pytest.fixture
def folder(checkpoints: dict[str, Path], tmp_path: Path) -> Path:
    """The tiny checkpoint with its end token as number 2."""
    made = Path(shutil.copytree(checkpoints["tiny"], tmp_path / "checkpoint"))
    path = made / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocab, end = tokenizer["model"]["vocab"], "<|endoftext|>"
    second = next(token for token, number in vocab.items() if number == 2)
    vocab[second], vocab[end] = vocab[end], 2
    for token in tokenizer["added_tokens"]:
        token["id"] = vocab[token["content"]]
    tokenizer["post_processor"]["sep"] = [end, 2]
    path.write_text(json.dumps(tokenizer))
    config = json.loads((made / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 2
    kind = {"architectures": ["MetaClip2Model"], "model_type": "metaclip_2"}
    edit(made / "config.json", config | kind)
    return made


@pytest.mark.parametrize("architectures", [["MetaClip2Model"], None])
def test_its_end_token_is_the_one_that_its_config_names(
    folder: Path, tmp_path: Path, architectures: list[str] | None
) -> None:
    edit(folder / "config.json", {"architectures": architectures})
    bundle = export(str(folder), tmp_path / "bundle")
    assert bundle.source.architecture == "MetaClip2Model"
    assert bundle.text_recipe().end_id == 2
    clip = bareclip.load(tmp_path / "bundle")
    # Whatever comes after the end token is not looked at; of a CLIPModel the highest id would be.
    edit(folder / "config.json", {"architectures": ["CLIPModel"], "model_type": "clip"})
    export(str(folder), tmp_path / "legacy")
    legacy = bareclip.load(tmp_path / "legacy")
    texts = ["a photo of a cat", "dog"]
    assert np.abs(clip.embed_texts(texts) - legacy.embed_texts(texts)).max() > 0.1


def test_the_legacy_rule_would_fail_the_export(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_clip, "read_text", lambda *given: read_text(*given[:2], True))
    with pytest.raises(ParityError, match="the text tower differs"):
        export(str(folder), tmp_path / "bundle")


def test_an_unknown_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "MBartTokenizer"}')
    with pytest.raises(CheckpointError, match="unknown tokenizer_class 'MBartTokenizer'"):
        export(str(folder), tmp_path / "bundle")
