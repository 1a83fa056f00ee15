"""Which towers of a bundle are loaded: the precision of each, where it runs."""

from collections.abc import Mapping

from .bundle import TOWERS, Bundle, TowerFiles
from .cuda import load_tower
from .errors import BundleError
from .installation import check_version
from .prepared import load_session
from .session import Device, Tower


def load_towers(
    bundle: Bundle,
    device: Device,
    precision: str | Mapping[str, str],
    threads: int,
    cache: bool,
) -> tuple[dict[str, str], Tower, Tower]:
    """Loads both towers and holds them to what the bundle says of them.

    Args:
        bundle: Has them.
        device: Where to run.
        precision: A name, ``"auto"``, or one for each tower.
        threads: For one operator.
        cache: Whether to keep prepared copies.

    Returns:
        tower -> the precision that was chosen, the vision tower and the text tower.

    Raises:
        BundleError: Damaged, or without that precision.
        DeviceError: The device does not start, or does not run that precision.
    """
    chosen = _precisions(bundle, precision, device)
    files = [bundle.tower(chosen[tower], tower) for tower in TOWERS]
    for tower in files:
        check_version(tower.onnxruntime, str(bundle.folder / tower.graph))
    vision, text = (_load(bundle, f, device, threads, cache) for f in files)
    size, width = bundle.image.size, bundle.embedding_dim
    vision.check(files[0].graph, [[None, size, size, 3]], width)
    text.check(files[1].graph, [[None, None]], width)
    return chosen, vision, text


def _load(bundle: Bundle, files: TowerFiles, device: Device, threads: int, cache: bool) -> Tower:
    if cache and not device.on_cuda:
        return Tower(load_session(bundle.folder, files, threads), device.name)
    return load_tower(bundle.folder / files.graph, device, threads)


def _precisions(bundle: Bundle, wanted: str | Mapping[str, str], device: Device) -> dict[str, str]:
    """The precision of each tower, which runs on that device."""
    each = dict.fromkeys(TOWERS, wanted) if isinstance(wanted, str) else dict(wanted)
    if set(each) != set(TOWERS):
        raise BundleError(
            f"precision {wanted!r} must be a name, or one for each of {', '.join(TOWERS)}"
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
