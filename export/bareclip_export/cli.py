"""bareclip export: joins the ``bareclip`` command through an entry point."""

import json
from dataclasses import asdict
from pathlib import Path

import click

from bareclip.errors import BareclipError


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
@click.option("--overwrite", is_flag=True, help="Replace a bundle that is there already.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(checkpoint: str, output: Path, via: str, overwrite: bool, as_json: bool) -> None:
    """Converts CHECKPOINT, a folder or a Hub name, into a verified bundle.

    \b
    bareclip export openai/clip-vit-base-patch32 -o clip-b32
    bareclip export ./my-finetuned-clip -o my-clip
    """
    try:
        from .export import export as convert
    except ImportError as error:
        raise BareclipError(
            f"exporting needs {error.name}, which is not installed: pip install 'bareclip[export]'"
        ) from error
    bundle = convert(
        checkpoint,
        output,
        "optimum" if via == "optimum" else "authored",
        overwrite,
        lambda message: click.echo(message, err=True),
    )
    if as_json:
        parity = {name: asdict(tower.parity) for name, tower in bundle.precisions["fp32"].items()}
        click.echo(json.dumps({"bundle": str(output), "name": bundle.name, "parity": parity}))
        return
    size = sum(record.size for record in bundle.files().values())
    click.echo(f"{output}: {bundle.name}, {size / 1e6:.0f} MB, verified")
