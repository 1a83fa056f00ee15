"""Which towers of a bundle are loaded: the precision of each, where it runs."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from .bundle import Bundle, TowerFiles
from .cuda import load_tower
from .errors import BundleError
from .installation import check_version, import_onnxruntime
from .prepared import load_session
from .session import Device, Tower
from .threads import Threads


def load_towers(
    bundle: Bundle,
    device: Device,
    precision: str | Mapping[str, str],
    threads: Threads,
    cache: bool,
) -> tuple[dict[str, str], dict[str, Tower]]:
    """Loads a bundle's towers and holds them to what it says of them.

    Args:
        bundle: Has one or both.
        device: Where to run.
        precision: A name, ``"auto"``, or one a tower; a tower that is left out is ``"auto"``.
        threads: Of each tower.
        cache: Whether to keep prepared copies.

    Returns:
        tower -> the precision that was chosen, and tower -> the tower.

    Raises:
        BundleError: Damaged, or without that precision.
        DeviceError: The device does not start, or does not run that precision.
    """
    chosen = _precisions(bundle, precision, device)
    shapes: dict[str, list[int | None]] = {}
    if (image := bundle.image) is not None:
        shapes["vision"] = [None, image.size, image.size, 3]
    if (text := bundle.text) is not None:
        shapes["text"] = [None, text.context_length if text.fixed_length else None]

    def load(name: str) -> Tower:
        files = bundle.tower(chosen[name], name)
        check_version(files.onnxruntime, str(bundle.folder / files.graph))
        tower = _load(bundle, files, device, threads, cache)
        tower.check(files.graph, [shapes[name]], bundle.embedding_dim)
        return tower

    if device.on_cuda:
        return chosen, {name: load(name) for name in shapes}
    import_onnxruntime()  # not in two threads at once
    with ThreadPoolExecutor(len(shapes)) as pool:
        towers = dict(zip(shapes, pool.map(load, shapes), strict=True))
    return chosen, towers


def _load(
    bundle: Bundle, files: TowerFiles, device: Device, threads: Threads, cache: bool
) -> Tower:
    if cache and not device.on_cuda:
        return Tower(load_session(bundle.folder, files, threads), device.name)
    return load_tower(bundle.folder / files.graph, device, threads)


def _precisions(bundle: Bundle, wanted: str | Mapping[str, str], device: Device) -> dict[str, str]:
    """The precision of each tower, which runs on that device."""
    own = bundle.towers
    if isinstance(wanted, str):
        each = dict.fromkeys(own, wanted)
    else:
        each = dict.fromkeys(own, "auto") | dict(wanted)
    if set(each) != set(own):
        raise BundleError(
            f"precision {wanted!r} must be a name, or name some of {', '.join(own)}, which is "
            f"what {bundle.folder} has"
        )
    for tower, precision in each.items():
        if precision == "auto":
            each[tower] = _automatic(bundle, tower, device)
        else:
            bundle.tower(precision, tower)
            device.check_precision(precision)
    return each


def _automatic(bundle: Bundle, tower: str, device: Device) -> str:
    order = ("fp16", "fp32", "int4") if device.on_cuda else ("fp32", "int8", "int4")
    for precision in order:
        if tower in bundle.precisions.get(precision, {}):
            return precision
    raise BundleError(
        f"{bundle.folder} has no {tower} tower that runs on {device.name}; it has "
        f"{', '.join(bundle.precisions)}: export it again with --precision fp32"
    )
