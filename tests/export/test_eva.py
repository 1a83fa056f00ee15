"""EVA and the Perception Encoder: what rotates is seen, and a variant is refused by name."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from bareclip_export.checkpoint import Checkpoint
from bareclip_export.errors import CheckpointError, ParityError
from bareclip_export.export import export
from bareclip_export.layouts import open_clip_eva, open_clip_pe, read_model
from bareclip_export.towers import eva
from bareclip_export.towers.eva_weights import EvaBlockWeights, EvaWeights, Rotation
from bareclip_export.towers.weights import LinearWeights
from tests.small_trunks import small_trunks


@pytest.fixture(autouse=True)
def _small_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    small_trunks(monkeypatch)


def rotated(**change: Any) -> Callable[..., Any]:
    return lambda rotation, *given: right_angles(replace(rotation, **change), *given)


right_angles = eva.angles


def class_turned(*given: Any) -> Any:
    found = right_angles(*given)
    found[0] = 0.5
    return found


def together(layer: LinearWeights, heads: int) -> LinearWeights:
    return layer


def changed(kind: Any, **change: Any) -> Callable[..., Any]:
    return lambda **given: kind(**given | change)


MISTAKES: dict[str, tuple[str, Any, str, Callable[..., Any]]] = {
    "the axes": ("tiny-eva02", eva, "angles", rotated(columns_first=True)),
    "the encoder's axes": ("tiny-pe", eva, "angles", rotated(columns_first=False)),
    "what places are stretched to": ("tiny-eva02", eva, "angles", rotated(reference=4)),
    "the first place": ("tiny-pe", eva, "angles", rotated(offset=0)),
    "the class token": ("tiny-pe", eva, "angles", class_turned),
    "the order of pairs": ("tiny-pe-g", eva, "pairs_apart", together),
    # Where nothing rotates a key, its bias changes nothing.
    "keys' bias": (
        "tiny-pe",
        open_clip_pe,
        "EvaBlockWeights",
        changed(EvaBlockWeights, biased_keys=False),
    ),
    "where normalisations stand": (
        "tiny-eva02-e",
        open_clip_eva,
        "EvaBlockWeights",
        changed(EvaBlockWeights, norms_after=False),
    ),
    "the inner normalisation": (
        "tiny-eva02",
        open_clip_eva,
        "EvaBlockWeights",
        changed(EvaBlockWeights, inner_norm=None),
    ),
    "the gate's activation": ("tiny-eva02", eva, "activate", lambda op, x, name: x),
    "the projection's bias": (
        "tiny-pe",
        open_clip_pe,
        "EvaWeights",
        changed(EvaWeights, projection_bias=None),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_fails_the_export(
    family_checkpoints: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    mistake: str,
) -> None:
    family, owner, name, wrong = MISTAKES[mistake]
    monkeypatch.setattr(owner, name, wrong)
    with pytest.raises(ParityError, match="the vision tower differs"):
        export(str(family_checkpoints[family]), tmp_path / "bundle")


def test_only_differences_of_places_count_without_a_class_token(
    family_checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So no test can tell the gigantic encoder's first place, and none has to."""
    monkeypatch.setattr(eva, "angles", rotated(offset=3))
    export(str(family_checkpoints["tiny-pe-g"]), tmp_path / "bundle")
    with pytest.raises(ParityError, match="the vision tower differs"):
        export(str(family_checkpoints["tiny-pe"]), tmp_path / "other")


EVA_NAME, PE_NAME = "eva02_base_patch8_clip_seeded", "vit_pe_core_tiny_patch8_seeded"


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("tiny-eva02", {"timm_pool": "avg"}, f"timm_pool 'avg', .* author {EVA_NAME} with 'token'"),
        ("tiny-eva02", {"timm_proj": "linear"}, "timm_proj 'linear' and images of 32; we author"),
        ("tiny-eva02", {"image_size": 48}, "timm_proj None and images of 48; .* null and 32"),
        ("tiny-pe", {"timm_pool": "avg"}, f"timm_pool 'avg', .* author {PE_NAME} with 'map'"),
        ("tiny-pe", {"timm_proj": "none"}, "timm_proj 'none' and images of 32; we author"),
        ("tiny-pe", {"image_size": 64}, "images of 64; .* null and 32"),
        *(
            ("tiny-pe", {"timm_model_name": name}, f"timm model '{name}'; we author .*eva_giant")
            for name in (
                "eva02_tiny_patch14_224", "vit_pe_spatial_tiny_patch16_512",
                "vit_pe_lang_large_patch14_448", "beitv2_base_patch16_224",
            )
        ),
        ("tiny-pe", {"timm_model_name": EVA_NAME, "timm_pool": "token"}, "has shape .* asks for"),
        ("tiny-eva02", {"timm_model_name": PE_NAME, "timm_pool": "map"}, "norm_pre|has shape"),
    ],
)  # fmt: skip
def test_another_variant_is_refused_by_name(
    family_checkpoints: dict[str, Path],
    tmp_path: Path,
    family: str,
    change: dict[str, Any],
    message: str,
) -> None:
    folder = Path(shutil.copytree(family_checkpoints[family], tmp_path / "checkpoint"))
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["vision_cfg"] |= change
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        read_model(Checkpoint.open(str(folder)))


def test_a_rotation_is_constants_and_rearranging(families: dict[str, Path]) -> None:
    graph = onnx.load(families["tiny-eva02"] / "fp32" / "vision.onnx").graph
    kinds = Counter(node.op_type for node in graph.node)
    assert not {"Sin", "Cos", "Range", "Where", "Gather", "ScatterND"} & {*kinds}
    # Queries and keys of all blocks but the last, of which the class token alone leaves: its query
    # is not rotated.
    assert kinds["Split"] == kinds["Concat"] == 2 * 2 + 1
    slices = [node.input[0] for node in graph.node if node.op_type == "Slice"]
    assert len(slices) == 2
    weights = {tensor.name: tensor.dims for tensor in graph.initializer}
    tables = [name for name, shape in weights.items() if list(shape) == [17, 96]]
    assert len(tables) == 3  # positions, cosines, sines


def test_a_place_is_turned_by_its_axis_and_the_class_token_is_not() -> None:
    rotation = Rotation(4, 16, 1, True)
    found = eva.angles(rotation, 1, 8)
    assert found.shape == (17, 8)
    assert not found[0].any()
    # The second patch of a row is a step along it, in the half that goes along rows.
    step = found[2] - found[1]
    np.testing.assert_allclose(step[:4], 4 * 10_000 ** -(np.arange(4) / 4))
    assert not step[4:].any()
