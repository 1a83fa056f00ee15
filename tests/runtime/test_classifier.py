"""Classifiers as files: the same answers without a text tower, for their model alone."""

import dataclasses
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import bareclip
from bareclip import ClassifierError
from bareclip.bundle import Bundle
from bareclip.encoders.fingerprint import Fingerprint
from bareclip.files.npz import read_npz
from tests.runtime.test_cli import complaint, run
from tests.variants import picture

LABELS = ["cat", "dog", "a <b>bird</b> & \u202e\x1b[31mco"]


@pytest.fixture
def saved(clip: bareclip.Clip, tmp_path: Path) -> Path:
    clip.classifier(LABELS, templates="five", ensemble="probability").save(tmp_path / "pets.npz")
    return tmp_path / "pets.npz"


def test_a_saved_one_answers_the_same_bits_without_a_text_tower(
    clip: bareclip.Clip, bundles: dict[str, Path], saved: Path, tmp_path: Path
) -> None:
    images = [picture(50 + i, 40, seed=i) for i in range(5)]
    wanted = clip.classifier(LABELS, templates="five", ensemble="probability")
    bundle = Path(shutil.copytree(bundles["tiny"], tmp_path / "tiny"))
    for file in [*bundle.glob("fp32/text*"), bundle / "tokenizer.json"]:
        file.write_bytes(b"x" * file.stat().st_size)
    found = bareclip.load_classifier(saved, bareclip.load(bundle, towers=["vision"]))
    assert found.labels == tuple(LABELS)
    assert found.classify(images) == wanted.classify(images)
    vectors = clip.embed_images(images)
    alone = bareclip.load_classifier(str(saved))
    np.testing.assert_array_equal(alone.probabilities(vectors), wanted.probabilities(vectors))
    with pytest.raises(ClassifierError, match=r"without a model.*load_classifier\(path, bareclip"):
        alone.classify(images)
    # Saved again, it says the same.
    alone.save(tmp_path / "again.npz")
    again = bareclip.load_classifier(tmp_path / "again.npz")
    np.testing.assert_array_equal(again.probabilities(vectors), wanted.probabilities(vectors))


def test_other_models_are_refused_and_other_precisions_are_not(
    clip: bareclip.Clip, bundles: dict[str, Path], precise: Path, saved: Path
) -> None:
    pytest.importorskip("onnxruntime", minversion="1.22")  # which int8 needs
    with pytest.raises(ClassifierError, match=r"made with tiny \(fp32, 20 wide\), and .* is odd "):
        bareclip.load_classifier(saved, bareclip.load(bundles["odd"]))
    with pytest.raises(ClassifierError, match=r"is bareclip-demo.*; give the same model"):
        bareclip.load_classifier(saved, bareclip.load())
    other = bareclip.load(precise, precision={"vision": "int8", "text": "fp32"})
    found = bareclip.load_classifier(saved, other).classify(picture(60, 50))
    assert {one.label for one in found[0]} == set(LABELS)
    stored = bareclip.load(bundles["tiny"], reading="as_stored")
    assert bareclip.load_classifier(saved, stored).labels == tuple(LABELS)


