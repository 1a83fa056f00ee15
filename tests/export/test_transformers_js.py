"""Folders that bareclip writes for transformers.js: loaded by it, in Node, and taken back.

BARECLIP_TRANSFORMERS_JS names a folder with its node_modules: see CONTRIBUTING.md.
"""

import dataclasses
import json
import os
import shutil
import string
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from PIL import Image

import bareclip
from bareclip.bundle import DEMO, Bundle
from bareclip.errors import BundleError
from bareclip.texts.clean_up import clean
from bareclip_export import transformers_js
from bareclip_export.errors import CheckpointError, ParityError
from bareclip_export.export import export, import_graphs
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import Precisions
from bareclip_export.transformers_js import write_layout
from tests.runtime.test_cli import complaint, run
from tests.seeded import siglip
from tests.variants import TEXTS, batch, picture

DTYPES = {"fp32": "fp32", "int8": "q8", "int4": "q4"}
TEMPLATE = "a photo of a {}"
# Short, empty, odd, and longer than the model takes, whose end transformers.js cuts off.
LABELS = ["cat", "", "Dog", "naïve café 東京", "red circle, 100% blue; it's", "cat " * 60]


@pytest.fixture(scope="module")
def library() -> Path:
    folder = os.environ.get("BARECLIP_TRANSFORMERS_JS")
    if not folder or shutil.which("node") is None:
        pytest.skip("BARECLIP_TRANSFORMERS_JS is not set, or there is no node")
    return Path(folder) / "node_modules/@huggingface/transformers/dist/transformers.node.mjs"


@pytest.fixture(scope="module")
def sigmoid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sigmoid")
    checkpoint = siglip.write_checkpoint(folder / "siglip")
    wanted = Precisions(("fp32", "int8", "int4"), Data(), force=True)
    return export(str(checkpoint), folder / "bundle", precisions=wanted).folder


def ask(library: Path, folder: Path, precisions: list[str], images: list[Path]) -> dict[str, Any]:
    asked = {
        "folder": str(folder),
        "dtypes": [DTYPES[name] for name in precisions],
        "labels": LABELS,
        "template": TEMPLATE,
        "images": [str(path) for path in images],
    }
    command = ["node", str(Path(__file__).with_name("transformers_js.mjs")), str(library)]
    found = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, check=False, timeout=300
    )
    assert found.returncode == 0, found.stderr
    answers: dict[str, Any] = json.loads(found.stdout)
    return answers


def compare(library: Path, bundle: Bundle, tmp_path: Path) -> None:
    write_layout(bundle, tmp_path / "web")
    images = []
    # As large as the model takes: nothing is resized, and the pixels are the same.
    for i, pixels in enumerate(batch(bundle.image_recipe().size, 4)):
        images.append(tmp_path / f"{i}.png")
        Image.fromarray(pixels).save(images[-1])
    precisions = [name for name in bundle.precisions if name in DTYPES]
    answers = ask(library, tmp_path / "web", precisions, images)
    for precision in precisions:
        found = answers[DTYPES[precision]]
        clip = bareclip.load(bundle.folder, precision=precision)
        texts = [TEMPLATE.replace("{}", label) for label in LABELS]
        vectors = clip.embed_images(images), clip.embed_texts(texts)
        tolerance = 1e-5 if precision == "fp32" else 0.02
        assert np.abs(np.array(found["images"]) - vectors[0]).max() < tolerance
        assert np.abs(np.array(found["texts"]) - clip.embed_texts(LABELS)).max() < tolerance
        logits = np.exp(bundle.scoring.logit_scale) * vectors[0] @ vectors[1].T
        logits = logits + bundle.scoring.logit_bias
        if bundle.scoring.function == "softmax":
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            wanted = powers / powers.sum(axis=1, keepdims=True)
        else:
            wanted = 1 / (1 + np.exp(-logits))
        assert np.abs(np.array(found["scores"]) - wanted).max() < 1e-3


def test_scores_and_vectors_are_the_bundles(library: Path, precise: Path, tmp_path: Path) -> None:
    compare(library, Bundle.read(precise), tmp_path)


def test_of_the_demo_model(library: Path, tmp_path: Path) -> None:
    compare(library, Bundle.read(DEMO), tmp_path)


def test_of_a_sigmoid_and_texts_of_fixed_length(
    library: Path, sigmoid: Path, tmp_path: Path
) -> None:
    compare(library, Bundle.read(sigmoid), tmp_path)


