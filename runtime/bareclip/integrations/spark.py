"""Embeds a column of pictures in Spark.

    import bareclip.integrations.spark

    load = functools.partial(bareclip.load, "clip-b32", threads=1)
    photos = spark.read.format("binaryFile").load("s3://bucket/photos").select("path", "content")
    found = photos.mapInPandas(
        bareclip.integrations.spark.embedder(load), "path string, vector array<float>, error string"
    )
    found.write.parquet("s3://bucket/vectors")

What is counted, resumed, or kills its process is for ``bareclip shards``; see docs/shards.md.
"""

from collections.abc import Callable, Iterator
from typing import Any

from ..clip import Clip
from ..errors import BareclipError, short
from ..shards.columns import embed_bytes


def embedder(
    clip: Clip | Callable[[], Clip], *, column: str = "content", scaled: bool = True
) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """A function for ``mapInPandas``: bytes in, a vector or a reason out.

    Args:
        clip: What loads the model, called once per task, as
            ``functools.partial(bareclip.load, "clip-b32", threads=1)``, with as many threads as
            ``spark.task.cpus``; or a ``Clip``, whose folder then lies at the same place on all
            machines.
        column: Whose values are files of pictures; other columns stay.
        scaled: Decode large JPEGs at 1/2, 1/4 or 1/8, as ``bareclip shards`` does unless told
            ``--exact``.

    Returns:
        Frames in, frames out: without the pictures, and with ``vector``, D numbers, null where it
        failed, and ``error``, null where it did not. Spark has no lists of a fixed size.

    Raises:
        BareclipError: When it runs, there is no such column.

    Examples:
        >>> embed = bareclip.integrations.spark.embedder(bareclip.load())
        >>> frame = pd.DataFrame({"path": ["a.png"], "content": [Path(photos[0]).read_bytes()]})
        >>> [list(found.columns) for found in embed(iter([frame]))]
        [['path', 'vector', 'error']]
    """

    def embed(frames: Iterator[Any]) -> Iterator[Any]:
        model = clip if isinstance(clip, Clip) else clip()
        for frame in frames:
            if column not in frame.columns:
                raise BareclipError(
                    f"there is no column {short(column)} among {', '.join(frame.columns)}; "
                    "name the one of pictures: embedder(..., column=...)"
                )
            vectors, errors = embed_bytes(model, frame[column], scaled)
            yield frame.drop(columns=column).assign(vector=vectors, error=errors)

    return embed
