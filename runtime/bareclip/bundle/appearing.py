"""A bundle's folder, which appears whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import BareclipError, BundleError
from ..files import scratch_folder
from .format import MANIFEST


@contextmanager
def appearing(
    output: Path, overwrite: bool, taken_error: type[BareclipError] = BundleError
) -> Iterator[Path]:
    """A folder to fill, which takes ``output``'s place when the block ends without error.

    Args:
        output: The bundle's folder.
        overwrite: Replace a bundle that is there already; nothing else is ever replaced.
        taken_error: What is raised where ``output`` may not be replaced.

    Raises:
        BareclipError: ``output`` is there and may not be replaced.
    """
    output = output.resolve()
    taken = output.exists()
    if taken and not (overwrite and (output / MANIFEST).is_file()):
        raise taken_error(
            f"{output} exists already"
            + (" and is not a bundle" if overwrite else "; give another -o, or --overwrite")
        )
    with scratch_folder(output) as scratch:
        fresh, old = scratch / "fresh", scratch / "old"
        fresh.mkdir()
        yield fresh
        if taken:
            output.rename(old)
        try:
            fresh.rename(output)
        except OSError:
            if taken:
                old.rename(output)
            raise
