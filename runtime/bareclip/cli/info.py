"""bareclip info: what a bundle holds, or what is installed here."""

import dataclasses
import platform
from typing import Any

import click

from .. import Bundle, BundleError, DeviceError, __version__
from ..bundle.locate import find_bundle
from ..inference.device import BF16, Device
from ..inference.installation import Installation, installation, package_version
from ..inference.openvino import openvino_devices
from ..inference.processor import instructions
from ..inference.threads import default_threads
from .options import json_option
from .output import print_pairs, print_table, say, say_json


@click.command()
@click.argument("bundle", required=False)
@json_option
def info(bundle: str | None, as_json: bool) -> None:
    """Describes BUNDLE and checks its files; without it, this installation.

    \b
    bareclip info clip-b32
    bareclip info
    """
    if bundle is None:
        facts = _installation()
        say_json(facts) if as_json else _print_facts(facts)
        return
    described = _describe(Bundle.read(find_bundle(bundle)))
    if as_json:
        say_json(described)
    else:
        _print_bundle(described)
    if described["damaged"]:
        raise BundleError(
            f"{bundle} is damaged, its checksums differ: {', '.join(described['damaged'])}; "
            "copy or export it again"
        )


def _print_bundle(described: dict[str, Any]) -> None:
    _print_facts({name: v for name, v in described.items() if name not in ("towers", "damaged")})
    say()
    print_table(
        ["precision", "tower", "checked against", "found", "MB"],
        [
            [
                tower["precision"],
                tower["tower"],
                *_found(tower),
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
    image, text, source = bundle.image, bundle.text, bundle.source
    return {
        "name": bundle.name,
        "checkpoint": source.checkpoint,
        "revision": source.revision or "a local folder",
        "license": source.license or "not stated by the checkpoint",
        "architecture": source.architecture,
        "exporter": source.exporter,
        "embedding_width": bundle.embedding_dim,
        "images": "no vision tower"
        if image is None
        else f"{image.size}x{image.size}, "
        f"{image.resize} side {image.resize_to}, {image.interpolation}",
        "texts": "no text tower" if text is None else f"up to {text.context_length} tokens",
        "scoring": f"{bundle.scoring.function}, logit scale {bundle.scoring.logit_scale:.4f}",
        "inputs": "any number at a time"
        if bundle.static_batch is None
        else f"{bundle.static_batch} at a time, always",
        "whole_graphs": ", ".join(graph.graph for graph in bundle.whole_graphs()) or "none",
        "damaged": bundle.damage(),
        "towers": [
            {
                "precision": precision,
                "tower": tower,
                "recipe": bundle.tower(precision, tower).recipe,
                "parity": _parity(bundle, precision, tower),
                "fidelity": _fidelity(bundle, precision, tower),
                "bytes": bundle.size(precision, tower),
            }
            for precision, towers in bundle.precisions.items()
            for tower in towers
        ],
    }


def _parity(bundle: Bundle, precision: str, tower: str) -> dict[str, Any] | None:
    parity = bundle.tower(precision, tower).parity
    return None if parity is None else dataclasses.asdict(parity)


def _fidelity(bundle: Bundle, precision: str, tower: str) -> dict[str, Any] | None:
    report = bundle.fidelity.get(precision)
    if report is None:
        return None
    return dataclasses.asdict(report.towers[tower]) | {"forced": report.forced}


def _found(tower: dict[str, Any]) -> tuple[str, str]:
    """What a tower was held to when it was made, and how near it came."""
    if (parity := tower["parity"]) is not None:
        return parity["reference"], f"largest difference {parity['max_difference']:.1e}"
    if (found := tower["fidelity"]) is not None:
        kept = ", kept by force" if found["forced"] else ""
        return "fp32", f"cosine {found['mean_cosine']:.5f}, least {found['min_cosine']:.5f}{kept}"
    return "nothing", "-"


def _installation() -> dict[str, Any]:
    facts: dict[str, Any] = {"bareclip": __version__, "python": platform.python_version()}
    packages = ("numpy", "pillow", "tokenizers", "onnxruntime", "onnxruntime-gpu", "openvino")
    facts |= {name: package_version(name) for name in packages}
    try:
        found = installation()
    except DeviceError as error:
        facts["providers"] = f"none: {error}"
    else:
        facts["providers"] = ", ".join(found.providers)
        facts |= _cuda(found)
    if facts["openvino"] is not None:
        facts |= _openvino()
    having = instructions()
    known = "unknown" if having is None else ", ".join(having) or "none that matter here"
    return facts | {"instructions": known, "threads": default_threads()}


def _openvino() -> dict[str, Any]:
    """What device="openvino" would find."""
    facts = {"bf16": "yes"}
    try:
        Device("openvino", required=True).check_bf16(BF16)
    except DeviceError as error:
        facts = {"bf16": f"no: {error}"}
    try:
        return {"openvino_devices": ", ".join(openvino_devices())} | facts
    except DeviceError as error:
        return {"openvino_devices": f"none: {error}"}


def _cuda(found: Installation) -> dict[str, Any]:
    """What a session on CUDA would find, and what would keep it from starting."""
    driver = found.driver
    if driver is None:
        facts = {"nvidia_driver": "not loaded", "gpus": "none"}
    else:
        newest = ".".join(map(str, driver.cuda))
        facts = {
            "nvidia_driver": f"{driver.version or 'unknown'}, runs CUDA {newest} at most",
            "gpus": ", ".join(f"{i} {name}" for i, name in enumerate(driver.gpus)) or "none",
        }
    obstacles = found.obstacles()
    return facts | {
        "cuda": f"no: {'; '.join(obstacles)}" if obstacles else f"{found.cuda}, nothing is missing"
    }
