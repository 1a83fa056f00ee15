"""Where vectors go next: a run, as other systems take it.

A module per target. Each streams the run's rows in order, in bounded memory, from one process.
A folder gets its name when it is whole, a table is one transaction; nothing is overwritten.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from ...errors import ShardError, short
from ..places import is_local
from ..plans import Plan
from . import clip_retrieval, faiss, lance, milvus, npz, pgvector, qdrant
from .embedded import Embedded, Report
from .folders import new_folder

Target: TypeAlias = Literal[
    "clip-retrieval", "faiss", "lance", "milvus", "npz", "pgvector", "qdrant"
]

TABLE = "images"
_FOLDERS: dict[str, Callable[[Embedded, Path], None]] = {
    "clip-retrieval": clip_retrieval.write,
    "faiss": faiss.write,
    "lance": lance.write,
    "milvus": milvus.write,
    "npz": npz.write,
    "qdrant": qdrant.write,
}


@dataclass(frozen=True)
class Exported:
    """What an export took.

    Attributes:
        to: The target.
        rows: Vectors that are there now.
        failed: Pictures that have none and were left out.
        shards: Those that were taken.
        missing: Those that are not done yet.
    """

    to: Target
    rows: int
    failed: int
    shards: int
    missing: int


def export(
    out: str | os.PathLike[str] | Plan,
    to: Target,
    destination: str | os.PathLike[str],
    *,
    table: str = TABLE,
    partial: bool = False,
    report: Report | None = None,
) -> Exported:
    """Writes the vectors of a run, and what is known of their pictures, for another system.

    Args:
        out: The run's folder, or its plan.
        to: Which system.
        destination: A folder to be made; ``NAME.lance`` for LanceDB; for pgvector the database,
            such as ``postgresql://user@host/name``.
        table: For pgvector, the table to be made.
        partial: Take what is done of a run that is not finished.
        report: Called with how many rows have been taken so far.

    Returns:
        Counts. Pictures without a vector are left out.

    Raises:
        ShardError: The run is not finished or a part is damaged; the destination is there
            already or cannot be written; a package is missing.

    Examples:
        >>> plan = shards.plan("photos", "OUT")
        >>> _ = list(shards.run(plan, bareclip.load()))
        >>> shards.export("OUT", "qdrant", "upload").rows
        12
        >>> np.load("upload/vectors.npy").shape
        (12, 128)
    """
    if to not in get_args(Target):
        raise ShardError(
            f"target {short(to)} is unknown; it is one of {', '.join(get_args(Target))}"
        )
    plan = out if isinstance(out, Plan) else Plan.read(out)
    rows = Embedded.of(plan, partial=partial, report=report)
    if to == "pgvector":
        pgvector.load(rows, os.fspath(destination), table)
    else:
        with new_folder(_folder(destination, to)) as folder:
            _FOLDERS[to](rows, folder)
    return Exported(to, len(rows), rows.failed, len(rows.counts), len(plan) - len(rows.counts))


def _folder(destination: str | os.PathLike[str], to: Target) -> Path:
    name = os.fspath(destination)
    if not is_local(name):
        raise ShardError(f"{name} is no local folder; export to one, and copy it")
    path = Path(name).expanduser().absolute()
    if to == "lance" and path.suffix != ".lance":
        raise ShardError(f"{name} must end in .lance, as LanceDB's tables do")
    return path
