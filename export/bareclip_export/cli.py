"""bareclip export, import and quantize: they join the command through entry points."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from bareclip.bundle import MANIFEST, Bundle
from bareclip.cli.output import note, print_fidelity, say, say_json
from bareclip.errors import BareclipError
from bareclip.files import scratch_folder

if TYPE_CHECKING:
    from .precisions.quantize import Precisions

_calibrate = click.option(
    "--calibrate",
    type=click.Path(path_type=Path, exists=True),
    help="Folder of photos like your own, which int8 takes the scales of activations from.",
)
_captions = click.option(
    "--captions",
    type=click.Path(path_type=Path, exists=True),
    help="Text file with texts like your own, one per line; or a .jsonl file of images with "
    "captions.",
)
_force = click.option(
    "--force", is_flag=True, help="Keep a precision that falls short of its floor."
)


@click.command()
@click.argument("checkpoint")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to make."
)
@click.option(
    "--via",
    type=click.Choice(["authored", "optimum"]),
    default="authored",
    show_default=True,
    help="Build our own graphs, or trace transformers' model (needs bareclip[optimum]).",
)
@click.option(
    "--model",
    help="Which of OpenCLIP's models a file of weights is of, such as ViT-B-32, or "
    "ViT-B-16-SigLIP__webli where it descends from those weights.",
)
@click.option(
    "--precision",
    default="fp32",
    show_default=True,
    help="Precisions to make, such as fp32,int8: see bareclip quantize.",
)
@_calibrate
@_captions
@_force
@click.option(
    "--whole", is_flag=True, help="Make graphs of whole pictures too: see bareclip whole."
)
@click.option(
    "--static",
    type=click.IntRange(min=1),
    metavar="N",
    help="Make graphs that take N inputs always, for compilers for phones and NPUs.",
)
@click.option(
    "--layout",
    type=click.Choice(["bundle", "transformers.js"]),
    default="bundle",
    show_default=True,
    help="What to make: a bundle, or a folder that transformers.js loads, of a bundle too.",
)
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(
    checkpoint: str,
    output: Path,
    via: str,
    model: str | None,
    precision: str,
    calibrate: Path | None,
    captions: Path | None,
    force: bool,
    whole: bool,
    static: int | None,
    layout: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Converts CHECKPOINT, a folder, a file of weights or a Hub name, into a verified bundle.

    \b
    bareclip export openai/clip-vit-base-patch32 -o clip-b32
    bareclip export epoch_5.pt --model ViT-B-32 -o my-clip
    bareclip export ./my-finetuned-clip -o my-clip --precision fp32,int8 --calibrate photos/
    bareclip export clip-b32 -o for-the-web --layout transformers.js
    """
    try:
        from .export import export as convert
        from .precisions.quantize import Precisions
    except ImportError as error:
        raise _extra_missing(error) from error
    if layout == "transformers.js" and (Path(checkpoint) / MANIFEST).is_file():
        _refuse_what_bundles_have(checkpoint)
    wanted = Precisions.read(precision, calibrate, captions, force)
    if layout == "transformers.js":
        if whole or static is not None or overwrite:
            raise BareclipError(
                "a folder for transformers.js has no whole graphs and no fixed shapes, and "
                "replaces nothing: leave --whole, --static and --overwrite out"
            )
        _for_transformers_js(checkpoint, output, via, model, wanted, as_json)
        return
    bundle = convert(
        checkpoint,
        output,
        "optimum" if via == "optimum" else "authored",
        wanted,
        overwrite,
        note,
        model,
        whole,
        static,
    )
    _print_made(bundle, output, as_json)


def _refuse_what_bundles_have(bundle: str) -> None:
    """Refuses options for what was settled when a bundle was made.

    Raises:
        click.UsageError: One of them was given.
    """
    context = click.get_current_context()
    for name in ("precision", "calibrate", "captions", "force", "via", "model"):
        if context.get_parameter_source(name) is not ParameterSource.DEFAULT:
            raise click.UsageError(
                f"--{name} is for a checkpoint, and {bundle} is a bundle, whose precisions are "
                f"taken as they are: add one first with bareclip quantize {bundle} "
                "--precision int8."
            )


def _for_transformers_js(
    source: str,
    output: Path,
    via: str,
    model: str | None,
    precisions: "Precisions",
    as_json: bool,
) -> None:
    from .export import export as convert
    from .transformers_js import free_place, write_layout

    free_place(output)  # before a checkpoint is converted, which takes long
    of_bundle = (Path(source) / MANIFEST).is_file()
    if of_bundle:
        made = write_layout(Bundle.read(Path(source)), output, note)
    else:
        with scratch_folder(output.resolve()) as scratch:
            bundle = convert(
                source,
                scratch / "bundle",
                "optimum" if via == "optimum" else "authored",
                precisions,
                report=note,
                model=model,
            )
            made = write_layout(bundle, output, note)
    names = [path.name for path in made]
    if as_json:
        say_json({"folder": str(output), "graphs": names})
        return
    say(f"{output}: {', '.join(names)}, verified")
    if "model_quantized.onnx" not in names:
        add = (
            f"make it first with bareclip quantize {source} --precision int8"
            if of_bundle
            else "give --precision fp32,int8"
        )
        note(
            f"in a browser transformers.js asks for q8, which this folder lacks: {add}, or have "
            "its user give dtype: 'fp32'"
        )


