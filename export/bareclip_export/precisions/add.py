"""Adds a precision to a bundle, measured, or leaves the bundle as it was."""

import dataclasses
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bareclip.bundle import Bundle, Fidelity, TowerFiles
from bareclip.files import scratch_folder
from bareclip.measure.fidelity import BASE, compare, shortfalls

from ..disk import room_on_disk
from ..errors import PrecisionError
from ..graph import file_records
from .data import Data


@dataclass(frozen=True)
class Written:
    """How a tower's graph was made.

    Attributes:
        recipe: For its reader.
        onnxruntime: The oldest version that runs it.
    """

    recipe: str
    onnxruntime: str


# (the folder to write vision.onnx and text.onnx to, a scratch folder) -> tower -> how.
Write = Callable[[Path, Path], dict[str, Written]]


def add(
    bundle: Bundle,
    precision: str,
    write: Write,
    data: Data,
    force: bool,
    overwrite: bool,
    report: Callable[[str], None],
    advice: str,
) -> Bundle:
    """Adds graphs as a precision of a bundle.

    Args:
        bundle: Has fp32, which the precision is measured against.
        precision: Its name.
        write: Makes the graphs.
        data: Whose first half judges it.
        force: Keep a precision that falls under its floor, and mark it.
        overwrite: Replace one that the bundle has already.
        report: Told each step in a line.
        advice: What to do where it falls short, short of keeping it all the same.

    Returns:
        The bundle with it. Should anything fail, the bundle on disk stays as it was.

    Raises:
        PrecisionError: It is there already, or falls under its floor.
        BundleError: The bundle has no fp32.
        DiskFullError: It does not fit.
    """
    if precision in bundle.precisions and not overwrite:
        raise PrecisionError(f"{bundle.folder} has {precision} already; --overwrite makes it anew")
    with room_on_disk(), scratch_folder(bundle.folder / precision) as scratch:
        made = scratch / precision
        made.mkdir()
        written = write(made, scratch)
        tried = dataclasses.replace(
            bundle, precisions=bundle.precisions | {precision: _towers(bundle, made, written)}
        )
        corpus = data.judging(bundle)
        report(f"measuring {precision} against fp32 on {corpus.name}")
        fidelity = compare(tried, precision, corpus)
        short = shortfalls(precision, fidelity)
        if short and not force:
            raise PrecisionError(
                f"{precision} falls short: {'; '.join(short)}; nothing was written. {advice}, "
                "or keep it all the same with --force"
            )
        fidelity = dataclasses.replace(fidelity, forced=bool(short))
        return _keep(bundle, precision, fidelity, written, made, scratch)


def _towers(bundle: Bundle, folder: Path, written: dict[str, Written]) -> dict[str, TowerFiles]:
    place = folder.relative_to(bundle.folder).as_posix()
    return {
        tower: TowerFiles(
            graph=f"{place}/{tower}.onnx",
            recipe=written[tower].recipe,
            onnxruntime=written[tower].onnxruntime,
            inputs=bundle.tower(BASE, tower).inputs,
            files=file_records(folder / f"{tower}.onnx", bundle.folder),
            parity=None,
        )
        for tower in bundle.towers
    }


def _keep(
    bundle: Bundle,
    precision: str,
    fidelity: Fidelity,
    written: dict[str, Written],
    made: Path,
    scratch: Path,
) -> Bundle:
    """Moves what was made into its place; at every moment the bundle on disk is a whole one."""
    bundle = Bundle.read(bundle.folder)  # others may have been added while this was made
    place = bundle.folder / precision
    without = bundle.without(precision)
    old = scratch / "old"
    try:
        if place.exists():
            without.write()
            place.rename(old)
        made.rename(place)
        dataclasses.replace(
            without,
            precisions=without.precisions | {precision: _towers(bundle, place, written)},
            fidelity=without.fidelity | {precision: fidelity},
        ).write()
    except BaseException:
        if not made.exists():
            shutil.rmtree(place)
        if old.exists():
            old.rename(place)
        bundle.write()
        raise
    return Bundle.read(bundle.folder)
