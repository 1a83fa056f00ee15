"""Adds a precision to a bundle, measured, or leaves the bundle as it was."""

import dataclasses
import secrets
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from numpy.typing import NDArray

from bareclip.bundle import TOKENIZER, Bundle, Fidelity, TowerFiles, file_record
from bareclip.captions import read_pairs
from bareclip.fidelity import BASE, Corpus, compare, make_corpus, shortfalls
from bareclip.image_input import image_files
from bareclip.templates import read_lines
from bareclip.tokenizer import Tokenizer

from ..errors import PrecisionError
from .fp16 import write_fp16
from .int4 import write_int4
from .int8 import write_int8
from .observe import Observation, observe
from .sensitivity import choose_static

Precision = Literal["int8", "int4", "fp16"]

# MatMulNBits has 8 bits since 1.22; MultiHeadAttention has a bias for one query since 1.20.
_OLDEST = {"int8": "1.22", "int4": "1.22", "fp16": "1.20"}

# Photos that scales are taken from, and that the result is judged on.
_CALIBRATED, _JUDGED = 128, 1000
_FEWEST = 8
# Batches that each product is tried on, one by one.
_TRIED = 4
_IMAGE_BATCH, _TEXT_BATCH = 4, 16


@dataclass(frozen=True)
class Data:
    """What a user gives to calibrate with, and to judge on: halves of it, never both.

    Attributes:
        photos: With their captions, if any.
        texts: Captions of no photo.
    """

    photos: list[tuple[Path, list[str]]]
    texts: list[str]

    @classmethod
    def read(cls, photos: Path | None, captions: Path | None) -> "Data":
        """Reads what the command line names.

        Args:
            photos: A folder of images.
            captions: A text a line, or a ``.jsonl`` file of images with captions.

        Raises:
            BareclipError: They cannot be read, or are too few.
        """
        pairs: list[tuple[Path, list[str]]] = []
        texts: list[str] = []
        if captions is not None and captions.suffix == ".jsonl":
            pairs = read_pairs(captions)
        elif captions is not None:
            texts = read_lines(captions)
        if photos is not None:
            known = {path.resolve() for path, _ in pairs}
            pairs += [(p, []) for p in image_files(photos) if p.resolve() not in known]
        for what, given, found in (
            ("photos", photos, len(pairs)),
            ("captions", captions, len(texts) + sum(len(several) for _, several in pairs)),
        ):
            if given is not None and found < _FEWEST:
                raise PrecisionError(
                    f"{given} holds {found} {what}; calibration wants at least {_FEWEST}, "
                    "half of them to judge by, and does well with a few hundred"
                )
        return cls(pairs, texts)

    def half(self, which: int) -> "Data":
        """Every other one, from the first (0) or the second (1)."""
        return Data(self.photos[which::2], self.texts[which::2])

    def first(self, count: int) -> "Data":
        """At most ``count`` photos, and four texts for each."""
        photos = [(path, several[:4]) for path, several in self.photos[:count]]
        return Data(photos, self.texts[: 4 * count])

    def corpus(self, bundle: Bundle) -> Corpus:
        return make_corpus(bundle, self.photos, self.texts)


@dataclass(frozen=True)
class Precisions:
    """What precisions a user wants of a bundle.

    Attributes:
        names: ``"fp32"`` is one to keep.
        data: To calibrate and to judge with.
        force: Keep those that fall under their floor.
    """

    names: tuple[str, ...] = (BASE,)
    data: Data = Data([], [])
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
        The bundle with it. Should anything fail, the bundle on disk stays as it was.

    Raises:
        PrecisionError: It is unknown, there already, or falls under its floor.
        BundleError: The bundle has no fp32.
    """
    if precision not in get_args(Precision):
        raise PrecisionError(
            f"{precision!r} cannot be made from {BASE}; it is {', '.join(get_args(Precision))}"
        )
    if precision in bundle.precisions and not overwrite:
        raise PrecisionError(f"{bundle.folder} has {precision} already; --overwrite makes it anew")
    scratch = bundle.folder / f".{precision}.{secrets.token_hex(4)}.partial"
    made = scratch / precision
    made.mkdir(parents=True)
    try:
        recipes = _write(bundle, precision, data.half(1), made, scratch, report)
        towers = {tower: _files(bundle, made, tower, recipes[tower]) for tower in bundle.towers}
        tried = dataclasses.replace(bundle, precisions=bundle.precisions | {precision: towers})
        corpus = data.half(0).first(_JUDGED).corpus(bundle)
        report(f"measuring {precision} against fp32 on {corpus.name}")
        fidelity = compare(tried, precision, corpus)
        short = shortfalls(precision, fidelity)
        if short and not force:
            raise PrecisionError(
                f"{precision} falls short: {'; '.join(short)}; nothing was written. Calibrate "
                "with more photos like your own, or keep it all the same with --force"
            )
        fidelity = dataclasses.replace(fidelity, forced=bool(short))
        return _keep(bundle, precision, fidelity, recipes, made, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(
    bundle: Bundle,
    precision: str,
    data: Data,
    made: Path,
    scratch: Path,
    report: Callable[[str], None],
) -> dict[str, str]:
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
            static = [*choose_static(source, inputs[tower][:_TRIED], observed, scratch)]
        write_int8(source, target, image, observed, static)
        recipes[tower] = (
            f"static for {len(static)} products, weights alone for {len(observed) - len(static)}"
            if observed
            else "weights alone, for want of calibration"
        )
    return recipes


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
        tokenizer = Tokenizer.load(bundle.folder / TOKENIZER, bundle.text)
        ids = tokenizer.encode(corpus.texts, truncate=True)
        found["text"] = [batch for _, batch in tokenizer.batches(ids, _TEXT_BATCH)]
    return found


def _files(bundle: Bundle, folder: Path, tower: str, recipe: str) -> TowerFiles:
    place, precision = folder.relative_to(bundle.folder).as_posix(), folder.name
    return TowerFiles(
        graph=f"{place}/{tower}.onnx",
        recipe=recipe,
        onnxruntime=_OLDEST[precision],
        inputs=bundle.tower(BASE, tower).inputs,
        files={
            f"{place}/{path.name}": file_record(path)
            for path in sorted(folder.glob(f"{tower}.onnx*"))
        },
        parity=None,
    )


def _keep(
    bundle: Bundle,
    precision: str,
    fidelity: Fidelity,
    recipes: dict[str, str],
    made: Path,
    scratch: Path,
) -> Bundle:
    """Moves what was made into its place; at every moment the bundle on disk is a whole one."""
    place = bundle.folder / precision
    without = dataclasses.replace(
        bundle,
        precisions={k: v for k, v in bundle.precisions.items() if k != precision},
        fidelity={k: v for k, v in bundle.fidelity.items() if k != precision},
    )
    if place.exists():
        without.write()
        place.rename(scratch / "old")
    made.rename(place)
    towers = {tower: _files(bundle, place, tower, recipes[tower]) for tower in bundle.towers}
    dataclasses.replace(
        without,
        precisions=without.precisions | {precision: towers},
        fidelity=without.fidelity | {precision: fidelity},
    ).write()
    return Bundle.read(bundle.folder)