@click.command(name="import")
@click.argument("folder")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to make."
)
@click.option("--logit-scale", type=float, help="The model's; without it CLIP has ln(100).")
@click.option("--logit-bias", type=float, help="The model's; SigLIP needs it.")
@click.option(
    "--variant",
    default="",
    help="Graphs to take beside those in float32, such as fp16 or quantized; several with commas.",
)
@_force
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def import_(
    folder: str,
    output: Path,
    logit_scale: float | None,
    logit_bias: float | None,
    variant: str,
    force: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Makes a bundle of ready-made graphs: a FOLDER or a Hub name with onnx/vision_model.onnx.

    \b
    bareclip import Xenova/clip-vit-base-patch32 -o clip-b32
    bareclip import Xenova/clip-vit-base-patch32 -o clip-b32 --variant fp16
    """
    try:
        from .export import import_graphs
    except ImportError as error:
        raise _extra_missing(error) from error
    variants = tuple(dict.fromkeys(name.strip() for name in variant.split(",") if name.strip()))
    bundle = import_graphs(
        folder, output, logit_scale, logit_bias, variants, force, overwrite, note
    )
    _print_made(bundle, output, as_json)


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--precision", required=True, help="int8, int4 or fp16; several with commas.")
@_calibrate
@_captions
@_force
@click.option("--overwrite", is_flag=True, help="Make anew what is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def quantize(
    bundle: Path,
    precision: str,
    calibrate: Path | None,
    captions: Path | None,
    force: bool,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Adds a precision to BUNDLE, measured against its fp32.

    int8 is for the CPU, fp16 for CUDA, int4 has the smallest files. Half of the photos and
    captions calibrate, the other half judges. Without photos, int8 rounds weights alone.

    \b
    bareclip quantize clip-b32 --precision int8 --calibrate photos/ --captions captions.txt
    bareclip quantize clip-b32 --precision int4
    """
    try:
        from .precisions.quantize import Precisions
        from .precisions.quantize import quantize as add
    except ImportError as error:
        raise _extra_missing(error) from error
    wanted = Precisions.read(precision, calibrate, captions, force)
    changed = Bundle.read(bundle)
    for name in wanted.names:
        changed = add(changed, name, wanted.data, force, overwrite, note)
    if as_json:
        say_json({"bundle": str(bundle), **_described(changed)})
        return
    for name in wanted.names:
        print_fidelity(changed, name, changed.fidelity[name])


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--overwrite", is_flag=True, help="Make anew what is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def whole(bundle: Path, overwrite: bool, as_json: bool) -> None:
    """Adds graphs of whole pictures to BUNDLE, for devices without an image library.

    PRECISION/whole.onnx takes a picture as it is decoded, (height, width, 3) bytes, and gives its
    vector; resize.onnx gives the pixels alone. Weights stay in the vision tower's file.

    \b
    bareclip whole clip-b32
    """
    try:
        from .whole import add_whole
    except ImportError as error:
        raise _extra_missing(error) from error
    found = add_whole(Bundle.read(bundle), overwrite, note).whole
    assert found is not None
    if as_json:
        say_json({"bundle": str(bundle), **asdict(found)})
        return
    pixels = found.resize.parity
    say(
        f"{found.resize.graph}: at most {pixels.max_levels} levels from {pixels.reference}, "
        f"{pixels.differing:.2%} of the values differ"
    )
    for tower in found.towers.values():
        parity = tower.parity
        assert parity is not None
        say(
            f"{tower.graph}: largest difference {parity.max_difference:.1e}, cosine "
            f"{parity.min_cosine:.7f} or more"
        )


def _print_made(bundle: Bundle, output: Path, as_json: bool) -> None:
    if as_json:
        say_json({"bundle": str(output), **_described(bundle)})
        return
    size = sum(record.size for record in bundle.files().values())
    say(f"{output}: {bundle.name}, {size / 1e6:.0f} MB, verified")
    for name, fidelity in bundle.fidelity.items():
        print_fidelity(bundle, name, fidelity)


def _described(bundle: Bundle) -> dict[str, Any]:
    parity = {
        name: None if tower.parity is None else asdict(tower.parity)
        for name, tower in bundle.precisions.get("fp32", {}).items()
    }
    fidelity = {name: asdict(report) for name, report in bundle.fidelity.items()}
    return {"name": bundle.name, "parity": parity, "fidelity": fidelity}


def _extra_missing(error: ImportError) -> BareclipError:
    return BareclipError(
        f"exporting needs {error.name}, which is not installed: pip install 'bareclip[export]'"
    )
