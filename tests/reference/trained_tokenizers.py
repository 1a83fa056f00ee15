"""Tokenizers of other families than CLIP's, trained on a few texts."""

import io
import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

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
    folder: Path,
    texts: Iterable[str],
    size: int,
    context: int,
    lower: bool = False,
    frame: str = "<bos> $A",
) -> int:
    """A tokenizer like SigLIP 2's, which is Gemma's: BPE of a whole text, bytes to fall back on.

    Args:
        folder: To write it to.
        texts: To learn from.
        size: Most tokens to learn.
        context: Most tokens a text.
        lower: Whether tokenizer_config.json says that texts are lower-cased, as SigLIP 2's does.
        frame: How tokenizer.json frames a text: as Gemma's does, or as SigLIP 2's, ``$A <eos>``.
            tokenizer_config.json does as SigLIP 2's in any case.

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
        single=frame, special_tokens=[(name, vocab[name]) for name in named]
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


def train_xlm_roberta(folder: Path, texts: Iterable[str], size: int, context: int) -> int:
    """A tokenizer like XLM-RoBERTa's: unigrams between <s> and </s>, which is token 2.

    Returns:
        How many tokens it has.
    """
    named = ["<s>", "<pad>", "</s>", "<unk>"]
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=named, unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "XLMRobertaTokenizer",
        "bos_token": "<s>",
        "cls_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "model_max_length": context,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return made.get_vocab_size()


def train_pieces(folder: Path, texts: Iterable[str], size: int, context: int) -> int:
    """XLM-RoBERTa's own: a SentencePiece model, saved by transformers as its tokenizer.json.

    Returns:
        How many tokens it has.
    """
    kind = pytest.importorskip("transformers").XLMRobertaTokenizerFast
    return _saved_pieces(folder, texts, size, partial(kind, model_max_length=context))


def train_nllb(folder: Path, texts: Iterable[str], size: int) -> int:
    """NLLB's own: a SentencePiece model and languages' tokens, saved by transformers.

    Returns:
        How many tokens it has.
    """
    kind = pytest.importorskip("transformers").NllbTokenizerFast
    return _saved_pieces(folder, texts, size, kind)


def _saved_pieces(folder: Path, texts: Iterable[str], size: int, kind: Callable[..., Any]) -> int:
    spm = pytest.importorskip("sentencepiece")
    written = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(texts),
        model_writer=written,
        vocab_size=size,
        character_coverage=0.9995,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    path = folder / "sentencepiece.bpe.model"
    path.write_bytes(written.getvalue())
    made = kind(vocab_file=str(path))
    made.save_pretrained(folder)
    path.unlink()
    return len(made)


def train_word_pieces(
    folder: Path, texts: Iterable[str], size: int, *, lower: bool, kind: str = "Bert"
) -> int:
    """BERT's: a vocab.txt; DistilBERT's: the tokenizer.json that transformers makes of one.

    Returns:
        How many tokens it has.
    """
    transformers = pytest.importorskip("transformers")
    learner = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    learner.normalizer = normalizers.BertNormalizer(lowercase=lower)
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    named = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size, special_tokens=named, show_progress=False, continuing_subword_prefix="##"
    )
    learner.train_from_iterator(texts, trainer)
    vocab = sorted(learner.get_vocab().items(), key=lambda pair: pair[1])
    (folder / "vocab.txt").write_text("".join(f"{token}\n" for token, _ in vocab), "utf-8")
    config = {"do_lower_case": lower, "tokenizer_class": f"{kind}Tokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if kind == "DistilBert":
        transformers.DistilBertTokenizerFast.from_pretrained(folder).save_pretrained(folder)
        (folder / "vocab.txt").unlink()
    return len(vocab)


def train_roberta(folder: Path, texts: Iterable[str], size: int) -> int:
    """RoBERTa's: byte-level BPE between <s> and </s>, <pad> as 1.

    Returns:
        How many tokens it has.
    """
    transformers = pytest.importorskip("transformers")
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator(texts, trainer)
    learner.model.save(str(folder))
    made = transformers.RobertaTokenizerFast.from_pretrained(folder)
    made.save_pretrained(folder)
    return len(made)
