"""bareclip verify: how near a bundle's precisions come to its fp32, here and now."""

import dataclasses
from pathlib import Path

import click

from .. import BareclipError, Bundle, BundleError, DeviceError
from ..bundle.locate import find_bundle
from ..images.folders import image_files
from ..inference.device import BF16, Device
from ..measure.captions import read_pairs
from ..measure.fidelity import BASE, compare, make_corpus, shortfalls
from .options import json_option
from .output import print_fidelity, say, say_json


@click.command()
@click.argument("bundle")
@click.argument("data", required=False, type=click.Path(path_type=Path, exists=True))
@click.option(
    "--device",
    type=click.Choice(["openvino"]),
    help="Measure there what OpenVINO runs, fp32 itself and bf16 too, against ONNX Runtime's fp32.",
)
@json_option
def verify(bundle: str, data: Path | None, device: str | None, as_json: bool) -> None:
    """Checks BUNDLE's files, and measures its other precisions against its fp32 on DATA.

    DATA is a folder of photos, or a .jsonl file of images with captions as `evaluate` takes
    it; without it, drawn pictures are used. Fails where a precision is under its floor.

    \b
    bareclip verify clip-b32 photos/
    bareclip verify clip-b32 captions.jsonl --json
    bareclip verify clip-b32 photos/ --device openvino
    """
    checked = Bundle.read(find_bundle(bundle))
    damaged = checked.damage()
    if damaged:
        raise BundleError(
            f"{bundle} is damaged, its checksums differ: {', '.join(damaged)}; "
            "copy or export it again"
        )
    others = [name for name in checked.precisions if name != BASE]
    if device is not None:
        others = [name for name in (BASE, BF16, *others) if _runs(device, name)]
    if BASE not in checked.precisions:
        raise BundleError(
            f"{bundle} has no {BASE} to compare {', '.join(others)} with; its files are whole, "
            f"and bareclip info {bundle} shows what was measured when it was made"
        )
    pairs = [] if data is None or data.is_dir() else read_pairs(data)
    if data is not None and data.is_dir():
        pairs = [(path, []) for path in image_files(data)]
        if not pairs:
            raise BareclipError(f"folder {data} holds no image files")
    corpus = make_corpus(checked, pairs) if others else None
    found = {}
    if corpus is not None:
        found = {name: compare(checked, name, corpus, device=device) for name in others}
    if as_json:
        reports = {name: dataclasses.asdict(report) for name, report in found.items()}
        say_json({"bundle": bundle, "device": device, "fidelity": reports})
    elif not found:
        say(f"{bundle}: its files are whole, and {BASE} is all it has")
    for name, report in found.items():
        if not as_json:
            print_fidelity(checked, name, report, device)
    short = [f"{name}: {what}" for name in found for what in shortfalls(name, found[name])]
    if short:
        raise BareclipError(f"{bundle} falls short at {'; '.join(short)}")


def _runs(device: str, precision: str) -> bool:
    place = Device.parse(device)
    try:
        place.check_precision(precision)
    except DeviceError:
        return False
    return True