def test_a_model_of_the_same_name_with_other_weights_is_refused(
    clip: bareclip.Clip, bundles: dict[str, Path], saved: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(bundles["tiny"], tmp_path / "tiny"))
    manifest = json.loads((bundle / "bundle.json").read_text())
    files = manifest["precisions"]["fp32"]["vision"]["files"]
    files[min(files)]["sha256"] = "0" * 64
    (bundle / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(ClassifierError, match="of the same name and of other files"):
        bareclip.load_classifier(saved, bareclip.load(bundle))


def edited(data: bytes, change: Callable[[dict[str, Any], dict[str, NDArray[Any]]], Any]) -> bytes:
    """The file with its description and its arrays changed."""
    arrays = read_npz(io.BytesIO(data))
    about = json.loads(arrays.pop("about").tobytes())
    change(about, arrays)
    file = io.BytesIO()
    text = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(file, about=text, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


ODD: dict[str, Callable[[dict[str, Any], dict[str, NDArray[Any]]], Any]] = {
    "'more', which is unknown": lambda about, arrays: about.update(more=1),
    "'extra', which is unknown": lambda about, arrays: arrays.update(extra=np.zeros(3)),
    "it has no vectors": lambda about, arrays: arrays.pop("vectors"),
    "it has no labels": lambda about, arrays: about.pop("labels"),
    "format is 2": lambda about, arrays: about.update(format=2),
    "labels are 'cat'": lambda about, arrays: about.update(labels="cat"),
    "labels are []": lambda about, arrays: about.update(labels=[]),
    "label 7": lambda about, arrays: about.update(labels=["cat", 7, "x"]),
    "label '\\ud800'": lambda about, arrays: about.update(labels=["cat", "\ud800", "x"]),
    "not float32 (any, 2, 20)": lambda about, arrays: about["labels"].pop(),
    "vectors are not finite": lambda about, arrays: arrays.update(
        vectors=np.where(arrays["vectors"] > 0, np.nan, arrays["vectors"])
    ),
    "vectors are float64": lambda about, arrays: arrays.update(
        vectors=arrays["vectors"].astype(np.float64)
    ),
    "width 20.5": lambda about, arrays: about["made_by"].update(width=20.5),
    "made_by has 'more'": lambda about, arrays: about["made_by"].update(more=1),
    "made_by has no vision": lambda about, arrays: about["made_by"].pop("vision"),
    "logit_scale is 5000": lambda about, arrays: about["scoring"].update(logit_scale=5000),
    "logit_bias is nan": lambda about, arrays: about["scoring"].update(logit_bias=float("nan")),
    "function is 'exp'": lambda about, arrays: about["scoring"].update(function="exp"),
    "it has no examples": lambda about, arrays: about.update(lookup={"weight": 1, "sharpness": 1}),
    "places are not all of the 3": lambda about, arrays: (
        about.update(lookup={"weight": 1, "sharpness": 1}),
        arrays.update(examples=np.ones((2, 20), np.float32), places=np.array([0, 3])),
    ),
    "sharpness is -1": lambda about, arrays: (
        about.update(lookup={"weight": 1, "sharpness": -1}),
        arrays.update(examples=np.ones((2, 20), np.float32), places=np.array([0, 2])),
    ),
    "taught is 7": lambda about, arrays: about.update(taught=7),
}


@pytest.mark.parametrize("reason", ODD)
def test_what_is_odd_is_refused_by_name(saved: Path, reason: str) -> None:
    saved.write_bytes(edited(saved.read_bytes(), ODD[reason]))
    with pytest.raises(ClassifierError) as caught:
        bareclip.load_classifier(saved)
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_cut_and_many_flips_are_one_line_or_the_same_answer(
    clip: bareclip.Clip, saved: Path
) -> None:
    data, vectors = saved.read_bytes(), clip.embed_images([picture(50, 40)])
    wanted = bareclip.load_classifier(saved).probabilities(vectors)
    rng = np.random.default_rng(0)
    mutants = [data[:length] for length in (*range(0, len(data), 97), len(data) - 1)]
    for _ in range(300):
        mutant = bytearray(data)
        mutant[rng.integers(len(data))] ^= 1 << rng.integers(8)
        mutants.append(bytes(mutant))
    reasons = []
    for mutant_bytes in mutants:
        saved.write_bytes(mutant_bytes)
        try:
            found = bareclip.load_classifier(saved).probabilities(vectors)
        except ClassifierError as error:
            reasons.append(str(error))
        else:
            # In a date, or a field of the archive that nobody reads.
            np.testing.assert_array_equal(found, wanted)
    assert not any("\n" in reason for reason in reasons)
    assert len(reasons) > len(mutants) // 2


def test_no_pickle_no_bomb_and_no_size_that_is_not_there(saved: Path) -> None:
    def npy(header: bytes, data: bytes) -> bytes:
        padded = header + b" " * (-(len(header) + 11) % 64) + b"\n"
        return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + data

    plain = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%s), }"
    cases = {
        "holds object": npy(plain.replace(b"<f4", b"|O") % b"1,", b"\x80\x04N."),
        "bytes for": npy(plain % b"1000000000000, 1000000000000", b"1234"),
        "is compressed": bytes(10**7),
    }
    for reason, member in cases.items():
        kind = zipfile.ZIP_DEFLATED if reason == "is compressed" else zipfile.ZIP_STORED
        with zipfile.ZipFile(saved, "w", kind) as archive:
            archive.writestr("about.npy", member)
        with pytest.raises(ClassifierError, match=reason):
            bareclip.load_classifier(saved)


def test_places_that_are_none(clip: bareclip.Clip, saved: Path, tmp_path: Path) -> None:
    classifier, before = clip.classifier(LABELS), saved.read_bytes()
    for path in (tmp_path / "missing" / "x.npz", tmp_path, "a\0b", Path("/dev/zero")):
        with pytest.raises(ClassifierError, match="cannot read"):
            bareclip.load_classifier(path)
    for path in (tmp_path / "missing" / "x.npz", "a\0b", tmp_path):
        with pytest.raises(ClassifierError, match="cannot write"):
            classifier.save(path)
    assert saved.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["pets.npz"]


def test_the_command(bundles: dict[str, Path], saved: Path, tmp_path: Path) -> None:
    picture(50, 40).save(tmp_path / "x.png")
    asked = ["classify", tmp_path / "x.png", "--json"]
    bundle = ["--bundle", bundles["tiny"]]
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    options = ["--templates", "five", "--ensemble", "probability"]
    wanted = run(*asked, "--labels", tmp_path / "labels.txt", *options, *bundle).stdout
    assert run(*asked, "--classifier", saved, *bundle).stdout == wanted
    said = run("-v", *asked, "--classifier", saved, *bundle).stderr
    assert "loaded the vision tower" in said
    assert "text tower" not in said
    assert "one of the two" in complaint(*asked, *bundle, code=2)
    assert "leaves no place for --templates" in complaint(
        *asked, "--classifier", saved, "--templates", "five", *bundle, code=2
    )
    assert "cannot read" in complaint(*asked, "--classifier", tmp_path / "no.npz", *bundle)


def test_a_bundle_of_int8_alone_answers_without_its_texts(precise: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", minversion="1.22")  # which int8 needs
    copy = Path(shutil.copytree(precise, tmp_path / "int8"))
    whole = Bundle.read(copy)
    kept = {"int8": whole.precisions["int8"]}
    dataclasses.replace(whole, precisions=kept, fidelity={}).write()
    bareclip.load(copy).classifier(["cat", "dog"]).save(tmp_path / "pets.npz")
    seeing = bareclip.load(copy, towers=["vision"])
    pets = bareclip.load_classifier(tmp_path / "pets.npz", seeing)
    assert len(pets.classify(picture(40, 40), top=1)[0]) == 1


def test_bf16_is_fp32s_files(precise: Path) -> None:
    class AtBf16:
        bundle = Bundle.read(precise)
        precision: ClassVar = {"vision": "bf16", "text": "bf16"}
        reading = "as_seen"

    found = Fingerprint.of(AtBf16(), "exact")
    assert found.precision == "bf16"
    assert found.vision == Fingerprint.of(bareclip.load(precise), "exact").vision
