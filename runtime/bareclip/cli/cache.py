"""bareclip cache: the towers and labels that are kept for later processes, and clearing them."""

import time
from pathlib import Path

import click

from ..encoders import label_cache
from ..files.user_cache import cache_folder
from ..inference import graph_cache
from .options import json_option
from .output import print_table, say, say_json


@click.command()
@click.option("--clear", "wanted", is_flag=True, help="Remove all of it.")
@json_option
def cache(wanted: bool, as_json: bool) -> None:
    """Shows the towers and labels that are kept so that later processes start sooner.

    A tower is kept when it is first loaded, labels when many are first classified with; of towers
    over 8 GB, of labels over 512 MB, what was used longest ago goes.
    BARECLIP_CACHE names another folder, or turns it off with `off`.

    \b
    bareclip cache
    bareclip cache --clear
    """
    folder = cache_folder()
    found, labels = graph_cache.entries(), label_cache.entries()
    freed = graph_cache.clear() + label_cache.clear() if wanted else 0
    if as_json:
        listed = [
            {"graph": e.graph, "onnxruntime": e.onnxruntime, "bytes": e.size, "used": e.used}
            for e in found
        ]
        kept = [
            {
                "bundle": e.bundle,
                "labels": e.labels,
                "prompts": e.prompts,
                "bytes": e.size,
                "used": e.used,
            }
            for e in labels
        ]
        told = {"folder": folder and str(folder), "entries": listed, "labels": kept}
        say_json(told | {"freed_bytes": freed})
        return
    if folder is None:
        say("the cache is off: BARECLIP_CACHE says so")
        return
    counted = f"{len(found)} towers" + (f", {len(labels)} sets of labels" if labels else "")
    if wanted:
        say(f"{folder}: removed {counted}, {freed / 1e6:.0f} MB")
        return
    total = sum(e.size for e in found) + sum(e.size for e in labels)
    say(f"{folder}: {counted}, {total / 1e6:.0f} MB")
    if found:
        rows = [
            [
                str(Path(*Path(entry.graph).parts[-3:])),
                entry.onnxruntime,
                _date(entry.used),
                f"{entry.size / 1e6:.0f}",
            ]
            for entry in found
        ]
        print_table(["tower", "ONNX Runtime", "last used", "MB"], rows)
    if labels:
        rows = [
            [
                kept.bundle,
                str(kept.labels),
                str(kept.prompts),
                _date(kept.used),
                f"{kept.size / 1e6:.1f}",
            ]
            for kept in labels
        ]
        print_table(["labels of", "labels", "prompts", "last used", "MB"], rows)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
