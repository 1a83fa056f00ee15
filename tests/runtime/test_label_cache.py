"""Label matrices that are kept: the same bits, nobody else's, and never in the way."""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import bareclip
from bareclip.encoders import label_cache
from bareclip.encoders.text_encoder import TextEncoder
from tests.runtime.test_cli import run
from tests.variants import picture

LABELS = [f"thing number {i}" for i in range(30)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BARECLIP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many texts each call has embedded."""
    counts: list[int] = []
    inner = TextEncoder._embed

    def counting(self: TextEncoder, texts: Any, *rest: Any) -> Any:
        counts.append(len(texts))
        return inner(self, texts, *rest)

    monkeypatch.setattr(TextEncoder, "_embed", counting)
    return counts


def matrix(
    bundle: Path,
    labels: list[str] = LABELS,
    templates: Any = "five",
    ensemble: Any = "embedding",
    **options: Any,
) -> NDArray[np.float32]:
    clip = bareclip.load(bundle, **options)
    return clip.classifier(labels, templates=templates, ensemble=ensemble).head.matrix.vectors


def test_the_second_process_embeds_nothing_and_has_the_same_bits(
    bundles: dict[str, Path], embedded: list[int], tmp_path: Path
) -> None:
    plain = matrix(bundles["tiny"], cache=False)
    first = matrix(bundles["tiny"])
    assert embedded == [150, 150]
    second = matrix(bundles["tiny"])
    assert embedded == [150, 150]
    np.testing.assert_array_equal(first, plain)
    np.testing.assert_array_equal(second, plain)
    picture(50, 40).save(tmp_path / "x.png")
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    asked = ["classify", tmp_path / "x.png", "--labels", tmp_path / "labels.txt", "--templates"]
    said = run("-v", *asked, "five", "--bundle", bundles["tiny"]).stderr
    assert "text tower" not in said
    assert "loaded the text tower" in run("-v", *asked, "{}", "--bundle", bundles["tiny"]).stderr


def test_whatever_a_matrix_depends_on_makes_another(
    bundles: dict[str, Path], precise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime", minversion="1.22")  # which int8 needs
    ways: list[dict[str, Any]] = [
        {"bundle": bundles["tiny"]},
        {"bundle": bundles["odd"]},
        {"bundle": precise, "precision": {"text": "int8", "vision": "fp32"}},
        {"bundle": bundles["tiny"], "labels": LABELS[::-1]},
        {"bundle": bundles["tiny"], "labels": [*LABELS[:-1], "another"]},
        {"bundle": bundles["tiny"], "templates": ["{}", "a {}", "the {}"]},
        {"bundle": bundles["tiny"], "templates": ["the {}", "a {}", "{}"]},
        {"bundle": bundles["tiny"], "ensemble": "probability"},
        # The same prompts, in the same order, of other labels.
        {"bundle": bundles["tiny"], "labels": [f"a {x}" for x in LABELS], "templates": ["{}"] * 3},
        {"bundle": bundles["tiny"], "labels": LABELS, "templates": ["a {}"] * 3},
    ]
    for way in ways:
        wanted = matrix(**way, cache=False)
        np.testing.assert_array_equal(matrix(**way), wanted)
        np.testing.assert_array_equal(matrix(**way), wanted)
    assert len(label_cache.entries()) == len(ways)
    monkeypatch.setattr("onnxruntime.__version__", "1.99.0")
    matrix(bundles["tiny"])
    monkeypatch.setattr(label_cache, "cpu_kind", lambda: "another")
    matrix(bundles["tiny"])
    assert len(label_cache.entries()) == len(ways) + 2
    # The same model at fp32, in a bundle with other precisions too, is the same.
    monkeypatch.undo()
    monkeypatch.setenv("BARECLIP_CACHE", str(tmp_path / "cache"))
    matrix(precise, precision="fp32")
    assert len(label_cache.entries()) == len(ways) + 2


@pytest.mark.parametrize("damage", ["cut", "other vectors", "another's", "empty", "folder", "long"])
def test_a_damaged_entry_is_made_again(
    bundles: dict[str, Path], embedded: list[int], damage: str
) -> None:
    right = matrix(bundles["tiny"])
    other = matrix(bundles["tiny"], labels=LABELS[::-1])
    [mine] = [e.path for e in label_cache.entries() if _labels(e.path) == LABELS]
    [theirs] = [e.path for e in label_cache.entries() if e.path != mine]
    data = mine.read_bytes()
    if damage == "cut":
        mine.write_bytes(data[:-30])
    elif damage == "other vectors":
        place = data.index(right[0, 0].tobytes())
        mine.write_bytes(data[:place] + other[0, 0].tobytes() + data[place + 80 :])
    elif damage == "another's":
        shutil.copy(theirs, mine)
    elif damage == "empty":
        mine.write_bytes(b"")
    elif damage == "folder":
        mine.unlink()
        mine.mkdir()
    else:
        with mine.open("rb") as file:
            arrays = label_cache.read_npz(file)
        with mine.open("wb") as file:
            np.savez(file, **arrays | {"vectors": 2 * arrays["vectors"]})
    count = len(embedded)
    np.testing.assert_array_equal(matrix(bundles["tiny"]), right)
    assert len(embedded) == count + 1
    if damage != "folder":
        np.testing.assert_array_equal(matrix(bundles["tiny"]), right)
        assert len(embedded) == count + 1


def _labels(path: Path) -> list[str]:
    with path.open("rb") as file:
        about = label_cache.read_npz(file, "about")["about"].tobytes()
    found: list[str] = json.loads(about)["labels"]
    return found


def test_a_bundle_that_claims_anothers_checksums_poisons_nothing(
    bundles: dict[str, Path], tmp_path: Path
) -> None:
    tampered = Path(shutil.copytree(bundles["tiny"], tmp_path / "tampered"))
    data = bytearray((tampered / "fp32/text.onnx.data").read_bytes())
    data[len(data) // 2] ^= 1
    (tampered / "fp32/text.onnx.data").write_bytes(data)
    matrix(tampered)
    assert label_cache.entries() == []


def test_few_labels_and_no_cache_keep_nothing(
    bundles: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix(bundles["tiny"], labels=LABELS[:3])
    matrix(bundles["tiny"], cache=False)
    assert not cache.exists()
    monkeypatch.setenv("BARECLIP_CACHE", "off")
    right = matrix(bundles["tiny"])
    monkeypatch.setenv("BARECLIP_CACHE", f"{__file__}/none")
    np.testing.assert_array_equal(matrix(bundles["tiny"]), right)
    assert label_cache.entries() == []


def test_what_was_used_longest_ago_makes_room(
    bundles: dict[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ages = {}
    for age, name in enumerate(("first", "second", "third")):
        matrix(bundles["tiny"], labels=[f"{name} {i}" for i in range(30)])
        [newest] = {e.path for e in label_cache.entries()} - set(ages)
        ages[newest] = name
        os.utime(newest, (age + 1, age + 1))
    matrix(bundles["tiny"], labels=[f"first {i}" for i in range(30)])  # used again
    left = cache / f"{'a' * 40}.labels.npz.00000000.part"
    left.write_bytes(b"x")
    os.utime(left, (1, 1))
    size = max(entry.size for entry in label_cache.entries())
    monkeypatch.setattr(label_cache, "LIMIT_BYTES", 3 * size)
    matrix(bundles["tiny"], labels=[f"fourth {i}" for i in range(30)])
    kept = [ages.get(entry.path, "fourth") for entry in label_cache.entries()]
    assert sorted(kept) == ["first", "fourth", "third"]
    assert not left.exists()


def test_the_command_shows_and_clears_them(bundles: dict[str, Path], cache: Path) -> None:
    matrix(bundles["tiny"])
    said = run("cache").stdout
    assert f"{cache}: 0 towers, 1 sets of labels, 0 MB" in said
    assert said.splitlines()[-1].split()[:3] == ["tiny", "30", "150"]
    [told] = json.loads(run("cache", "--json").stdout)["labels"]
    [entry] = label_cache.entries()
    wanted = dataclasses.asdict(entry) | {"bytes": entry.size}
    assert told == {name: wanted[name] for name in told}
    assert "removed 0 towers, 1 sets of labels" in run("cache", "--clear").stdout
    assert label_cache.entries() == []
    assert [path.name for path in cache.iterdir()] == []
