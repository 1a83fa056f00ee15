"""Texts that begin alike: computed once what they share, and answered as if each were alone."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from bareclip_export.authored import convert
from bareclip_export.checkpoint import Checkpoint
from bareclip_export.parity import TOLERANCE
from bareclip_export.route import Conversion
from bareclip_export.towers.prefixes import PLACES
from tests.seeded.clip import Sizes, Tower, write_checkpoint

Ids = NDArray[np.int64]


@pytest.fixture(scope="module", params=["the first end token", "the highest id"])
def tower(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Conversion, Path]:
    """A text tower that pools so, and its graph, which also tells which rows it computes."""
    folder = tmp_path_factory.mktemp("prefixes")
    legacy = request.param == "the highest id"
    sizes = Sizes(Tower(8, 8, 1, 1), 8, 8, Tower(24, 32, 3, 2), 12, 6, legacy_end=legacy)
    conversion = convert(Checkpoint.open(str(write_checkpoint(folder / "checkpoint", sizes))))
    conversion.write["text"](folder / "text.onnx")
    model = onnx.load(folder / "text.onnx")
    model.graph.output.append(
        onnx.helper.make_tensor_value_info(PLACES, onnx.TensorProto.INT64, None)
    )
    onnx.save(model, folder / "told.onnx")
    return conversion, folder / "told.onnx"


def ends(conversion: Conversion, ids: Ids) -> Ids:
    """(N,) where each text ends, by the definition of its pooling."""
    assert conversion.text is not None
    last = conversion.text.vocabulary - 1
    return np.array([row.tolist().index(last) for row in ids])


def some_texts(conversion: Conversion, seed: int, count: int = 40) -> Ids:
    """Random texts of few tokens, so that many begin alike; padded with another token."""
    assert conversion.text is not None
    last = conversion.text.vocabulary - 1
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, (count, 12))
    for row in ids:
        end = rng.integers(1, 12)
        row[end] = last
        row[end + 1 :] = 1
    ids[0, 0] = last  # ends where it begins
    return ids


def run(graph: Path, ids: Ids) -> tuple[NDArray[np.float32], Ids]:
    """(N, D) vectors, and (P,) places that were computed."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    vectors, places = session.run(None, {"ids": ids})
    return vectors, places


@pytest.mark.parametrize("seed", range(4))
def test_in_any_order_each_text_is_answered_as_if_alone(
    tower: tuple[Conversion, Path], seed: int
) -> None:
    conversion, graph = tower
    ids = some_texts(conversion, seed)
    wanted = conversion.reference["text"](ids)
    in_order = ids[np.lexsort(ids.T[::-1])]
    vectors, _ = run(graph, ids)
    assert np.abs(vectors - wanted).max() < TOLERANCE
    vectors, _ = run(graph, in_order)
    assert np.abs(vectors - conversion.reference["text"](in_order)).max() < TOLERANCE
    alone = np.concatenate([run(graph, row[None])[0] for row in in_order])
    assert np.abs(vectors - alone).max() < 1e-6


def test_texts_in_order_have_each_prefix_computed_once_and_no_padding(
    tower: tuple[Conversion, Path],
) -> None:
    conversion, graph = tower
    ids = some_texts(conversion, seed=9, count=200)
    in_order = ids[np.lexsort(ids.T[::-1])]
    distinct = {
        tuple(row[: length + 1])
        for row, end in zip(in_order, ends(conversion, in_order), strict=True)
        for length in range(end + 1)
    }
    _, places = run(graph, in_order)
    assert len(places) == len(distinct)
    computed = {
        tuple(in_order[place // 12, : place % 12 + 1].tolist()) for place in places.tolist()
    }
    assert computed == distinct


def test_ids_beyond_the_end_that_are_higher_are_no_end(tower: tuple[Conversion, Path]) -> None:
    # Where the highest id is pooled, equal beginnings may end at different places.
    conversion, graph = tower
    assert conversion.text is not None
    last = conversion.text.vocabulary - 1
    ids = np.array([[5, 9, 3, 1], [5, 9, 3, 8], [5, 9, 3, last], [5, last, 3, last], [5, 9, 9, 9]])
    vectors, _ = run(graph, ids)
    assert np.abs(vectors - conversion.reference["text"](ids)).max() < TOLERANCE
