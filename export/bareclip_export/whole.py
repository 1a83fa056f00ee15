"""Graphs from a picture as it is decoded: its resizing alone, and with the vision tower.

For devices that decode pictures and have nothing that resizes them as Pillow does.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from bareclip.bundle import (
    Bundle,
    Parity,
    PixelParity,
    ResizeFiles,
    TowerFiles,
    Whole,
    file_record,
)
from bareclip.images.pixels import read_pixels
from bareclip.inference.device import Device
from bareclip.inference.session import make_session
from bareclip.inference.threads import Threads
from bareclip.measure.samples import drawn_pixels
from bareclip.scoring.vectors import cosine

from .disk import room_on_disk
from .errors import CheckpointError, ParityError
from .graph import (
    IR_VERSION,
    OPSET,
    OUTPUT,
    add_output,
    check_graphs,
    finished,
    image_input,
    new_graph,
)
from .join import absorb
from .route import OLDEST
from .towers.picture import Picture

RESIZE = "resize.onnx"
_PIXELS = "pixels"
# Of the same pixels: ONNX Runtime may fuse the two graphs' nodes otherwise, which in half precision
# rounds otherwise.
_SAME = {"fp16": 1e-3}
_SAME_ELSE = 1e-5
# Heights and widths, in times the side that pictures are resized to: square, wide, tall beyond
# two to one, smaller than the model takes, and as large as that.
_SHAPES = ((2.0, 3.1), (3.3, 1.2), (0.4, 0.6), (1.0, 1.0), (1.7, 1.0), (0.3, 1.9))

_CPU = Device("cpu", required=True)


def add_whole(
    bundle: Bundle,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda message: None,
) -> Bundle:
    """Adds the graph that resizes, and one from picture to vector per precision.

    Args:
        bundle: Has a vision tower; weights are left where they are.
        overwrite: Make anew what is there already.
        report: Told each step in a line.

    Returns:
        The bundle with them. Should anything fail, the bundle on disk stays as it was.

    Raises:
        CheckpointError: They are there already, the tower takes several pictures always, has
            another opset, or resizes with a filter that ONNX has not.
        ParityError: They answer otherwise than Pillow and the tower.
        BundleError: The bundle has no vision tower.
        DiskFullError: They do not fit.
    """
    recipe = bundle.image_recipe()
    if bundle.whole is not None and not overwrite:
        raise CheckpointError(
            f"{bundle.folder} has whole graphs already; --overwrite makes them anew"
        )
    check_graphs(bundle, bundle.precisions)
    pictures = _pictures(recipe.resize_to)
    with room_on_disk(), _beside(bundle) as fresh:
        resize = fresh(RESIZE)
        _write(None, resize, bundle)
        report(f"verifying {RESIZE} against Pillow")
        wanted = [read_pixels(picture, recipe, "as_seen") for picture in pictures]
        parity = _check_pixels(resize, pictures, wanted)
        towers = {}
        for precision, files in bundle.precisions.items():
            if "vision" not in files:
                continue
            name = f"{precision}/whole.onnx"
            vision = files["vision"]
            _write(bundle.folder / vision.graph, fresh(name), bundle)
            report(f"verifying {name}")
            weights = {key: file for key, file in vision.files.items() if key != vision.graph}
            towers[precision] = TowerFiles(
                graph=name,
                recipe=f"Pillow's resize, and the vision tower: {vision.recipe}",
                onnxruntime=vision.onnxruntime,
                inputs=("image",),
                files={name: file_record(fresh(name)), **weights},
                parity=_check_vectors(bundle, precision, fresh(name), pictures, wanted),
            )
        made = Whole(
            ResizeFiles(RESIZE, OLDEST, ("image",), {RESIZE: file_record(resize)}, parity), towers
        )
        if bundle.whole is not None:
            # Until it is complete, no manifest may name what is being replaced.
            replace(bundle, whole=None).write()
        for name in (RESIZE, *(tower.graph for tower in towers.values())):
            fresh(name).replace(bundle.folder / name)
        replace(bundle, whole=made).write()
    return Bundle.read(bundle.folder)


@contextmanager
def _beside(bundle: Bundle) -> Iterator[Callable[[str], Path]]:
    """(a file's name) -> where to write it first: in its folder, as its weights are there."""
    mark = secrets.token_hex(4)
    made: set[Path] = set()

    def fresh(name: str) -> Path:
        place = bundle.folder / name
        made.add(place := place.with_name(f".{place.stem}.{mark}.partial.onnx"))
        return place

    try:
        yield fresh
    finally:
        for place in made:
            place.unlink(missing_ok=True)


def _write(vision: Path | None, path: Path, bundle: Bundle) -> None:
    """Writes the resizing, and a vision tower behind it, whose weights stay in their file."""
    recipe = bundle.image_recipe()
    builder = new_graph("whole" if vision else "resize", [image := image_input()])
    pixels = Picture(recipe)(builder.op, image)
    if vision is None:
        add_output(builder, pixels, _PIXELS, ir.DataType.UINT8, [1, recipe.size, recipe.size, 3])
        model = finished(builder)
    else:
        tower = ir.load(vision)
        version = max(IR_VERSION, tower.ir_version)
        if (opset := tower.graph.opset_imports[""]) != OPSET:
            raise CheckpointError(
                f"{vision} has opset {opset}, where a resizing as Pillow's wants {OPSET}: export "
                "the checkpoint itself, whose graphs have that"
            )
        given = str(tower.graph.inputs[0].name)
        batch = tower.graph.inputs[0].shape
        if batch is not None and batch[0] not in (1, "batch"):
            raise CheckpointError(
                f"{vision} takes {batch[0]} pictures always, and a whole graph one: export with "
                "--static 1"
            )
        [vectors] = absorb(builder.graph, tower, {given: pixels})
        add_output(builder, vectors, OUTPUT, ir.DataType.FLOAT, [1, bundle.embedding_dim])
        model = finished(builder)
        model.ir_version = version
    # Without external_data, weights that lie in a file stay there.
    ir.save(model, path)


def _pictures(side: int) -> list[NDArray[np.uint8]]:
    sizes = [(int(height * side), int(width * side)) for height, width in _SHAPES]
    drawn = drawn_pixels(max(map(max, sizes)), 4)
    return [drawn[i % 4, :height, :width] for i, (height, width) in enumerate(sizes)]


def _check_pixels(
    graph: Path, pictures: list[NDArray[np.uint8]], wanted: list[NDArray[np.uint8]]
) -> PixelParity:
    """Holds the graph that resizes to Pillow, to the bit."""
    session = make_session(graph, _CPU, Threads())
    found = [session.run([_PIXELS], {"image": picture})[0][0] for picture in pictures]
    levels = np.abs(np.stack(found).astype(np.int16) - np.stack(wanted))
    parity = PixelParity(
        reference="Pillow",
        max_levels=int(levels.max()),
        differing=float((levels > 0).mean()),
        pictures=len(pictures),
    )
    if parity.max_levels:
        raise ParityError(
            f"{RESIZE} differs from Pillow's pixels by up to {parity.max_levels} levels, in "
            f"{parity.differing:.2%} of the values; no whole graph was written. "
            "Please report this bundle"
        )
    return parity


def _check_vectors(
    bundle: Bundle,
    precision: str,
    graph: Path,
    pictures: list[NDArray[np.uint8]],
    wanted: list[NDArray[np.uint8]],
) -> Parity:
    """Holds a whole graph to Pillow and the tower."""
    tower = make_session(bundle.folder / bundle.tower(precision, "vision").graph, _CPU, Threads())
    whole = make_session(graph, _CPU, Threads())
    given = tower.get_inputs()[0].name

    shown = [tower.run([OUTPUT], {given: one[None]})[0] for one in wanted]
    answers = [whole.run([OUTPUT], {"image": picture})[0] for picture in pictures]
    ours, theirs = (np.concatenate(each).astype(np.float64) for each in (answers, shown))
    parity = Parity(
        reference="Pillow and the vision tower",
        max_difference=float(np.abs(ours - theirs).max()),
        min_cosine=float(np.diagonal(cosine(ours, theirs)).min()),
        inputs=len(pictures),
    )
    if not parity.max_difference <= _SAME.get(precision, _SAME_ELSE):  # NaN fails too
        raise ParityError(
            f"{precision}/whole.onnx differs from Pillow and the {precision} vision tower by "
            f"{parity.max_difference:.1e} on normalised vectors; no whole graph was written. "
            "Please report this bundle"
        )
    return parity
