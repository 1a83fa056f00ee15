"""Tokenizers of other families than CLIP's, trained on a few texts."""

import io
import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers


def train_sentencepiece(
    folder: Path, texts: Iterable[str], size: int, byte_fallback: bool = True
) -> Path:
    """A SentencePiece model like SigLIP's: unigrams, </s> as 1, <unk> as 2, no <s>, bytes."""
    spm = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        vocab_size=size,
        character_coverage=0.9995,
        unk_id=2,
        eos_id=1,
        bos_id=-1,
        pad_id=0,
        hard_vocab_limit=False,
        byte_fallback=byte_fallback,
        minloglevel=2,
    )
    path = folder / "spiece.model"
    path.write_bytes(written.getvalue())
    return path


def train_gemma(
    folder: Path, texts: Iterable[str], size: int, context: int, lower: bool = False
) -> int:
    """A tokenizer like SigLIP 2's, which is Gemma's: BPE of a whole text, bytes to fall back on.

    Its tokenizer.json frames a text as Gemma does, by <bos>; its tokenizer_config.json as SigLIP 2
    does, by <eos>. Where ``lower``, that also says that texts are lower-cased, as SigLIP 2's does.

    Returns:
        How many tokens it has.
    """
    named = ["<pad>", "<eos>", "<bos>", "<unk>"]
    spaces = normalizers.Replace(" ", "▁")
    whole = pre_tokenizers.Split(" ", "merged_with_previous")
    learner = Tokenizer(models.BPE(unk_token="<unk>"))
    learner.normalizer, learner.pre_tokenizer = spaces, whole
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=named, show_progress=False)
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    vocab = dict(learned["vocab"])
    for byte in range(256):
        vocab[f"<0x{byte:02X}>"] = len(vocab)
    merges = [tuple(pair) for pair in learned["merges"]]
    made = Tokenizer(
        models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    made.normalizer, made.pre_tokenizer = spaces, whole
    made.add_special_tokens(named)
    made.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])]
    )
    made.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "GemmaTokenizer",
        "pad_token": "<pad>",
        "eos_token": {"__type": "AddedToken", "content": "<eos>", "special": True},
        "bos_token": "<bos>",
        "unk_token": "<unk>",
        "add_bos_token": False,
        "add_eos_token": True,
        "padding_side": "right",
        "model_max_length": context,
    } | ({"do_lower_case": True} if lower else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return len(vocab)
