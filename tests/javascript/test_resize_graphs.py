"""The graphs that JavaScript resizes with: as their script makes them, and as Pillow resizes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SCRIPT = Path(__file__).parents[2] / "runtime/js/src/images/make_resize_graphs.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_resize_graphs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_module_is_what_the_script_writes(script: ModuleType) -> None:
    assert SCRIPT.with_name("resize_graphs.js").read_text() == script.module()


@pytest.mark.parametrize("name", ["bicubic", "bilinear"])
def test_they_resize_as_pillow_does(script: ModuleType, name: str) -> None:
    session = onnxruntime.InferenceSession(
        script.graph(script.MODES[name]), providers=["CPUExecutionProvider"]
    )

    def resized(planes: np.ndarray, height: int, width: int) -> np.ndarray:
        sizes = np.array([1, 3, height, width])
        found: np.ndarray = session.run(None, {"pixels": planes, "sizes": sizes})[0]
        return found

    rng = np.random.default_rng(0)
    for height, width, high, wide in ((300, 400, 60, 64), (61, 200, 90, 224), (9, 5, 33, 64)):
        noise = rng.integers(0, 2, (height, width, 3)).astype(np.uint8) * 255
        image = Image.fromarray(noise)
        for size in ((wide, height), (wide, high)):
            image = image.resize(size, Image.Resampling[name.upper()])
        planes = np.ascontiguousarray(noise.transpose(2, 0, 1)[None])
        planes = resized(resized(planes, height, wide), high, wide)
        difference = planes[0].transpose(1, 2, 0).astype(int) - np.asarray(image)
        assert np.abs(difference).max() <= 2