def test_with_weights_in_files_of_their_own(
    library: Path, precise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transformers_js, "_LARGEST_FILE", 0)
    compare(library, Bundle.read(precise), tmp_path)
    assert (tmp_path / "web/onnx/model_quantized.onnx_data").is_file()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_import_takes_a_folder_back(
    kind: str, precise: Path, sigmoid: Path, tmp_path: Path
) -> None:
    source = Bundle.read(precise if kind == "softmax" else sigmoid)
    write_layout(source, tmp_path / "web")
    back = import_graphs(
        str(tmp_path / "web"), tmp_path / "back", variants=["quantized", "q4"], force=True
    )
    assert (back.scoring, back.image) == (source.scoring, source.image)
    assert back.text is not None
    assert back.text.context_length == source.text_recipe().context_length
    images = [picture(40, 50), picture(70, 33)]
    for precision in ("fp32", "int8", "int4"):
        ours, theirs = (bareclip.load(b.folder, precision=precision) for b in (source, back))
        difference = ours.embed_images(images) - theirs.embed_images(images)
        assert np.abs(difference).max() < 1e-5
        assert np.abs(ours.embed_texts(TEXTS) - theirs.embed_texts(TEXTS)).max() < 1e-5


def test_clean_up_is_in_the_tokenizer(precise: Path, tmp_path: Path) -> None:
    steps = ("underscores_to_spaces", "remove_punctuation", "lowercase", "collapse_whitespace")
    source = Bundle.read(precise)
    text = dataclasses.replace(source.text_recipe(), clean_up=("fix_text", *steps))
    said: list[str] = []
    write_layout(dataclasses.replace(source, text=text), tmp_path / "web", said.append)
    assert any("tokenizer.json cannot do fix_text" in line for line in said)
    tokenizer = tokenizers.Tokenizer.from_file(str(tmp_path / "web/tokenizer.json"))
    usual = tokenizers.Tokenizer.from_file(str(precise / "tokenizer.json"))
    for given in (*TEXTS, string.printable, "snake_case__name", " a \t\u3000 b\n", "[x]^-\\ ~`ÀÉ"):
        wanted = usual.normalizer.normalize_str(clean(given, steps))
        assert tokenizer.normalizer.normalize_str(given) == wanted


def test_a_graph_that_answers_otherwise_is_refused_and_leaves_nothing(
    precise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = transformers_js._bytes
    monkeypatch.setattr(
        transformers_js,
        "_bytes",
        lambda builder, values, recipe: made(
            builder, values, dataclasses.replace(recipe, mean=(0.4, 0.4, 0.4))
        ),
    )
    with pytest.raises(ParityError, match="image_embeds of the fp32 graph differ from"):
        write_layout(Bundle.read(precise), tmp_path / "web")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "given",
    [
        ["--precision", "fp32,int8"],
        ["--calibrate", "."],
        ["--captions", "."],
        ["--force"],
        ["--via", "authored"],
        ["--model", "ViT-B-32"],
    ],
)
def test_options_for_a_checkpoint_are_refused_of_a_bundle(
    given: list[str], bundles: dict[str, Path], tmp_path: Path
) -> None:
    place = bundles["tiny"]
    command = ["export", place, "-o", tmp_path / "web", "--layout", "transformers.js", *given]
    said = complaint(*command, code=2)
    assert f"{given[0]} is for a checkpoint, and {place} is a bundle" in said
    assert f"bareclip quantize {place} --precision int8" in said
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_int8_is_told_how_to_have_it(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    place = bundles["tiny"]
    found = run("export", place, "-o", tmp_path / "web", "--layout", "transformers.js")
    assert f"make it first with bareclip quantize {place} --precision int8" in found.stderr


def test_the_command(checkpoints: dict[str, Path], precise: Path, tmp_path: Path) -> None:
    web = ["--layout", "transformers.js"]
    found = run("export", precise, "-o", tmp_path / "of-bundle", *web)
    assert "model.onnx, vision_model.onnx" in found.stdout
    assert (
        "give another -o"
        in run("export", precise, "-o", tmp_path / "of-bundle", *web, code=1).stderr
    )
    found = run("export", checkpoints["tiny"], "-o", tmp_path / "of-checkpoint", *web)
    assert "which this folder lacks: give --precision" in found.stderr
    again = run("export", checkpoints["tiny"], "-o", tmp_path / "of-checkpoint", *web, code=1)
    assert "exists already; give another -o" in again.stderr
    assert again.stderr.count("\n") == 1  # nothing was converted for it
    assert sorted(path.name for path in (tmp_path / "of-checkpoint").iterdir()) == [
        "config.json",
        "onnx",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    refused = run("export", precise, "-o", tmp_path / "x", *web, "--static", "1", code=1).stderr
    assert "leave --whole, --static and --overwrite out" in refused
    files = Bundle.read(precise).precisions["fp32"]["text"]
    alone = dataclasses.replace(
        Bundle.read(precise), image=None, precisions={"fp32": {"text": files}}, fidelity={}
    )
    with pytest.raises(BundleError, match="has a text tower only"):
        write_layout(alone, tmp_path / "x")
    with pytest.raises(CheckpointError, match="has graphs of fixed shapes"):
        write_layout(
            dataclasses.replace(alone, image=Bundle.read(precise).image, static_batch=1),
            tmp_path / "x",
        )
