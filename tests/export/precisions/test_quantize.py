"""Adding precisions to a bundle: what is measured, what is refused, what is never lost."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import bareclip
from bareclip.bundle import Bundle, file_record
from bareclip.errors import BundleError, DeviceError
from bareclip.images.folders import image_files
from bareclip.inference.device import Device
from bareclip.measure.fidelity import FLOORS, compare, make_corpus, shortfalls
from bareclip_export.errors import PrecisionError
from bareclip_export.export import export
from bareclip_export.precisions import rounding
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.quantize import Precisions, quantize
from bareclip_export.transformers_js import write_layout
from bareclip_export.whole import add_whole
from tests.runtime.test_cli import run
from tests.variants import SHAPES, picture

NOTHING = Data([], [])


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in a folder, and pairs.jsonl that gives each a caption."""
    folder = tmp_path_factory.mktemp("photos")
    lines = []
    for number in range(12):
        name = f"{number:02}.png"
        picture(*SHAPES[number % 5], seed=number).save(folder / name)
        lines.append({"image": name, "captions": [f"a photo of {number} cats", f"{number} dogs"]})
    (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (folder / "captions.txt").write_text("\n".join(f"a photo of {n} fish" for n in range(20)))
    return folder


@pytest.fixture
def bundle(bundles: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundles["tiny"], tmp_path / "bundle"))


@pytest.fixture(scope="session")
def quantized(bundles: dict[str, Path], photos: Path, tmp_path_factory: Any) -> Path:
    """The tiny bundle in every precision; tests that change it copy it first."""
    folder = Path(shutil.copytree(bundles["tiny"], tmp_path_factory.mktemp("q") / "bundle"))
    data = Data.read(photos, photos / "pairs.jsonl")
    made = Bundle.read(folder)
    for precision in ("int8", "int4", "fp16"):
        made = quantize(made, precision, data)
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_report_is_what_the_runtime_finds(quantized: Path, photos: Path) -> None:
    bundle = Bundle.read(quantized)
    assert list(bundle.precisions) == ["fp32", "int8", "int4", "fp16"]
    paths = sorted(photos.glob("*.png"))[::2]
    texts = [t for n in range(0, 12, 2) for t in (f"a photo of {n} cats", f"{n} dogs")]
    base = bareclip.load(quantized)
    wanted = base.embed_images(paths), base.embed_texts(texts)
    for precision in ("int8", "int4"):
        report = bundle.fidelity[precision]
        assert report.data == "6 photos and 12 texts"
        clip = bareclip.load(quantized, precision=precision)
        found = clip.embed_images(paths), clip.embed_texts(texts)
        for name, ours, theirs in zip(("vision", "text"), found, wanted, strict=True):
            cosines = (ours * theirs).sum(axis=1)
            tower = report.towers[name]
            assert tower.inputs == len(ours)
            assert tower.mean_cosine == pytest.approx(cosines.mean(), abs=2e-6)
            assert tower.min_cosine == pytest.approx(cosines.min(), abs=2e-6)
            assert tower.p1_cosine == pytest.approx(np.quantile(cosines, 0.01), abs=2e-6)
            assert tower.batch_difference <= 1e-6
            assert tower.speed_ratio is not None
            assert tower.speed_ratio > 0
        scores = [images @ words.T for images, words in (found, wanted)]
        same = scores[0].argmax(axis=1) == scores[1].argmax(axis=1)
        assert report.top1_agreement == pytest.approx(same.mean())
        owners = np.repeat(np.arange(6), 2)
        recalls = [
            ((owners[s.argmax(axis=1)] == range(6)).mean() + (s.argmax(axis=0) == owners).mean())
            / 2
            for s in scores
        ]
        assert report.recall1_change == pytest.approx(100 * (recalls[0] - recalls[1]))
        assert not report.forced
    assert all(tower.speed_ratio is None for tower in bundle.fidelity["fp16"].towers.values())


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16"])
def test_files_that_have_a_second_name(
    bundle: Path, tmp_path: Path, photos: Path, precision: str
) -> None:
    # As those that were fetched from the Hub, whose cache has them too.
    linked = shutil.copytree(bundle, tmp_path / "linked", copy_function=os.link)
    data = Data.read(photos, None)
    made = quantize(Bundle.read(linked), precision, data)
    wanted = quantize(Bundle.read(bundle), precision, data)
    for tower, files in wanted.precisions[precision].items():
        assert made.precisions[precision][tower].files == files.files


