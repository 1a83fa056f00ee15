"""Which of the models that people have bareclip takes: OpenCLIP's, published weights, immich's.

    python -m benchmarks.coverage
    python -m benchmarks.coverage --json coverage.json

A configuration counts as taken where its layout reads it whole: sizes, activation, pooling, what
prepares pictures and texts. Its tensors are taken to be there, and its tokenizer to be one that
fits; neither needs a download. OpenCLIP's are those that open_clip 3.3 knows; published weights are
counted once, without the names that differ in ``-quickgelu`` alone.
"""

import argparse
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE, WordLevel
from tokenizers.processors import TemplateProcessing

from bareclip_export.checkpoint import Checkpoint
from bareclip_export.errors import CheckpointError
from bareclip_export.layouts import read_model
from bareclip_export.layouts.bert import read_named
from bareclip_export.open_clip_models import models
from bareclip_export.tensors import Tensor, TensorStore

IMMICH = Path(__file__).parent / "data" / "immich_models.json"


@dataclass(frozen=True)
class Group:
    """Models, and of each why it is refused; None where it is taken."""

    name: str
    refused: dict[str, str | None]

    @property
    def taken(self) -> int:
        return sum(reason is None for reason in self.refused.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    groups = coverage()
    for group in groups:
        print(f"{group.name}: {group.taken} of {len(group.refused)}")
    for group in groups:
        print(f"\n{group.name}, refused:")
        for name, reason in group.refused.items():
            if reason is not None:
                print(f"  {name}: {reason}")
    if given.json:
        given.json.write_text(json.dumps({g.name: g.refused for g in groups}, indent=1) + "\n")


def coverage() -> list[Group]:
    """OpenCLIP's configurations, its published weights, immich's models."""
    with tempfile.TemporaryDirectory() as place:
        configurations: dict[str, str | None] = {}
        weights: dict[str, str | None] = {}
        for name, given in models().items():
            configurations[name] = refusal(given["model_cfg"], {}, Path(place))
            for tag, published in given.get("tags", {}).items():
                quick = {"quick_gelu": True} if published.get("quick_gelu") else {}
                preprocess = published.get("preprocess_cfg", {})
                config = given["model_cfg"] | quick
                weights[f"{name}__{tag}"] = refusal(config, preprocess, Path(place))
    immich = json.loads(IMMICH.read_text("utf-8"))
    # There names of weights have dashes for underscores, and of models other capitals.
    known = {_plain(name): reason for name, reason in weights.items()}
    wanted: dict[str, str | None] = {name: known[_plain(name)] for name in immich["open_clip"]}
    wanted |= {name: f"we author no {kind}" for name, kind in immich["architectures"].items()}
    # Their images are OpenAI's or OpenCLIP's, which bareclip pair joins them to.
    wanted |= {name: _unnamed(base) for name, base in immich["m_clip"].items()}
    return [
        Group("OpenCLIP's configurations", configurations),
        Group("OpenCLIP's published weights", weights),
        Group("immich's models", wanted),
    ]


def refusal(model: dict[str, Any], preprocess: dict[str, Any], folder: Path) -> str | None:
    """Why a configuration of OpenCLIP's is not read; None where it is.

    Args:
        model: model_cfg.
        preprocess: preprocess_cfg.
        folder: To write a tokenizer to.
    """
    _write_tokenizer(folder, model["text_cfg"])
    config = {"model_cfg": model, "preprocess_cfg": preprocess}
    checkpoint = Checkpoint(folder, "any", None, "open_clip", config, "it")
    checkpoint.__dict__["tensors"] = _AnyTensors({}, "any")
    try:
        read_model(checkpoint)
    except CheckpointError as error:
        return str(error)
    return None


class _AnyTensors(TensorStore):
    """Has whatever it is asked for."""

    def get(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return Tensor(shape, lambda: None)  # type: ignore[arg-type, return-value]

    def scalar(self, name: str) -> float:
        return 0.0


def _unnamed(model: str) -> str | None:
    """Why a text model that goes by its name is not read; None where it is."""
    try:
        read_named(model, "it", "modelBase")
    except CheckpointError as error:
        return str(error)
    return None


def _write_tokenizer(folder: Path, text: dict[str, Any]) -> None:
    """One that puts the end token after a text, as CLIP's, as BERT's or as one of its own."""
    pad, end = "</s>", text.get("eos_id", 2)
    if "strip_sep_token" in text.get("tokenizer_kwargs", {}):
        pad = "[PAD]"
        words = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3}
        made = Tokenizer(WordLevel(words, unk_token="[UNK]"))
        around = [("[CLS]", 2), ("[SEP]", 3)]
        made.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=around)
    elif "hf_model_name" in text:
        words, pad = {"<s>": 0, "<pad>": 1, "</s>": 2}, "<pad>"
        made = Tokenizer(WordLevel(words, unk_token="<s>"))
        around = [("<s>", 0), ("</s>", 2)]
        made.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=around)
    elif "hf_tokenizer_name" in text:
        words = {f"word{number}": number for number in range(end)} | {"</s>": end}
        made = Tokenizer(WordLevel(words, unk_token="word0"))
        made.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", end)])
    else:
        vocabulary = {"a</w>": 0, "<|startoftext|>": 1, "<|endoftext|>": 2}
        made = Tokenizer(BPE(vocabulary, [], end_of_word_suffix="</w>"))
    made.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": pad}))


def _plain(name: str) -> str:
    model, _, tag = name.lower().partition("__")
    return f"{model.removesuffix('-quickgelu')}__{tag.replace('-', '_')}"


if __name__ == "__main__":
    main()
