"""bareclip pair: the images of one bundle and the texts of another."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bareclip
from bareclip.bundle import Bundle
from bareclip.bundle.model_card import model_card
from bareclip.bundle.pair import pair
from bareclip.encoders.fingerprint import Fingerprint
from tests.variants import TEXTS, batch


def run(*given: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bareclip", "pair", *map(str, given)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def refused(*given: Any) -> str:
    done = run(*given)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    return done.stderr


@pytest.fixture
def other(bundles: dict[str, Path], tmp_path: Path) -> Path:
    """The bundle "tiny" with another tokenizer recipe, licence, name and scale."""
    folder = Path(shutil.copytree(bundles["tiny"], tmp_path / "other"))
    bundle = Bundle.read(folder)
    source = dataclasses.replace(
        bundle.source, checkpoint="someone/texts", license="apache-2.0", revision="b" * 40
    )
    scoring = dataclasses.replace(bundle.scoring, logit_scale=1.0)
    text = dataclasses.replace(bundle.text_recipe(), context_length=12)
    dataclasses.replace(bundle, name="texts", source=source, scoring=scoring, text=text).write()
    return folder


def test_a_pair_answers_as_its_towers(
    bundles: dict[str, Path], other: Path, tmp_path: Path
) -> None:
    done = run(bundles["tiny"], other, "-o", tmp_path / "made")
    assert done.returncode == 0, done.stderr
    assert "vision at fp32: within" in done.stderr
    assert "text at fp32: within" in done.stderr
    clip, images, texts = map(bareclip.load, (tmp_path / "made", bundles["tiny"], other))
    pictures = list(batch(32, 4))
    np.testing.assert_array_equal(clip.embed_images(pictures), images.embed_images(pictures))
    np.testing.assert_array_equal(clip.embed_texts(TEXTS), texts.embed_texts(TEXTS))
    # The recipe of each travels, the parity of each, and the scale of the images.
    made = clip.bundle
    assert made.image == images.bundle.image
    assert made.text == texts.bundle.text != images.bundle.text
    assert made.scoring == images.bundle.scoring != texts.bundle.scoring
    assert made.precisions["fp32"] == {
        "vision": images.bundle.precisions["fp32"]["vision"],
        "text": texts.bundle.precisions["fp32"]["text"],
    }
    assert all(tower.parity for tower in made.precisions["fp32"].values())
    assert made.source.checkpoint.endswith(" + someone/texts")
    assert not made.damage()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_one_tower_each_is_enough(bundles: dict[str, Path], tmp_path: Path) -> None:
    whole = Bundle.read(bundles["tiny"])
    for tower, without in (
        ("vision", {"text": None, "tokenizer": None}), ("text", {"image": None}),
    ):  # fmt: skip
        folder = Path(shutil.copytree(whole.folder, tmp_path / tower))
        precisions = {"fp32": {tower: whole.precisions["fp32"][tower]}}
        alone = dataclasses.replace(whole, folder=folder, precisions=precisions, **without)  # type: ignore[arg-type]
        alone.write()
    assert run(tmp_path / "vision", tmp_path / "text", "-o", tmp_path / "made").returncode == 0
    assert Bundle.read(tmp_path / "made").files() == whole.files()
    said = refused(tmp_path / "text", tmp_path / "vision", "-o", tmp_path / "again")
    assert "text tower only, so it embeds no images" in said
    assert "vision tower only" in refused(
        tmp_path / "vision", tmp_path / "vision", "-o", tmp_path / "again"
    )


def test_precisions_that_both_have_are_kept(precise: Path, other: Path, tmp_path: Path) -> None:
    done = run(precise, other, "-o", tmp_path / "made")
    assert "int8 is left out, which one of them lacks" in done.stderr
    assert [*Bundle.read(tmp_path / "made").precisions] == ["fp32"]
    both = pair(Bundle.read(precise), Bundle.read(precise), tmp_path / "both")
    assert [*both.precisions] == [*Bundle.read(precise).precisions]
    for report in both.fidelity.values():
        assert set(report.towers) == {"vision", "text"}
        # Measured of others together than these.
        assert report.top1_agreement is report.recall1_change is None
    pytest.importorskip("onnxruntime", minversion="1.22")  # which int8 needs
    vectors = bareclip.load(tmp_path / "both", precision="int8").embed_texts(TEXTS)
    wanted = bareclip.load(precise, precision="int8").embed_texts(TEXTS)
    np.testing.assert_array_equal(vectors, wanted)


def test_what_does_not_belong_together_is_refused(
    bundles: dict[str, Path], precise: Path, other: Path, tmp_path: Path
) -> None:
    tiny, odd, made = bundles["tiny"], bundles["odd"], tmp_path / "made"
    said = refused(tiny, odd, "-o", made)
    assert "makes vectors of 20 numbers" in said
    assert "of 12: neither was trained for the other" in said
    eight = Path(shutil.copytree(precise, tmp_path / "eight"))
    whole = Bundle.read(eight)
    dataclasses.replace(whole, precisions={"int8": whole.precisions["int8"]}).write()
    said = refused(eight, other, "-o", made)
    assert "no precision is common" in said
    assert "(int8)" in said
    weights = other / "fp32" / "text.onnx.data"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(data)
    assert "fp32/text.onnx.data" in refused(tiny, other, "-o", made)
    weights.write_bytes(data[:-1])
    refused(tiny, other, "-o", made)
    assert not made.exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_there_stays(bundles: dict[str, Path], other: Path, tmp_path: Path) -> None:
    tiny, made = bundles["tiny"], tmp_path / "made"
    made.mkdir()
    (made / "mine.txt").write_text("mine")
    assert "exists already; give another -o" in refused(tiny, other, "-o", made)
    assert "is not a bundle" in refused(tiny, other, "-o", made, "--overwrite")
    assert (made / "mine.txt").read_text() == "mine"
    shutil.rmtree(made)
    pair(Bundle.read(tiny), Bundle.read(tiny), made)
    assert "exists already" in refused(tiny, other, "-o", made)
    assert run(tiny, other, "-o", made, "--overwrite").returncode == 0
    assert Bundle.read(made).text_recipe().context_length == 12
    # Onto one of the two.
    assert run(tiny, made, "-o", made, "--overwrite").returncode == 0
    assert Bundle.read(made).text_recipe().context_length == 12


def test_both_licences_hold(bundles: dict[str, Path], other: Path, tmp_path: Path) -> None:
    def licensed(first: str | None, second: str | None) -> Bundle:
        made = []
        for bundle, licence in (
            (Bundle.read(bundles["tiny"]), first),
            (Bundle.read(other), second),
        ):
            source = dataclasses.replace(bundle.source, license=licence)
            made.append(dataclasses.replace(bundle, source=source))
        return pair(made[0], made[1], tmp_path / "made", overwrite=True)

    free = licensed("mit", "apache-2.0")
    assert free.source.license == "mit and apache-2.0"
    assert "Restricted" not in model_card(free, "me/mine")
    assert "Restricted" in model_card(licensed("mit", "cc-by-nc-4.0"), "me/mine")
    assert licensed("mit", "mit").source.license == "mit"
    # Without one, nobody may use it.
    assert "states no licence" in model_card(licensed("mit", None), "me/mine")


def test_an_index_knows_the_pair_from_its_parts(
    bundles: dict[str, Path], other: Path, tmp_path: Path
) -> None:
    made = pair(Bundle.read(bundles["tiny"]), Bundle.read(other), tmp_path / "made").folder
    first, second = (
        Fingerprint.of(bareclip.load(folder), "scaled") for folder in (bundles["tiny"], made)
    )
    assert first.vision == second.vision
    assert first.image_recipe == second.image_recipe
    assert first != second


def test_a_pair_is_as_bundle_json_says(
    bundles: dict[str, Path], other: Path, tmp_path: Path
) -> None:
    made = pair(Bundle.read(bundles["tiny"]), Bundle.read(other), tmp_path / "made").folder
    manifest = json.loads((made / "bundle.json").read_text())
    assert manifest["format_version"] == 1
    assert manifest["name"] == "tiny + texts"
