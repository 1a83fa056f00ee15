"""bareclip info: what a bundle holds, or what is installed here."""

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import click

from .. import __version__
from ..bundle import Bundle
from ..errors import BundleError, DeviceError
from ..session import import_onnxruntime
from ..threads import default_threads
from .options import json_option
from .output import print_pairs, print_table


@click.command()
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@json_option
def info(bundle: Path | None, as_json: bool) -> None:
    """Describes BUNDLE and checks its files; without it, this installation.

    \b
    bareclip info clip-b32
    bareclip info
    """
    if bundle is None:
        facts = _installation()
        click.echo(json.dumps(facts, indent=2)) if as_json else _print_facts(facts)
        return
    described = _describe(Bundle.read(bundle))
    if as_json:
        click.echo(json.dumps(described, indent=2))
    else:
        _print_bundle(described)
    if described["damaged"]:
        raise BundleError(
            f"{bundle} is damaged, its checksums differ: {', '.join(described['damaged'])}; "
            "copy or export it again"
        )


def _print_bundle(described: dict[str, Any]) -> None:
    _print_facts({name: v for name, v in described.items() if name not in ("towers", "damaged")})
    click.echo()
    print_table(
        ["precision", "tower", "checked against", "largest difference", "MB"],
        [
            [
                tower["precision"],
                tower["tower"],
                tower["reference"],
                f"{tower['max_difference']:.1e}",
                f"{tower['bytes'] / 1e6:.1f}",
            ]
            for tower in described["towers"]
        ],
        right=2,
    )


def _print_facts(facts: dict[str, Any]) -> None:
    shown = {name: "not installed" if value is None else value for name, value in facts.items()}
    print_pairs([(name.replace("_", " "), str(value)) for name, value in shown.items()])


def _describe(bundle: Bundle) -> dict[str, Any]:
    image, source = bundle.image, bundle.source
    return {
        "name": bundle.name,
        "checkpoint": source.checkpoint,
        "revision": source.revision or "a local folder",
        "license": source.license or "not stated by the checkpoint",
        "architecture": source.architecture,
        "exporter": source.exporter,
        "embedding_width": bundle.embedding_dim,
        "images": f"{image.size}x{image.size}, {image.resize} side {image.resize_to}, "
        f"{image.interpolation}",
        "texts": f"up to {bundle.text.context_length} tokens",
        "scoring": f"{bundle.scoring.function}, logit scale {bundle.scoring.logit_scale:.4f}",
        "damaged": bundle.damage(),
        "towers": [
            {
                "precision": precision,
                "tower": tower,
                "reference": files.parity.reference,
                "max_difference": files.parity.max_difference,
                "bytes": sum(record.size for record in files.files.values()),
            }
            for precision, towers in bundle.precisions.items()
            for tower, files in towers.items()
        ],
    }


def _installation() -> dict[str, Any]:
    facts: dict[str, Any] = {"bareclip": __version__, "python": platform.python_version()}
    packages = ("numpy", "pillow", "tokenizers", "onnxruntime", "onnxruntime-gpu")
    facts |= {name: _version(name) for name in packages}
    try:
        facts["providers"] = ", ".join(import_onnxruntime().get_available_providers())
    except DeviceError as error:
        facts["providers"] = f"none: {error}"
    if facts["onnxruntime"] and facts["onnxruntime-gpu"]:
        facts["conflict"] = (
            "onnxruntime and onnxruntime-gpu share one folder, and the last installed won: "
            "pip uninstall both, then install bareclip[cpu] or bareclip[gpu]"
        )
    return facts | {"threads": default_threads()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
