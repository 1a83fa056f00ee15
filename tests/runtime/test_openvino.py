"""Towers in OpenVINO: ONNX Runtime's answers, alone as in a batch, or a refusal."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import bareclip
from bareclip.inference import graph_cache
from bareclip.inference.device import Device
from bareclip.measure.samples import drawn_pixels
from tests.runtime.test_cli import run

TEXTS = ["a photo of a cat", "", "two dogs " * 20, "a photo of a car", "snow", "a", "b c d e f"]

installed = importlib.util.find_spec("openvino") is not None
needs_openvino = pytest.mark.skipif(not installed, reason="OpenVINO is not installed")


def runs_bf16() -> bool:
    try:
        Device("openvino", required=True).check_bf16("bf16")
    except bareclip.DeviceError:
        return False
    return True


needs_bf16 = pytest.mark.skipif(
    not installed or not runs_bf16(), reason="this processor has no bf16, or OpenVINO is not here"
)
PRECISIONS = [
    pytest.param("fp32", marks=needs_openvino),
    pytest.param("bf16", marks=needs_bf16),
    pytest.param("int8", marks=needs_openvino),
]


def answers(
    bundle: Path, precision: str | Mapping[str, str], device: str, cache: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with bareclip.load(bundle, precision=precision, device=device, cache=cache) as clip:
        pixels = drawn_pixels(clip.images.recipe.size, 7)
        return clip.images.embed_pixels(pixels), clip.embed_texts(TEXTS)


@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [
        pytest.param("fp32", 2e-6, marks=needs_openvino),
        pytest.param("int8", 2e-2, marks=needs_openvino),
    ],
)
def test_answers_are_those_of_onnx_runtime(precise: Path, precision: str, tolerance: float) -> None:
    right, found = (answers(precise, precision, device) for device in ("cpu", "openvino"))
    for one, other in zip(right, found, strict=True):
        np.testing.assert_allclose(other, one, atol=tolerance)


@needs_openvino
def test_fp32_of_every_bundle(bundles: dict[str, Path]) -> None:
    for bundle in bundles.values():
        right, found = (answers(bundle, "fp32", device) for device in ("cpu", "openvino"))
        for one, other in zip(right, found, strict=True):
            np.testing.assert_allclose(other, one, atol=2e-6)


@needs_bf16
def test_bf16_is_near_and_not_fp32_by_another_name(precise: Path) -> None:
    right, found = answers(precise, "fp32", "cpu"), answers(precise, "bf16", "openvino")
    for one, other in zip(right, found, strict=True):
        assert (one * other).sum(axis=1).min() > 0.995
        assert np.abs(one - other).max() > 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_vector_is_its_own_whatever_is_in_its_batch(precise: Path, precision: str) -> None:
    with bareclip.load(precise, precision=precision, device="openvino", cache=False) as clip:
        pixels = drawn_pixels(clip.images.recipe.size, 33)
        # Of every length, so that a batch is wider than most of its texts.
        texts = [" ".join(f"word{place}" for place in range(length)) for length in range(33)]
        images = clip.images.embed_pixels(pixels, batch_size=33)
        several = clip.texts.embed(texts, batch_size=33)
        for size in (1, 2, 7):
            alone = clip.images.embed_pixels(pixels, batch_size=size)
            np.testing.assert_allclose(alone, images, atol=1e-6)
            found = [clip.texts.embed(texts[at : at + size]) for at in range(0, 33, size)]
            np.testing.assert_allclose(np.concatenate(found), several, atol=1e-6)


@needs_openvino
def test_verify_names_the_device(precise: Path) -> None:
    found = run("verify", str(precise), "--device", "openvino")
    assert found.returncode == 0, found.stderr  # or a vector depends on its batch
    assert "fp32 on openvino against fp32 on cpu" in found.stdout
    assert "int8 on openvino against fp32 on cpu" in found.stdout
    assert ("bf16 on openvino" in found.stdout) == runs_bf16()
    assert "int4" not in found.stdout


@needs_openvino
def test_threads_ask_at_once(precise: Path) -> None:
    with bareclip.load(precise, device="openvino", precision="fp32") as clip:
        right = clip.embed_texts(TEXTS)
        with ThreadPoolExecutor(8) as pool:
            for found in pool.map(clip.embed_texts, [TEXTS] * 40):
                np.testing.assert_array_equal(found, right)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_later_process_gives_the_same(
    precise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setenv("BARECLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(graph_cache, "SMALLEST_BYTES", 0)
    plain = answers(precise, precision, "openvino")
    first = answers(precise, precision, "openvino", cache=True)
    kept = graph_cache.entries()
    assert [entry.onnxruntime.split()[0] for entry in kept] == ["OpenVINO"] * 2
    # The bundle's own graphs are gone: what answers is what was kept.
    copy = Path(shutil.copytree(precise, tmp_path / "copy"))
    for graph in copy.rglob("*.onnx"):
        graph.write_bytes(bytes(graph.stat().st_size))
    second = answers(copy, precision, "openvino", cache=True)
    for one, other, third in zip(plain, first, second, strict=True):
        np.testing.assert_array_equal(other, one)
        np.testing.assert_array_equal(third, one)
    # Another process may not write, nor is a copy that was damaged believed.
    for entry in kept:
        [blob] = entry.folder.glob("*.onnx")
        blob.write_bytes(os.urandom(blob.stat().st_size))
    for one, other in zip(plain, answers(precise, precision, "openvino", cache=True), strict=True):
        np.testing.assert_array_equal(other, one)
    assert run("cache", "--clear").returncode == 0
    assert graph_cache.entries() == []


@needs_bf16
def test_precisions_of_one_graph_are_kept_apart(
    precise: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BARECLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(graph_cache, "SMALLEST_BYTES", 0)
    for precision, device in (("fp32", "openvino"), ("bf16", "openvino"), ("fp32", "cpu")) * 2:
        found = answers(precise, precision, device, cache=True)
        plain = answers(precise, precision, device)
        for one, other in zip(plain, found, strict=True):
            # ONNX Runtime's kept graphs may differ in the last bit.
            np.testing.assert_allclose(other, one, atol=1e-7)
    assert len(graph_cache.entries()) == 6


@needs_openvino
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "openvino:XPU"}, r"'openvino:XPU' cannot be had: OpenVINO 20.* sees CPU"),
        ({"device": "openvino", "precision": "fp16"}, "fp16 is not for OpenVINO"),
        ({"device": "openvino", "precision": "int4"}, "int4 is not for OpenVINO"),
        ({"device": "openvino", "provider_options": {"use_tf32": 1}}, "are for CUDA"),
    ],
)
def test_what_cannot_be_is_refused(precise: Path, options: dict[str, str], said: str) -> None:
    with pytest.raises(bareclip.DeviceError, match=said):
        bareclip.load(precise, **options).preload()  # type: ignore[arg-type]


def test_without_openvino(precise: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bareclip.inference.device.find_spec", lambda name: None)
    with pytest.raises(bareclip.DeviceError, match=r"pip install 'bareclip\[openvino\]'"):
        bareclip.load(precise, device="openvino")
    with pytest.raises(bareclip.DeviceError, match=r"pip install 'bareclip\[openvino\]'"):
        bareclip.load(precise, device="cpu", precision="bf16")


@needs_openvino
def test_nothing_is_told_to_anybody_and_a_forked_child_loads_its_own(precise: Path) -> None:
    code = f"""
import os, sys
import bareclip
clip = bareclip.load({str(precise)!r}, device="openvino", precision="fp32", cache=False)
right = clip.embed_texts(["a cat"])
assert not [name for name in sys.modules if "telemetry" in name]
assert "onnxruntime" not in sys.modules, "OpenVINO needs none"
child = os.fork()
if child == 0:
    try:
        clip.embed_texts(["a cat"])
    except bareclip.DeviceError as error:
        assert "forked" in str(error)
    clip.close()
    with bareclip.load({str(precise)!r}, device="openvino", precision="fp32", cache=False) as own:
        assert (own.embed_texts(["a cat"]) == right).all()
    sys.exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], timeout=120, check=False)
    assert done.returncode == 0
