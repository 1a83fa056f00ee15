"""bareclip cache: the towers that are kept for later processes, and clearing them."""

import time
from pathlib import Path

import click

from ..files.user_cache import cache_folder
from ..inference.graph_cache import clear, entries
from .options import json_option
from .output import print_table, say, say_json


@click.command()
@click.option("--clear", "wanted", is_flag=True, help="Remove all of it.")
@json_option
def cache(wanted: bool, as_json: bool) -> None:
    """Shows the towers that are kept so that later processes start sooner.

    One is made when a tower is first loaded; over 8 GB, what was used longest ago goes.
    BARECLIP_CACHE names another folder, or turns it off with `off`.

    \b
    bareclip cache
    bareclip cache --clear
    """
    folder = cache_folder()
    found = entries()
    freed = clear() if wanted else 0
    if as_json:
        listed = [
            {"graph": e.graph, "onnxruntime": e.onnxruntime, "bytes": e.size, "used": e.used}
            for e in found
        ]
        told = {"folder": folder and str(folder), "entries": listed, "freed_bytes": freed}
        say_json(told)
        return
    if folder is None:
        say("the cache is off: BARECLIP_CACHE says so")
        return
    if wanted:
        say(f"{folder}: removed {len(found)} towers, {freed / 1e6:.0f} MB")
        return
    total = sum(entry.size for entry in found)
    say(f"{folder}: {len(found)} towers, {total / 1e6:.0f} MB")
    if found:
        rows = [
            [
                str(Path(*Path(entry.graph).parts[-3:])),
                entry.onnxruntime,
                time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used)),
                f"{entry.size / 1e6:.0f}",
            ]
            for entry in found
        ]
        print_table(["tower", "ONNX Runtime", "last used", "MB"], rows)
