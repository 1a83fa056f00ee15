"""Units of zeros: added where rows of a hidden layer would alias, and no other precision's."""

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from bareclip.bundle import Bundle
from bareclip_export.export import export
from bareclip_export.graph import save
from bareclip_export.precisions.data import Data
from bareclip_export.precisions.plain import load_plain, remove_prefixes, remove_spare_units
from bareclip_export.precisions.quantize import quantize
from bareclip_export.towers.layers import spare_units
from tests.seeded.clip import Sizes, Tower, write_checkpoint

from .conftest import operators, run

HIDDEN = 1024


@pytest.fixture(scope="module", params=[32, 1024], ids=["hidden layers", "tokens too"])
def wide(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of towers whose hidden layers, and tokens, are of an aliasing width."""
    folder = tmp_path_factory.mktemp("wide")
    tower = Tower(request.param, HIDDEN, 2, 2)
    checkpoint = write_checkpoint(folder / "checkpoint", Sizes(tower, 32, 8, tower, 16, 24))
    return export(str(checkpoint), folder / "bundle")


def widths(graph: Path | ir.Model) -> set[int]:
    model = ir.load(graph) if isinstance(graph, Path) else graph
    values = model.graph.initializers.items()
    return {v.shape.numpy()[0] for name, v in values if "contract.weight" in name and v.shape}


def test_only_widths_that_alias_have_spare_units() -> None:
    assert [spare_units(width) for width in (512, 1024, 2560, 3072, 4304, 8192)] == [
        0, 16, 0, 16, 0, 16,
    ]  # fmt: skip


@pytest.mark.parametrize("tower", ["vision", "text"])
def test_a_plain_graph_answers_as_the_wide_one(wide: Bundle, tower: str, tmp_path: Path) -> None:
    graph = wide.folder / wide.tower("fp32", tower).graph
    assert widths(graph) == {HIDDEN + 16}
    plain = load_plain(graph)
    assert widths(plain) == {HIDDEN}
    save(plain, tmp_path / "plain.onnx")
    onnx.checker.check_model(str(tmp_path / "plain.onnx"), full_check=True)
    rng = np.random.default_rng(0)
    given = (
        rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
        if tower == "vision"
        else rng.integers(0, 50, (3, 9))
    )
    difference = np.abs(run(graph, given) - run(tmp_path / "plain.onnx", given)).max()
    assert difference < 1e-6


def test_units_that_are_not_zero_stay(wide: Bundle) -> None:
    model = ir.load(wide.folder / wide.tower("fp32", "vision").graph)
    bias = model.graph.initializers["blocks.full.0.mlp.expand.bias"]
    array = bias.const_value.numpy().copy()  # type: ignore[union-attr]
    array[-1] = 1
    bias.const_value = ir.tensor(array, name=bias.name)
    remove_spare_units(model)
    assert widths(model) == {HIDDEN + 16, HIDDEN}


@pytest.mark.parametrize("precision", ["int8", "int4", "fp16"])
def test_other_precisions_are_made_without_them(wide: Bundle, precision: str) -> None:
    made = quantize(wide, precision, Data([], []))
    for tower in made.towers:
        graph = onnx.load(made.folder / made.tower(precision, tower).graph)
        sizes = {size for i in graph.graph.initializer for size in i.dims}
        attributes = {a.i for n in graph.graph.node for a in n.attribute if a.name in "KN"}
        assert HIDDEN in sizes | attributes
        assert HIDDEN + 16 not in sizes | attributes


def test_without_prefixes_every_text_has_all_of_its_rows(wide: Bundle, tmp_path: Path) -> None:
    graph = wide.folder / wide.tower("fp32", "text").graph
    model = load_plain(graph)
    remove_prefixes(model)
    save(model, tmp_path / "text.onnx")
    left = operators(tmp_path / "text.onnx")
    assert {"NonZero", "CumSum"} <= {*operators(graph)}
    assert not {"NonZero", "CumSum"} & {*left}
    assert left.count("Gather") == 2  # the token's row, the pooled row of the mask
    ids = np.random.default_rng(0).integers(0, 4, (6, 9))
    assert np.abs(run(graph, ids) - run(tmp_path / "text.onnx", ids)).max() < 1e-6