def test_recipes_say_what_was_done(quantized: Path, bundle: Path, photos: Path) -> None:
    made = Bundle.read(quantized)
    recipe = made.tower("int8", "vision").recipe
    assert recipe == "static for 14 products, weights alone for 5"
    plain = quantize(Bundle.read(bundle), "int8", NOTHING)
    assert plain.tower("int8", "vision").recipe == "weights alone, for want of calibration"
    # Captions alone calibrate the text tower alone.
    data = Data.read(None, photos / "captions.txt")
    halves = quantize(plain, "int8", data, overwrite=True)
    assert halves.tower("int8", "vision").recipe == "weights alone, for want of calibration"
    assert halves.tower("int8", "text").recipe.startswith("static for")
    assert halves.fidelity["int8"].data == "24 drawn pictures and 10 texts"


def test_the_halves_of_the_data_share_nothing(photos: Path) -> None:
    data = Data.read(photos, photos / "pairs.jsonl")
    assert len(data.photos) == 12  # the folder's are the file's
    judged, calibrated = ({path for path, _ in data.half(i).photos} for i in (0, 1))
    assert len(judged) == len(calibrated) == 6
    assert not judged & calibrated


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16"])
def test_every_precision_is_a_valid_graph_and_smaller(quantized: Path, precision: str) -> None:
    bundle = Bundle.read(quantized)
    assert bundle.damage() == []
    for tower in ("vision", "text"):
        onnx.checker.check_model(str(quantized / bundle.tower(precision, tower).graph))
        assert bundle.size(precision, tower) < bundle.size("fp32", tower)


def test_a_precision_for_each_tower(quantized: Path, photos: Path) -> None:
    mixed = bareclip.load(quantized, precision={"vision": "int8", "text": "fp32"})
    assert mixed.precision == {"vision": "int8", "text": "fp32"}
    paths = sorted(photos.glob("*.png"))
    whole, int8 = (bareclip.load(quantized, precision=p) for p in ("auto", "int8"))
    assert whole.precision == {"vision": "fp32", "text": "fp32"}
    np.testing.assert_array_equal(mixed.embed_images(paths), int8.embed_images(paths))
    np.testing.assert_array_equal(mixed.embed_texts(["a cat"]), whole.embed_texts(["a cat"]))
    assert (int8.embed_images(paths) != whole.embed_images(paths)).any()


def test_precisions_that_cannot_be_had(
    quantized: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BundleError, match="has no precision 'int8'; it has fp32"):
        bareclip.load(bundle, precision="int8", preload=True)
    with pytest.raises(BundleError, match="must be a name, or name some of vision, text, which"):
        bareclip.load(bundle, precision={"vison": "fp32"})
    partial = bareclip.load(quantized, precision={"vision": "int8"})
    assert partial.precision == {"vision": "int8", "text": "fp32"}
    with pytest.raises(
        DeviceError, match="fp16 is for CUDA, and .* use precision='fp32', or 'int8'"
    ):
        bareclip.load(quantized, precision="fp16", device="cpu", preload=True)
    device = Device("cuda", required=True)
    with pytest.raises(DeviceError, match="int8 is for the CPU: .* use precision='fp16'"):
        device.check_precision("int8")


def test_what_falls_short_is_not_kept(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, photos: Path
) -> None:
    before = snapshot(bundle)
    monkeypatch.setattr(rounding, "_SHARES", {4: (0.2,), 8: (0.2,)})
    with pytest.raises(PrecisionError, match=r"int4 falls short: vision mean cosine 0\.\d+ is und"):
        quantize(Bundle.read(bundle), "int4", NOTHING)
    assert snapshot(bundle) == before
    forced = quantize(Bundle.read(bundle), "int4", NOTHING, force=True)
    assert forced.fidelity["int4"].forced
    assert shortfalls("int4", forced.fidelity["int4"])
    assert "kept by force" in run("info", bundle).stdout
    complaint = run("verify", bundle, code=1)
    assert "falls short at int4: vision mean cosine" in complaint.stderr


@pytest.mark.parametrize(
    "work",
    [
        lambda bundle, report: quantize(bundle, "fp16", NOTHING, report=report),
        lambda bundle, report: write_layout(bundle, bundle.folder.with_name("web"), report),
        lambda bundle, report: add_whole(bundle, report=report),
    ],
    ids=["quantize", "layout", "whole"],
)
def test_a_graph_that_names_other_files_is_refused_before_it_is_opened(
    bundle: Path, tmp_path: Path, work: Any
) -> None:
    graph = bundle / "fp32" / "vision.onnx"
    shutil.copy(f"{graph}.data", tmp_path / "secret")
    model = onnx.load(graph, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../../secret"
    onnx.save(model, graph)
    made = Bundle.read(bundle, whole=False)
    vision = made.tower("fp32", "vision")
    files = vision.files | {vision.graph: file_record(graph)}
    towers = made.precisions["fp32"] | {"vision": dataclasses.replace(vision, files=files)}
    dataclasses.replace(made, precisions={"fp32": towers}).write()
    made, steps = Bundle.read(bundle), list[str]()
    with pytest.raises(BundleError, match=r"keeps weights in '\.\./\.\./secret', which is none of"):
        work(made, steps.append)
    assert steps == []
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "secret"}


