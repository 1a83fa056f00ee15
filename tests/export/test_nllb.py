"""NLLB-CLIPs: texts begin with a language's token, which the caller names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file, save_file

import bareclip
from bareclip.cli.main import commands
from bareclip.errors import TextError
from bareclip.measure.fidelity import LARGEST_BATCH_DIFFERENCE
from bareclip_export.errors import CheckpointError, ParityError
from bareclip_export.export import export
from bareclip_export.layouts import m2m_100
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import quantize
from tests.seeded import nllb
from tests.variants import picture

from .test_bert import TEXTS, answers, change, change_text


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("nllb")
    return export(str(nllb.write_open_clip(place / "checkpoint")), place / "bundle").folder


@pytest.mark.parametrize(
    "text", [{}, {"hf_pooler_type": "mean_pooler", "hf_proj_type": "mlp"}], ids=["first", "mean"]
)
def test_its_texts(tmp_path: Path, text: dict[str, Any]) -> None:
    clip = answers(nllb.write_open_clip(tmp_path / "checkpoint", **text), tmp_path / "bundle")
    assert clip.bundle.text_recipe().context_length == 20


def test_padding_that_a_text_names_is_hidden(bundle: Path, tmp_path: Path) -> None:
    folder = bundle.parent / "checkpoint"
    texts = bareclip.load(bundle).texts
    [[language, end]] = texts.tokenizer.encode([""], truncate=True)
    ids = np.array([[language, 5, 1, 7, end]])
    before = texts.embed_tokens(ids)
    tensors = load_file(folder / "open_clip_model.safetensors")
    tensors["text.transformer.embed_tokens.weight"][1] *= -3
    again = nllb.write_open_clip(tmp_path / "checkpoint")
    save_file(tensors, again / "open_clip_model.safetensors")
    found = bareclip.load(export(str(again), tmp_path / "bundle").folder).texts.embed_tokens(ids)
    np.testing.assert_allclose(found, before, atol=1e-6)


def test_a_language_begins_every_text(bundle: Path) -> None:
    english, korean = bareclip.load(bundle), bareclip.load(bundle, language="kor_Hang")
    usual = english.texts.tokenizer.encode(TEXTS, truncate=True)
    other = korean.texts.tokenizer.encode(TEXTS, truncate=True)
    first, *codes = english.texts.tokenizer.languages
    assert (first, sorted([first, *codes])) == ("eng_Latn", nllb.LANGUAGES)
    assert korean.texts.tokenizer.languages[0] == "kor_Hang"
    assert [ids[1:] for ids in usual] == [ids[1:] for ids in other]
    distance = {other_ids[0] - ids[0] for ids, other_ids in zip(usual, other, strict=True)}
    assert distance == {nllb.LANGUAGES.index("kor_Hang") - nllb.LANGUAGES.index("eng_Latn")}
    assert np.abs(english.embed_texts(TEXTS) - korean.embed_texts(TEXTS)).max() > 1e-3
    said = bareclip.load(bundle, language="eng_Latn")
    np.testing.assert_array_equal(said.embed_texts(TEXTS), english.embed_texts(TEXTS))


def test_a_checkpoints_own_language(tmp_path: Path) -> None:
    folder = nllb.write_open_clip(tmp_path / "checkpoint")
    change(folder / "tokenizer_config.json", src_lang="zho_Hans")
    clip = bareclip.load(export(str(folder), tmp_path / "bundle").folder)
    assert clip.texts.tokenizer.languages[0] == "zho_Hans"


def test_an_unknown_language_is_refused_with_the_nearest(bundle: Path) -> None:
    with pytest.raises(TextError, match="'kor_hang' is none of the 5 .* nearest are kor_Hang"):
        bareclip.load(bundle, language="kor_hang")
    for language in ("Korean", "ko", "", "<s>", "a"):
        with pytest.raises(TextError, match="is none of the 5 .* nearest are [a-z]{3}_"):
            bareclip.load(bundle, language=language)
    with pytest.raises(TextError, match="begin with no language's token: leave language out"):
        bareclip.load(language="kor_Hang")


def test_the_command_line_takes_a_language(bundle: Path, tmp_path: Path) -> None:
    def embedded(*options: str) -> np.ndarray[Any, Any]:
        (tmp_path / "texts.txt").write_text("a cat\na dog\n")
        given = [str(tmp_path / "texts.txt"), "-o", str(tmp_path / "out.npz"), *options]
        done = CliRunner().invoke(commands, ["embed", "--bundle", str(bundle), "--texts", *given])
        assert done.exit_code == 0, done.output
        return np.load(tmp_path / "out.npz")["vectors"]

    texts = ["a cat", "a dog"]
    for options, language in (((), None), (("--language", "jpn_Jpan"), "jpn_Jpan")):
        wanted = bareclip.load(bundle, language=language).embed_texts(texts)
        np.testing.assert_array_equal(embedded(*options), wanted)
    failed = CliRunner().invoke(
        commands,
        [
            "embed",
            "--bundle",
            str(bundle),
            "--language",
            "xx",
            "--texts",
            str(tmp_path / "texts.txt"),
            "-o",
            str(tmp_path / "other.npz"),
        ],
    )
    assert "language 'xx' is none of the 5" in str(failed.exception)


def test_a_search_by_text_takes_a_language(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    picture(40, 30).save(tmp_path / "photos" / "a.png")
    db, photo = str(tmp_path / "photos.db"), tmp_path / "photos" / "a.png"
    given = ["index", str(photo.parent), "--db", db, "--bundle", str(bundle)]
    done = CliRunner().invoke(commands, given)
    assert done.exit_code == 0, done.output
    for language in ("eng_Latn", "arb_Arab"):
        done = CliRunner().invoke(
            commands, ["search", db, "a cat", "--language", language, "--json"]
        )
        assert done.exit_code == 0, done.output
        clip = bareclip.load(bundle, language=language)
        wanted = (clip.embed_images([photo]) @ clip.embed_texts(["a cat"]).T).item()
        [found] = json.loads(done.output)
        assert found["hits"][0]["similarity"] == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_its_precisions(tmp_path: Path, precision: str) -> None:
    folder = nllb.write_open_clip(tmp_path / "checkpoint")
    captions = [f"{word} cat on the red circle" for word in "abcdefghijklmnop"]
    data = Data([], captions)
    made = quantize(export(str(folder), tmp_path / "bundle"), precision, data, force=True)
    report = made.fidelity[precision].towers["text"]
    assert report.mean_cosine > {"int8": 0.98, "int4": 0.85}[precision]
    assert report.batch_difference <= LARGEST_BATCH_DIFFERENCE


def test_wrong_positions_fail_the_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = m2m_100._positions
    monkeypatch.setattr(m2m_100, "_positions", lambda rows, width, pad: right(rows, width, pad + 1))
    folder = nllb.write_open_clip(tmp_path / "checkpoint")
    with pytest.raises(ParityError, match="the text tower differs"):
        export(str(folder), tmp_path / "bundle")


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a language behind a text": (
        "tokenizer_config.json", {"legacy_behaviour": True}, "legacy_behaviour true",
    ),
    "a language that it has not": (
        "tokenizer_config.json", {"src_lang": "tlh_Latn"}, "puts 'tlh_Latn' before a text",
    ),
    "plain embeddings": ("config.json", {"scale_embedding": False}, "scale_embedding False"),
    "uneven heads": ("config.json", {"encoder_attention_heads": 5}, "5 heads in a width of 32"),
    "an activation": ("config.json", {"activation_function": "silu"}, "the activation 'silu'"),
    "another padding": ("config.json", {"pad_token_id": 0}, "the model with 0"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_those_that_are_refused(tmp_path: Path, case: str) -> None:
    file, fields, said = REFUSED[case]
    folder = nllb.write_open_clip(tmp_path / "checkpoint")
    change(folder / file, **fields)
    with pytest.raises(CheckpointError, match=said):
        export(str(folder), tmp_path / "bundle")


def test_a_size_that_is_not_known_is_refused_by_name(tmp_path: Path) -> None:
    folder = nllb.write_open_clip(tmp_path / "checkpoint")
    (folder / "config.json").unlink()
    change_text(folder, hf_model_name="facebook/nllb-200-3.3B")
    with pytest.raises(CheckpointError, match=r"hf_model_name 'facebook/nllb-200-3.3B'"):
        export(str(folder), tmp_path / "bundle")
    assert json.loads((folder / "open_clip_config.json").read_text())


def test_labels_that_are_kept_are_of_their_language(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARECLIP_CACHE", str(tmp_path))
    labels = [f"thing number {i}" for i in range(80)]

    def matrix(language: str | None, cache: bool = True) -> Any:
        clip = bareclip.load(bundle, language=language, cache=cache)
        return clip.classifier(labels).head.matrix.vectors

    for language in (None, "kor_Hang"):
        np.testing.assert_array_equal(matrix(language), matrix(language, cache=False))
    assert not np.array_equal(matrix(None), matrix("kor_Hang"))
