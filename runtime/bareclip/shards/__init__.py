"""Pictures by the million: cut into shards, embedded on any number of machines, counted.

A **plan** cuts the input into shards, once. ``run_shard`` does one of them and knows no engine:
it streams, embeds and commits one Parquet part, whole, which is its own marker. Engines only hand
out numbers of shards. ``verify`` counts what came out against what went in.

    from bareclip import shards

    plan = shards.plan(["photos/"], "OUT")
    shards.run(plan, bareclip.load("clip-b32"))
    shards.verify("OUT").problems
    shards.search("OUT", ["a sunset"], bareclip.load("clip-b32"))
"""

from ..errors import BareclipError

try:
    import pyarrow as _pyarrow  # noqa: F401
except ImportError as error:
    raise BareclipError(
        f"shards need pyarrow ({error}): pip install 'bareclip[parquet]'"
    ) from error

from .engines import Event, Finished, Refused, run, slice_of, unfinished
from .exports import Exported, export
from .part import Footer, Part
from .plans import Plan, Shard, plan
from .progress import Pace, Status, status
from .searching import search
from .verification import Problem, Report, verify
from .work import run_shard

__all__ = [
    "Event",
    "Exported",
    "Finished",
    "Footer",
    "Pace",
    "Part",
    "Plan",
    "Problem",
    "Refused",
    "Report",
    "Shard",
    "Status",
    "export",
    "plan",
    "run",
    "run_shard",
    "search",
    "slice_of",
    "status",
    "unfinished",
    "verify",
]