def test_what_is_there_is_not_lost(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = quantize(Bundle.read(bundle), "int8", NOTHING)
    with pytest.raises(PrecisionError, match="has int8 already; --overwrite"):
        quantize(made, "int8", NOTHING)
    before = snapshot(bundle)
    monkeypatch.setattr(rounding, "_SHARES", {8: (0.1,)})
    with pytest.raises(PrecisionError, match="falls short"):
        quantize(made, "int8", NOTHING, overwrite=True)
    assert snapshot(bundle) == before
    monkeypatch.undo()
    again = quantize(made, "int8", NOTHING, overwrite=True)
    assert again.files() == made.files()
    assert {p.name for p in bundle.iterdir()} == {"bundle.json", "tokenizer.json", "fp32", "int8"}


def test_one_that_was_added_meanwhile_stays(bundle: Path) -> None:
    before = Bundle.read(bundle)
    quantize(before, "int8", NOTHING)
    assert set(quantize(before, "int4", NOTHING).precisions) == {"fp32", "int8", "int4"}
    assert set(Bundle.read(bundle).fidelity) == {"int8", "int4"}


@pytest.mark.parametrize("failing", [1, 2])
def test_a_write_that_fails_brings_the_old_one_back(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    made = quantize(Bundle.read(bundle), "int8", NOTHING)
    before, write, calls = snapshot(bundle), Bundle.write, []

    def full(self: Bundle) -> None:
        calls.append(self)
        if len(calls) == failing:
            raise OSError("No space left on device")
        write(self)

    monkeypatch.setattr(Bundle, "write", full)
    with pytest.raises(OSError, match="No space"):
        quantize(made, "int8", NOTHING, overwrite=True)
    assert snapshot(bundle) == before


def test_a_photo_named_twice_does_not_judge_what_it_calibrated(
    tmp_path: Path, photos: Path
) -> None:
    lines = [
        json.dumps({"image": str(path), "captions": [f"{n} of {path.name}"]})
        for path in image_files(photos)
        for n in range(3)
    ]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    data = Data.read(photos, tmp_path / "pairs.jsonl")
    halves = [{path.resolve() for path, _ in data.half(which).photos} for which in (0, 1)]
    assert halves[0].isdisjoint(halves[1])
    assert halves[0] | halves[1] == {path.resolve() for path in image_files(photos)}
    assert all(len(several) == 3 for _, several in data.photos)
    (tmp_path / "few.jsonl").write_text("\n".join(lines[:9]))
    with pytest.raises(PrecisionError, match="few.jsonl holds 3 photos; calibration wants at lea"):
        Data.read(None, tmp_path / "few.jsonl")


def test_killed_at_any_moment_leaves_a_whole_bundle(bundle: Path, tmp_path: Path) -> None:
    quantize(Bundle.read(bundle), "int8", NOTHING)
    code = (
        "import sys; from pathlib import Path; from bareclip.bundle import Bundle\n"
        "from bareclip_export.precisions.data import Data\n"
        "from bareclip_export.precisions.quantize import quantize\n"
        "print('go', flush=True)\n"
        "quantize(Bundle.read(Path(sys.argv[1])), 'int8', Data([], []), overwrite=True)"
    )
    rng = np.random.default_rng(0)
    finished = 0
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(bundle)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        finished += process.wait() == 0
        process.stdout.close()
        found = Bundle.read(bundle)
        assert found.damage() == []
        assert "fp32" in found.precisions
    assert finished < 12
    for left in bundle.glob(".*.partial"):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    assert quantize(Bundle.read(bundle), "int8", NOTHING, overwrite=True).damage() == []


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16"])
def test_damaged_files_are_named(quantized: Path, tmp_path: Path, precision: str) -> None:
    folder = Path(shutil.copytree(quantized, tmp_path / "bundle"))
    weights = folder / precision / "vision.onnx.data"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(BundleError, match=rf"{precision}/vision.onnx.data is \d+ bytes, where"):
        Bundle.read(folder)
    weights.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    assert Bundle.read(folder).damage() == [f"{precision}/vision.onnx.data"]
    assert "is damaged" in run("verify", folder, code=1).stderr
    weights.unlink()
    with pytest.raises(BundleError, match="is missing, where"):
        Bundle.read(folder)
    weights.write_bytes(whole)
    graph = folder / precision / "vision.onnx"
    graph.write_bytes(os.urandom(graph.stat().st_size))
    if precision != "fp16":
        with pytest.raises(BundleError, match="cannot read .* as an ONNX graph"):
            bareclip.load(folder, precision=precision, preload=True)


def test_export_with_precisions(checkpoints: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    data = Data.read(photos, None)
    both = export(
        str(checkpoints["odd"]), tmp_path / "both", precisions=Precisions(("fp32", "int8"), data)
    )
    assert list(both.precisions) == ["fp32", "int8"]
    assert both.tower("int8", "vision").recipe.startswith("static for")
    small = export(str(checkpoints["odd"]), tmp_path / "small", precisions=Precisions(("int4",)))
    assert list(small.precisions) == ["int4"]
    assert not (small.folder / "fp32").exists()
    clip = bareclip.load(small.folder)
    assert clip.precision == {"vision": "int4", "text": "int4"}
    assert clip.embed_texts(["a cat"]).shape == (1, 12)
    complaint = run("verify", small.folder, code=1).stderr
    assert "has no fp32 to compare int4 with; its files are whole" in complaint
    half = export(str(checkpoints["odd"]), tmp_path / "half", precisions=Precisions(("fp16",)))
    with pytest.raises(BundleError, match="has no vision tower that runs on cpu; it has fp16"):
        bareclip.load(half.folder)
    assert {path.name for path in tmp_path.iterdir()} == {"both", "small", "half"}


def test_the_commands(bundle: Path, photos: Path) -> None:
    pairs = photos / "pairs.jsonl"
    found = run("quantize", bundle, "--precision", "int8,int4", "--captions", pairs)
    assert "calibrating it on 6 inputs" in found.stderr
    assert "int8 against fp32 on 6 photos and 12 texts\n" in found.stdout
    assert "weights in 4-bit blocks" in found.stdout
    assert "recall@1 changed by" in found.stdout
    told = json.loads(run("quantize", bundle, "--precision", "fp16", "--json").stdout)
    assert set(told["fidelity"]) == {"int8", "int4", "fp16"}
    checked = run("verify", bundle, photos)
    assert "int4 against fp32 on 12 photos and 32 built-in texts\n" in checked.stdout
    measured = json.loads(run("verify", bundle, pairs, "--json").stdout)["fidelity"]
    assert measured["int8"]["data"] == "12 photos and 24 texts"
    assert measured["int8"]["towers"]["vision"]["min_cosine"] > FLOORS["int8"].min_cosine
    image = sorted(photos.glob("*.png"))[0]
    split = run("classify", image, "--labels", "cat,dog", "--bundle", bundle,
                "--precision", "vision=int8")  # fmt: skip
    assert split.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--precision", "int7"], "precision 'int7' is unknown; it is fp32, int8, int4, fp16"),
        (["--precision", "fp32"], "'fp32' cannot be made from fp32; it is int8, int4, fp16"),
        (["--precision", "int8", "--calibrate", "."], "holds 0 photos; calibration wants at leas"),
        (["--precision", "int8", "--captions", "none"], "'none' does not exist"),
    ],
)
def test_wrong_requests(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: Any, message: str
) -> None:
    before = snapshot(bundle)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    code = 2 if "does not exist" in message else 1  # click looks for what options name
    assert message in run("quantize", bundle, *arguments, code=code).stderr
    assert snapshot(bundle) == before


def test_a_bundle_of_fp32_alone_verifies(bundle: Path) -> None:
    assert "its files are whole, and fp32 is all it has" in run("verify", bundle).stdout


def test_a_corpus_leaves_out_what_cannot_be_read(bundle: Path, photos: Path) -> None:
    made = Bundle.read(bundle)
    paths = sorted(photos.glob("*.png"))[:2]
    broken = photos / "pairs.jsonl"
    corpus = make_corpus(made, [(paths[0], ["a"]), (broken, ["b"]), (paths[1], ["c"])], ["d"])
    assert corpus.texts == ["a", "c", "d"]
    assert corpus.owners.tolist() == [0, 1, -1]
    assert len(corpus.pixels) == 2
    with pytest.raises(bareclip.ImageError, match="cannot read image"):
        make_corpus(made, [(broken, [])])


def test_fp32_compared_with_itself_is_the_same(bundle: Path) -> None:
    made = Bundle.read(bundle)
    report = compare(made, "fp32", make_corpus(made, []))
    assert report.towers["vision"].min_cosine == pytest.approx(1, abs=1e-6)
    assert (report.top1_agreement, report.recall1_change) == (1.0, None)
