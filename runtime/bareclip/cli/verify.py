"""bareclip verify: how near a bundle's precisions come to its fp32, here and now."""

import dataclasses
from pathlib import Path

import click

from .. import BareclipError, Bundle, BundleError
from ..bundle.locate import find_bundle
from ..images.folders import image_files
from ..measure.captions import read_pairs
from ..measure.fidelity import BASE, compare, make_corpus, shortfalls
from .options import json_option
from .output import print_fidelity, say, say_json


@click.command()
@click.argument("bundle")
@click.argument("data", required=False, type=click.Path(path_type=Path, exists=True))
@json_option
def verify(bundle: str, data: Path | None, as_json: bool) -> None:
    """Checks BUNDLE's files, and measures its other precisions against its fp32 on DATA.

    DATA is a folder of photos, or a .jsonl file of images with captions as `evaluate` takes
    it; without it, drawn pictures are used. Fails where a precision is under its floor.

    \b
    bareclip verify clip-b32 photos/
    bareclip verify clip-b32 captions.jsonl --json
    """
    checked = Bundle.read(find_bundle(bundle))
    damaged = checked.damage()
    if damaged:
        raise BundleError(
            f"{bundle} is damaged, its checksums differ: {', '.join(damaged)}; "
            "copy or export it again"
        )
    others = [name for name in checked.precisions if name != BASE]
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
    found = {name: compare(checked, name, corpus) for name in others} if corpus else {}
    if as_json:
        reports = {name: dataclasses.asdict(report) for name, report in found.items()}
        say_json({"bundle": bundle, "fidelity": reports})
    elif not found:
        say(f"{bundle}: its files are whole, and {BASE} is all it has")
    for name, report in found.items():
        if not as_json:
            print_fidelity(checked, name, report)
    short = [f"{name}: {what}" for name in found for what in shortfalls(name, found[name])]
    if short:
        raise BareclipError(f"{bundle} falls short at {'; '.join(short)}")
