"""Embeds a column of pictures in a pipeline of Ray Data's.

    import bareclip.integrations.ray

    load = functools.partial(bareclip.load, "clip-b32", threads=4)
    found = ray.data.read_binary_files("s3://bucket/photos", include_paths=True).map_batches(
        bareclip.integrations.ray.Embedder,
        fn_constructor_kwargs={"clip": load},
        batch_format="pyarrow",
        batch_size=256,
        concurrency=8,
        num_cpus=4,
    )
    found.write_parquet("s3://bucket/vectors")

What is counted, resumed, or kills its process is for ``bareclip shards``; see docs/shards.md.
"""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from ..clip import Clip
from ..errors import BareclipError, short
from ..shards.columns import embed_bytes
from ..shards.part import vector_lists


class Embedder:
    """A class for ``map_batches``: bytes in, a vector or a reason out.

    Args:
        clip: What loads the model, called once per worker, as
            ``functools.partial(bareclip.load, "clip-b32", threads=4)``; or a ``Clip``, whose folder
            then lies at the same place on all machines. A Ray worker sees all of its machine's
            cores, so give ``threads``, as many as ``num_cpus``.
        column: Whose values are files of pictures; other columns stay.
        scaled: Decode large JPEGs at 1/2, 1/4 or 1/8, as ``bareclip shards`` does unless told
            ``--exact``.

    Examples:
        >>> embedder = bareclip.integrations.ray.Embedder(bareclip.load())
        >>> table = pa.table({"path": ["a.png"], "bytes": [Path(photos[0]).read_bytes()]})
        >>> embedder(table).column_names
        ['path', 'vector', 'error']
    """

    def __init__(
        self, clip: Clip | Callable[[], Clip], *, column: str = "bytes", scaled: bool = True
    ) -> None:
        self._clip = clip if isinstance(clip, Clip) else clip()
        self._column, self._scaled = column, scaled

    def __call__(self, table: Any) -> Any:
        """Embeds a batch.

        Args:
            table: ``pyarrow.Table`` of N rows.

        Returns:
            The table without the pictures, and with ``vector``, lists of the fixed size D of
            float32, of nulls where it failed, as a part has them, and ``error``, null where it
            did not.

        Raises:
            BareclipError: It is no such table, or has no such column of bytes.
        """
        if not isinstance(table, pa.Table):
            raise BareclipError(
                f'a batch is {type(table).__name__}, no pyarrow.Table: give batch_format="pyarrow"'
            )
        if self._column not in table.column_names:
            raise BareclipError(
                f"there is no column {short(self._column)} among {', '.join(table.column_names)}; "
                'name the one of pictures: fn_constructor_kwargs={"column": ...}'
            )
        kind = table.schema.field(self._column).type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise BareclipError(
                f"column {short(self._column)} is of {kind}, and no files of pictures"
            )
        images = (value.as_py() for chunk in table.column(self._column).chunks for value in chunk)
        vectors, errors = embed_bytes(self._clip, images, self._scaled)
        column = vector_lists(vectors, self._clip.images.width, "float32")
        rest = table.drop_columns([self._column])
        return rest.append_column("vector", column).append_column(
            "error", pa.array(errors, pa.string())
        )
