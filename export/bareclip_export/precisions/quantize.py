"""Makes a bundle's other precisions from its fp32."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from bareclip.bundle import Bundle
from bareclip.encoders import Options, TextEncoder
from bareclip.errors import BareclipError
from bareclip.measure.fidelity import BASE

from ..errors import PrecisionError
from ..graph import check_graphs
from ..whole import add_whole
from .add import Written, add
from .data import Data
from .fp16 import write_fp16
from .int4 import write_int4
from .int8 import write_int8
from .observe import Observation, observe
from .sensitivity import choose_static

Precision = Literal["int8", "int4", "fp16"]

# MatMulNBits has 8 bits since 1.22; MultiHeadAttention has a bias for one query since 1.20.
_OLDEST = {"int8": "1.22", "int4": "1.22", "fp16": "1.20"}

# Photos that scales are taken from.
_CALIBRATED = 128
# Batches that each product is tried on, one by one.
_TRIED = 4
_IMAGE_BATCH, _TEXT_BATCH = 4, 16


@dataclass(frozen=True)
class Precisions:
    """What precisions a user wants of a bundle.

    Attributes:
        names: ``"fp32"`` is one to keep.
        data: To calibrate and to judge with.
        force: Keep those that fall under their floor.
    """

    names: tuple[str, ...] = (BASE,)
    data: Data = field(default_factory=Data)
    force: bool = False

    @classmethod
    def read(
        cls, names: str, photos: Path | None, captions: Path | None, force: bool
    ) -> "Precisions":
        """Reads what the command line names; raises what ``Data.read`` does, and for names."""
        found = tuple(dict.fromkeys(name.strip() for name in names.split(",")))
        known = (BASE, *get_args(Precision))
        for name in found:
            if name not in known:
                raise PrecisionError(f"precision {name!r} is unknown; it is {', '.join(known)}")
        return cls(found, Data.read(photos, captions), force)


def quantize(
    bundle: Bundle,
    precision: str,
    data: Data,
    force: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda message: None,
) -> Bundle:
    """Adds a precision to a bundle.

    Args:
        bundle: Has fp32, which the precision is made from and measured against.
        precision: ``"int8"``, ``"int4"`` or ``"fp16"``.
        data: The user's, or empty. Without photos the vision tower's int8 is weight-only,
            and without captions the text tower's.
        force: Keep a precision that falls under its floor, and mark it.
        overwrite: Make one anew that the bundle has already.
        report: Told each step in a line.

    Returns:
        The bundle with it, whole graphs too where it has such. Should anything fail, the bundle
        on disk stays as it was; but for a whole graph, without which a precision is kept.

    Raises:
        PrecisionError: It is unknown, there already, or falls under its floor; or its whole
            graph cannot be made.
        BundleError: The bundle has no fp32, or one that names other files than the bundle's.
    """
    if precision not in get_args(Precision):
        raise PrecisionError(
            f"{precision!r} cannot be made from {BASE}; it is {', '.join(get_args(Precision))}"
        )
    if bundle.static_batch is not None:
        raise PrecisionError(
            f"{bundle.folder} has graphs of fixed shapes, which what compiles them quantizes by "
            f"itself; for {precision} here, export the checkpoint without --static"
        )
    check_graphs(bundle, {BASE} & bundle.precisions.keys())
    write = partial(_write, bundle, precision, data.half(1), report)
    advice = "Calibrate with more photos like your own"
    made = add(bundle, precision, write, data, force, overwrite, report, advice)
    if bundle.whole is None:
        return made
    try:
        return add_whole(made, overwrite=True, report=report)
    except BareclipError as error:
        raise PrecisionError(
            f"{precision} is in {bundle.folder}, without its whole graph: {error}; "
            f"`bareclip whole {bundle.folder} --overwrite` makes them anew once that is mended"
        ) from error


def _write(
    bundle: Bundle,
    precision: str,
    data: Data,
    report: Callable[[str], None],
    made: Path,
    scratch: Path,
) -> dict[str, Written]:
    """Writes both towers into ``made``; returns how each was quantized."""
    inputs = batches(bundle, data)
    given = {
        "vision": bool(data.photos),
        "text": bool(data.texts or any(several for _, several in data.photos)),
    }
    recipes = {}
    for tower in bundle.towers:
        source = bundle.folder / bundle.tower(BASE, tower).graph
        target = made / f"{tower}.onnx"
        image = bundle.image if tower == "vision" else None
        report(f"writing the {tower} tower in {precision}")
        if precision == "fp16":
            write_fp16(source, target, inputs[tower], scratch)
            recipes[tower] = "half precision, fused attention"
            continue
        observed: dict[str, Observation] = {}
        if given[tower]:
            report(f"calibrating it on {sum(map(len, inputs[tower]))} inputs")
            observed = observe(source, inputs[tower], scratch)
        if precision == "int4":
            seen = observed or observe(source, inputs[tower][:1], scratch)
            pooled = [name for name, one in seen.items() if one.pooled]
            write_int4(source, target, image, observed, pooled)
            recipes[tower] = f"weights in 4-bit blocks, of {len(pooled)} products in 8-bit ones"
            continue
        static: Sequence[str] = ()
        if observed:
            static = choose_static(source, inputs[tower][:_TRIED], observed, scratch)
        write_int8(source, target, image, observed, static)
        recipes[tower] = (
            f"static for {len(static)} products, weights alone for {len(observed) - len(static)}"
            if observed
            else "weights alone, for want of calibration"
        )
    return {tower: Written(recipe, _OLDEST[precision]) for tower, recipe in recipes.items()}


def batches(bundle: Bundle, data: Data) -> dict[str, list[NDArray[Any]]]:
    """What calibration runs each tower on; built-in where the data has nothing for it."""
    corpus = data.first(_CALIBRATED).corpus(bundle)
    found: dict[str, list[NDArray[Any]]] = {
        "vision": [
            corpus.pixels[start : start + _IMAGE_BATCH]
            for start in range(0, len(corpus.pixels), _IMAGE_BATCH)
        ],
    }
    if bundle.text is not None:
        encoder = TextEncoder(bundle, Options(precision=BASE, device="cpu"))
        found["text"] = [ids for _, ids in encoder.batches(corpus.texts, batch_size=_TEXT_BATCH)]
    return found
