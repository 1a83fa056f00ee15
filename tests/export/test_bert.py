"""Texts of models like BERT: what is read of a checkpoint, and what is refused by name."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import bareclip
from bareclip.bundle import Bundle
from bareclip.measure.fidelity import LARGEST_BATCH_DIFFERENCE
from bareclip_export.errors import CheckpointError, ParityError
from bareclip_export.export import export
from bareclip_export.layouts import bert as layout
from bareclip_export.layouts import open_clip_vit
from bareclip_export.layouts.open_clip_siglip import Trunk
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from tests.seeded import bert
from tests.seeded.word_pieces import word_piece_vocabulary

TEXTS = ["a photo of the cat", "", "two dogs - 猫", "고양이 é", "the red cat. " * 30, "İX ÉÀ"]


def change(path: Path, **fields: Any) -> None:
    """A JSON file with other fields; None takes one away."""
    data = json.loads(path.read_text("utf-8")) | fields
    kept = {name: value for name, value in data.items() if value is not None}
    path.write_text(json.dumps(kept), "utf-8")


def change_text(folder: Path, **fields: Any) -> None:
    whole = json.loads((folder / "open_clip_config.json").read_text("utf-8"))
    whole["model_cfg"]["text_cfg"] |= fields
    (folder / "open_clip_config.json").write_text(json.dumps(whole), "utf-8")


def answers(folder: Path, made: Path) -> bareclip.Clip:
    """Exports it; each text alone answers as among others, of other lengths."""
    bundle = export(str(folder), made)
    parity = bundle.precisions["fp32"]["text"].parity
    assert parity is not None
    assert 0 < parity.max_difference < 1e-6
    clip = bareclip.load(made)
    together = clip.embed_texts(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(clip.embed_texts([text])[0], row, atol=1e-6)
    tokens = clip.texts.tokenizer.encode(TEXTS, truncate=True)
    recipe = clip.bundle.text_recipe()
    for ids, row in zip(tokens, together, strict=True):
        filled = np.full((1, recipe.context_length), recipe.pad_id)
        filled[0, : len(ids)] = ids
        np.testing.assert_allclose(clip.texts.embed_tokens(filled)[0], row, atol=1e-6)
    return clip


@pytest.mark.parametrize("model", bert.MODELS)
@pytest.mark.parametrize("pooler", ["mean_pooler", "cls_last_hidden_state_pooler"])
def test_open_clips_texts(tmp_path: Path, model: str, pooler: str) -> None:
    if model == "distilbert":
        pytest.skip("open_clip has none")
    folder = bert.write_open_clip(tmp_path / "checkpoint", model, hf_pooler_type=pooler)
    clip = answers(folder, tmp_path / "bundle")
    assert clip.bundle.text_recipe().context_length == 20
    assert clip.bundle.towers == ("vision", "text")


@pytest.mark.parametrize("model", ["distilbert", "bert", "xlm-roberta"])
@pytest.mark.parametrize("pooling", ["mean_tokens", "cls_token"])
def test_sentence_transformers_texts(tmp_path: Path, model: str, pooling: str) -> None:
    folder = bert.write_sentence_bert(tmp_path / "checkpoint", model, pooling)
    clip = answers(folder, tmp_path / "bundle")
    assert clip.bundle.towers == ("text",)
    assert clip.bundle.embedding_dim == 20
    assert clip.bundle.text_recipe().context_length == 18


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("model", ["distilbert", "xlm-roberta"])
def test_precisions_of_texts_alone(tmp_path: Path, model: str, precision: str) -> None:
    folder = bert.write_sentence_bert(tmp_path / "checkpoint", model)
    captions = [f"{word} cat on the red circle" for word in "abcdefghijklmnop"]
    made = quantize(
        export(str(folder), tmp_path / "bundle"), precision, Data([], captions), force=True
    )
    report = made.fidelity[precision].towers["text"]
    # Small random towers are coarser than trained ones of full size.
    assert report.mean_cosine > {"int8": 0.98, "int4": 0.85}[precision]
    assert report.batch_difference <= LARGEST_BATCH_DIFFERENCE
    clip = bareclip.load(tmp_path / "bundle", precision=precision)
    together = clip.embed_texts(TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        np.testing.assert_allclose(clip.embed_texts([text])[0], row, atol=1e-6)


def test_sentence_transformers_layers_with_bias_and_tanh(tmp_path: Path) -> None:
    tanh = {"bias": True, "activation_function": "torch.nn.modules.activation.Tanh"}
    folder = bert.write_sentence_bert(tmp_path / "checkpoint", dense=tanh)
    # A folder for the first module too, as its older versions have it.
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        if path.name != "modules.json":
            path.rename(inner / path.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(modules))
    found = answers(folder, tmp_path / "bundle").embed_texts(TEXTS)
    plain = bert.write_sentence_bert(tmp_path / "plain", dense={"bias": True})
    assert np.abs(found - answers(plain, tmp_path / "other").embed_texts(TEXTS)).max() > 1e-3


def test_m_clips_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = bert.MODELS["xlm-roberta"] | {"num_attention_heads": 16, "vocab_size": 47}
    monkeypatch.setitem(layout.MODELS, "xlm-roberta-large", config)
    folder = bert.write_m_clip(tmp_path / "checkpoint", config=config)
    clip = answers(folder, tmp_path / "bundle")
    assert (clip.bundle.towers, clip.bundle.embedding_dim) == (("text",), 20)
    change(folder / "config.json", architectures=None)
    assert export(str(folder), tmp_path / "again").files() == clip.bundle.files()


def test_timms_plain_vit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trunk = (Trunk(48, 2, 6, 4.0, "gelu"), 8, 32)
    monkeypatch.setitem(open_clip_vit.TRUNKS, "vit_small_patch8_32", trunk)
    vision = bert.PLAIN_VIT | {"timm_model_name": "vit_small_patch8_32", "image_size": 32}
    folder = bert.write_open_clip(tmp_path / "checkpoint", "bert", vision=vision)
    bundle = export(str(folder), tmp_path / "bundle")
    parity = bundle.precisions["fp32"]["vision"].parity
    assert parity is not None
    assert 0 < parity.max_difference < 1e-6


def test_a_vocabulary_is_read_as_it_is_set(tmp_path: Path) -> None:
    """Words in lower case or as they are; with and without accents; letters apart."""

    def tokens(name: str, **config: Any) -> list[str]:
        folder = bert.write_chinese_clip(tmp_path / name)
        change(folder / "tokenizer_config.json", **config)
        clip = bareclip.load(export(str(folder), tmp_path / f"{name}-bundle").folder)
        [ids] = clip.texts.tokenizer.encode(["É 猫犬 CAT"], truncate=True)
        names = word_piece_vocabulary()
        return [names[number] for number in ids[1:-1]]

    assert tokens("usual") == ["e", "猫", "犬", "cat"]
    assert tokens("accents", strip_accents=False) == ["é", "猫", "犬", "cat"]
    assert tokens("case", do_lower_case=False) == ["[UNK]", "猫", "犬", "[UNK]"]
    assert tokens("together", tokenize_chinese_chars=False) == ["e", "[UNK]", "cat"]


@pytest.mark.parametrize("config", [True, False, None])
@pytest.mark.parametrize("file", [True, False])
def test_a_space_before_a_text_is_as_tokenizer_config_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: bool, config: bool | None
) -> None:
    names = ["<s>", "<pad>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    made = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    made.add_special_tokens(names[:3])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=file)
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    (tmp_path / "checkpoint").mkdir()
    made.save(str(tmp_path / "checkpoint" / "tokenizer.json"))
    said = {"tokenizer_class": "RobertaTokenizer"}
    said |= {} if config is None else {"add_prefix_space": config}
    (tmp_path / "checkpoint" / "tokenizer_config.json").write_text(json.dumps(said))
    sizes = bert.MODELS["roberta"] | {"vocab_size": len(names)}
    monkeypatch.setitem(bert.MODELS, "roberta", sizes)
    folder = bert.write_open_clip(tmp_path / "checkpoint", "roberta")
    clip = bareclip.load(export(str(folder), tmp_path / "bundle").folder)
    [ids] = clip.texts.tokenizer.encode(["cat"], truncate=True)
    space = ["Ġ"] if config else []
    assert [names[number] for number in ids] == ["<s>", *space, "c", "a", "t", "</s>"]


def test_padding_within_a_text(tmp_path: Path) -> None:
    """Its name in a text hides a token from OpenCLIP's, and not from transformers'."""
    ids = np.array([[2, 60, 0, 61, 3]])
    for write, hidden in ((bert.write_open_clip, True), (bert.write_sentence_bert, False)):
        model = "bert" if hidden else "distilbert"
        folder = write(tmp_path / model, model)
        weights = folder / ("open_clip_model.safetensors" if hidden else "model.safetensors")
        found = []
        for turn in range(2):
            clip = bareclip.load(export(str(folder), tmp_path / f"{model}-{turn}").folder)
            found.append(clip.texts.embed_tokens(ids))
            longer = clip.texts.embed_tokens(np.pad(ids, [(0, 0), (0, 2)]))
            np.testing.assert_allclose(longer, found[turn], atol=1e-6)
            # The second time, padding's row is another.
            tensors = load_file(weights)
            [name] = [name for name in tensors if name.endswith("word_embeddings.weight")]
            tensors[name][0] *= -1
            save_file(tensors, weights)
        assert (np.abs(found[1] - found[0]).max() < 1e-6) == hidden


MISTAKES = {
    "heads": {"heads": 4},
    "epsilon": {"epsilon": 1e-2},
    "activation": {"activation": "gelu_new"},
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_reading_fails_the_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mistake: str
) -> None:
    right = layout.read_config
    monkeypatch.setattr(
        "bareclip_export.layouts.open_clip_bert.read_config",
        lambda *given: replace(right(*given), **MISTAKES[mistake]),
    )
    folder = bert.write_open_clip(tmp_path / "checkpoint")
    with pytest.raises(ParityError, match="the text tower differs"):
        export(str(folder), tmp_path / "bundle")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another model": ({"hf_model_name": "google/mt5-base"}, "google/mt5-base"),
    "a pooling": ({"hf_pooler_type": "max_pooler"}, "max_pooler"),
    "a projection": ({"hf_proj_type": "conv"}, "hf_proj_type 'conv'"),
    "too long a context": ({"context_length": 25}, "context_length 25, more than the 24"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_open_clips_that_are_refused(tmp_path: Path, case: str) -> None:
    fields, said = REFUSED[case]
    folder = bert.write_open_clip(tmp_path / "checkpoint")
    change_text(folder, **fields)
    if case == "another model":
        (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=said):
        export(str(folder), tmp_path / "bundle")


def without_tokens(folder: Path) -> None:
    (folder / "vocab.txt").unlink()


def add_positions(folder: Path) -> None:
    change(folder / "config.json", position_embedding_type="relative_key")


BROKEN = {
    "no tokenizer": (without_tokens, "neither tokenizer.json nor vocab.txt"),
    "relative positions": (add_positions, "position_embedding_type 'relative_key'"),
    "padding": (
        lambda folder: change(folder / "config.json", pad_token_id=1), "the model with 1",
    ),
    "left padding": (
        lambda folder: change(folder / "tokenizer_config.json", padding_side="left"),
        "padding_side 'left'",
    ),
    "uneven heads": (
        lambda folder: change(folder / "config.json", n_heads=5), "5 heads in a width of 32",
    ),
    "another model": (
        lambda folder: change(folder / "config.json", model_type="mpnet"), "model_type 'mpnet'",
    ),
    "two poolings": (
        lambda folder: change(folder / "1_Pooling" / "config.json", pooling_mode_cls_token=True),
        "pools by pooling_mode_cls_token, pooling_mode",
    ),
    "another pooling": (
        lambda folder: change(
            folder / "1_Pooling" / "config.json",
            pooling_mode_max_tokens=True, pooling_mode_mean_tokens=False,
        ),
        "pools by pooling_mode_max_tokens",
    ),
    "an activation": (
        lambda folder: change(folder / "2_Dense" / "config.json", activation_function="Sigmoid"),
        "activation_function 'Sigmoid'",
    ),
    "a width": (
        lambda folder: change(folder / "2_Dense" / "config.json", in_features=31), "takes 31",
    ),
    "a length": (
        lambda folder: change(folder / "sentence_bert_config.json", max_seq_length=99),
        "max_seq_length 99",
    ),
    "a lower-casing that is no choice": (
        lambda folder: change(folder / "tokenizer_config.json", do_lower_case="yes"),
        "do_lower_case 'yes'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_sentence_transformers_that_are_refused(tmp_path: Path, case: str) -> None:
    spoil, said = BROKEN[case]
    folder = bert.write_sentence_bert(tmp_path / "checkpoint")
    spoil(folder)
    with pytest.raises(CheckpointError, match=said):
        export(str(folder), tmp_path / "bundle")


def test_an_m_clip_of_another_model_or_width_is_refused(tmp_path: Path) -> None:
    config = bert.MODELS["xlm-roberta"]
    folder = bert.write_m_clip(tmp_path / "checkpoint", "someone/bert", config)
    with pytest.raises(CheckpointError, match="modelBase 'someone/bert'; we author texts of"):
        export(str(folder), tmp_path / "bundle")
    change(folder / "config.json", modelBase="xlm-roberta-base")
    with pytest.raises(CheckpointError, match="transformerDimensions 32, where .* has 768"):
        export(str(folder), tmp_path / "bundle")


def test_a_sparse_checkpoint_is_refused(tmp_path: Path) -> None:
    folder = bert.write_chinese_clip(tmp_path / "checkpoint")
    tensors = load_file(folder / "model.safetensors")
    del tensors["text_model.encoder.layer.1.output.LayerNorm.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"layer.1.output.LayerNorm"):
        export(str(folder), tmp_path / "bundle")


def test_chinese_clip_is_whole(tmp_path: Path) -> None:
    clip = answers(bert.write_chinese_clip(tmp_path / "checkpoint"), tmp_path / "bundle")
    image = Bundle.read(tmp_path / "bundle").image_recipe()
    assert (image.resize, image.resize_to) == ("squash", 32)
    assert clip.bundle.scoring.logit_scale == pytest.approx(np.log(100))
