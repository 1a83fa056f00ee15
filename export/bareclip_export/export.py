"""From a checkpoint to a verified bundle on disk."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from bareclip import __version__
from bareclip.bundle import (
    FORMAT_VERSION,
    TOKENIZER,
    TOWERS,
    Bundle,
    Parity,
    Source,
    TowerFiles,
    file_record,
)
from bareclip.bundle.appearing import appearing
from bareclip.bundle.graph_file import external_locations
from bareclip.encoders import ImageEncoder, Options, TextEncoder
from bareclip.files import printable
from bareclip.measure.fidelity import BASE

from . import authored, ready_made
from .checkpoint import Checkpoint
from .disk import room_on_disk
from .errors import CheckpointError, PrecisionError
from .files import VARIANTS, graph_file
from .graph import file_records
from .parity import check_images, check_texts, check_tokens
from .precisions.add import add
from .precisions.data import Data
from .precisions.quantize import Precisions, quantize
from .route import OLDEST, Conversion
from .text_recipe import save_tokenizer
from .whole import add_whole

Route = Literal["authored", "optimum"]


def export(
    source: str,
    output: Path,
    route: Route = "authored",
    precisions: Precisions = Precisions(),  # noqa: B008 (frozen)
    overwrite: bool = False,
    report: Callable[[str], None] = lambda message: None,
    model: str | None = None,
    whole: bool = False,
    static: int | None = None,
) -> Bundle:
    """Converts a checkpoint into a bundle, and verifies it before it appears.

    Args:
        source: A folder in Hugging Face's layout or in OpenCLIP's, a file of OpenCLIP's weights, or
            ``owner/name[@revision]``.
        output: The bundle's folder, which appears complete or not at all.
        route: ``"authored"`` builds our own graphs; ``"optimum"`` traces transformers'
            model, which needs the extra ``bareclip[optimum]``.
        precisions: Which to keep; fp32 is made in any case, since the others are made from
            it and measured against it.
        overwrite: Replace a bundle that is there already.
        report: Told each step in a line.
        model: Which of OpenCLIP's models a file of weights is of, such as ``ViT-B-32``.
        whole: Make graphs of whole pictures too: see ``add_whole``.
        static: Make graphs that take so many inputs always, of operators that compilers for
            phones and NPUs have.

    Returns:
        The bundle that was written.

    Raises:
        CheckpointError: The checkpoint cannot be converted, or ``output`` is taken.
        ParityError: A tower does not answer as the checkpoint does.
        PrecisionError: A precision falls short.
        DiskFullError: It does not fit where ``output`` is.
    """
    if static is not None:
        _check_static(static, route, precisions, whole)
    with room_on_disk(), appearing(output, overwrite, CheckpointError) as folder:
        checkpoint = Checkpoint.open(source, model=model)
        report(f"reading {checkpoint.folder}")
        bundle = _write(_convert(checkpoint, route, static), checkpoint, folder, report)
        for name in precisions.names:
            if name != BASE:
                bundle = quantize(bundle, name, precisions.data, precisions.force, report=report)
        if BASE not in precisions.names:
            _drop(bundle, BASE)
        if whole:
            add_whole(Bundle.read(folder), report=report)
    return Bundle.read(output)


def import_graphs(
    source: str,
    output: Path,
    logit_scale: float | None = None,
    logit_bias: float | None = None,
    variants: Sequence[str] = (),
    force: bool = False,
    overwrite: bool = False,
    report: Callable[[str], None] = lambda message: None,
) -> Bundle:
    """Makes a bundle of ready-made graphs, and verifies it before it appears.

    Args:
        source: A folder in the Hub's transformers.js layout, or ``owner/name[@revision]``.
        output: The bundle's folder, which appears complete or not at all.
        logit_scale, logit_bias: The model's, which such folders do not hold.
        variants: Which graphs to take beside those in float32, as transformers.js calls them:
            ``"fp16"``, ``"quantized"`` and so on. Each is measured against float32.
        force: Keep a variant that falls under its precision's floor, and mark it.
        overwrite: Replace a bundle that is there already.
        report: Told each step in a line.

    Returns:
        The bundle that was written.

    Raises:
        CheckpointError: The graphs cannot be used, or ``output`` is taken.
        ParityError: A graph answers otherwise than it did.
        PrecisionError: A variant is unknown, is not the only one in its precision, or falls
            short.
        DiskFullError: It does not fit where ``output`` is.
    """
    with room_on_disk(), appearing(output, overwrite, CheckpointError) as folder:
        ready_made.check_variants(variants)
        graphs = [graph_file(tower, v) for tower in TOWERS for v in (None, *variants)]
        checkpoint = Checkpoint.open(source, graphs)
        report(f"reading {checkpoint.folder}")
        conversion = ready_made.convert(checkpoint, logit_scale, logit_bias, variants)
        bundle = _write(conversion, checkpoint, folder, report)
        for variant in variants:
            write = partial(ready_made.write_variant, checkpoint, bundle, variant)
            advice = f"Leave {variant} out, and let bareclip quantize make {VARIANTS[variant]}"
            bundle = add(bundle, VARIANTS[variant], write, Data(), force, False, report, advice)
    return Bundle.read(output)


def _write(
    conversion: Conversion, checkpoint: Checkpoint, folder: Path, report: Callable[[str], None]
) -> Bundle:
    """Writes and verifies all towers in float32, and the manifest."""
    (folder / BASE).mkdir()
    towers: dict[str, TowerFiles] = {}
    for tower, write in conversion.write.items():
        graph = folder / BASE / f"{tower}.onnx"
        report(f"writing the {tower} tower")
        write(graph)
        towers[tower] = TowerFiles(
            graph=f"{BASE}/{graph.name}",
            recipe="float32",
            onnxruntime=conversion.onnxruntime.get(tower, OLDEST),
            inputs=("pixels",) if tower == "vision" else ("ids",),
            files=file_records(graph, folder),
            parity=None,
        )
        _check_locations(graph, towers[tower], folder)
    if conversion.text is not None:
        save_tokenizer(conversion.text.tokenizer, folder / TOKENIZER)
    bundle = Bundle(
        format_version=FORMAT_VERSION,
        name=checkpoint.name.rpartition("/")[2],
        source=Source(
            checkpoint=checkpoint.name,
            revision=checkpoint.revision,
            license=checkpoint.license(),
            architecture=conversion.architecture,
            exporter=f"bareclip {__version__}, {conversion.exporter}",
        ),
        embedding_dim=conversion.embedding_dim,
        scoring=conversion.scoring,
        image=conversion.image,
        text=conversion.text.recipe if conversion.text else None,
        tokenizer=file_record(folder / TOKENIZER) if conversion.text else None,
        precisions={BASE: towers},
        fidelity={},
        static_batch=conversion.static_batch,
        folder=folder,
    )
    bundle.write()
    # As its users will read it.
    bundle = Bundle.read(folder)
    checked = {
        tower: replace(files, parity=_parity(tower, bundle, conversion, report))
        for tower, files in towers.items()
    }
    bundle = replace(bundle, precisions={BASE: checked})
    bundle.write()
    return bundle


def _check_locations(graph: Path, files: TowerFiles, folder: Path) -> None:
    """Refuses a graph that refers to weights other than those written beside it.

    Raises:
        CheckpointError: It does, as a ready-made one may in an attribute or a graph within it.
    """
    beside = graph.parent.relative_to(folder)
    for location in sorted(external_locations(graph)):
        if (beside / location).as_posix() not in files.files:
            raise CheckpointError(
                f"the {graph.stem} graph refers to weights in {printable(location)}, other than by "
                "an initializer, and those do not become part of a bundle"
            )


def _parity(
    tower: str, bundle: Bundle, conversion: Conversion, report: Callable[[str], None]
) -> Parity:
    """Holds a tower to its checkpoint."""
    name, reference = conversion.reference_name, conversion.reference[tower]
    report(f"verifying the {tower} tower against {name}")
    options = Options(device="cpu", cache=False)
    if tower == "vision":
        parity = check_images(ImageEncoder(bundle, options), reference, name)
    else:
        vocabulary = conversion.text.vocabulary if conversion.text else 0
        encoder = TextEncoder(bundle, options)
        if conversion.tokens is not None:
            check_tokens(encoder, conversion.tokens)
        parity = check_texts(encoder, vocabulary, reference, name)
    report(f"largest difference {parity.max_difference:.1e}")
    return parity


def _drop(bundle: Bundle, precision: str) -> None:
    bundle.without(precision).write()
    shutil.rmtree(bundle.folder / precision)


def _check_static(batch: int, route: Route, precisions: Precisions, whole: bool) -> None:
    """Refuses what graphs of fixed shapes cannot be.

    Raises:
        CheckpointError: No batch, a traced graph, or a whole graph of several pictures.
        PrecisionError: Another precision than fp32.
    """
    if batch < 1:
        raise CheckpointError(f"--static is {batch}; it is how many inputs a graph takes, from 1")
    if route != "authored":
        raise CheckpointError("graphs of fixed shapes are authored: leave --via optimum out")
    if precisions.names != (BASE,):
        raise PrecisionError(
            f"graphs of fixed shapes are made in {BASE} alone, since what compiles them quantizes "
            "by itself: leave --precision out"
        )
    if whole and batch > 1:
        raise CheckpointError("whole graphs take one picture: give --static 1 with --whole")


def _convert(checkpoint: Checkpoint, route: Route, static: int | None) -> Conversion:
    if route == "authored":
        return authored.convert(checkpoint, static)
    try:
        from . import via_optimum
    except ImportError as error:
        raise CheckpointError(
            f"going through optimum needs {error.name}, which is not installed: "
            "pip install 'bareclip[optimum]'"
        ) from error
    return via_optimum.convert(checkpoint)
