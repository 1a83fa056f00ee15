"""A table of PostgreSQL's, with pgvector's type: loaded by a binary COPY, then indexed.

The rows are one transaction: after an error, or without this process, there is no table. The
indexes are made in a second one, since they can be made again at any time.
https://github.com/pgvector/pgvector
"""

from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import ShardError, short
from .embedded import Batch, Embedded, needed

_INSTALL = "'psycopg[binary]' pgvector"


def load(rows: Embedded, address: str, table: str) -> None:
    """Makes the table, fills it, and makes its indexes.

    Args:
        rows: What it is filled with.
        address: Of the database, as libpq takes it.
        table: To be made.

    Raises:
        ShardError: A package is missing, the database cannot be used, or has such a table.
    """
    psycopg = needed("psycopg", _INSTALL)
    pgvector = needed("pgvector.psycopg", _INSTALL)
    try:
        with psycopg.connect(address, autocommit=True) as connection:
            with connection.transaction():
                connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
                pgvector.register_vector(connection)
                # Since pgvector 0.7; half the size.
                halves = rows.vectors == "float16" and _has_halfvec(connection)
                kind = "halfvec" if halves else "vector"
                _fill(psycopg.sql, connection, rows, table, kind)
            _index(psycopg, connection, table, kind)
    except psycopg.errors.DuplicateTable as error:
        raise ShardError(
            f"the database has a table {short(table)} already: drop it, or give another --table"
        ) from error
    except psycopg.Error as error:
        raise ShardError(f"PostgreSQL: {_line(error)}") from error


def _fill(sql: Any, connection: Any, rows: Embedded, table: str, kind: str) -> None:
    create = """
        CREATE TABLE {} (
            id bigint PRIMARY KEY, key text NOT NULL, vector {}({}) NOT NULL,
            source text, "offset" bigint, caption text, url text
        )
    """
    name = sql.Identifier(table)
    connection.execute(sql.SQL(create).format(name, sql.SQL(kind), sql.Literal(rows.width)))
    copying = sql.SQL("COPY {} FROM STDIN WITH (FORMAT BINARY)").format(name)
    with connection.cursor() as cursor, cursor.copy(copying) as copy:
        copy.set_types(["int8", "text", kind, "text", "int8", "text", "text"])
        for batch in rows.batches():
            for row in _rows(batch, kind):
                copy.write_row(row)


def _rows(batch: Batch, kind: str) -> Iterator[tuple[Any, ...]]:
    vectors: Iterable[Any] = batch.unit()
    if kind == "halfvec":
        vectors = map(needed("pgvector", _INSTALL).HalfVector, batch.vectors)
    for number, vector, picture in zip(
        batch.ids.tolist(), vectors, batch.pictures.to_pylist(), strict=True
    ):
        yield (
            number,
            _text(picture["key"]),
            vector,
            _text(picture["source"]),
            picture["offset"],
            _text(picture["caption"]),
            _text(picture["url"]),
        )


def _text(text: str | None) -> str | None:
    # The one character that PostgreSQL's text cannot hold.
    return text and text.replace("\0", "\\x00")


def _has_halfvec(connection: Any) -> bool:
    return connection.execute("SELECT to_regtype('halfvec')").fetchone()[0] is not None


def _index(psycopg: Any, connection: Any, table: str, kind: str) -> None:
    name = psycopg.sql.Identifier(table)
    for using in (
        "hash (key)",  # keys may be longer than a B-tree takes
        f"hnsw (vector {kind}_cosine_ops)",
    ):
        statement = psycopg.sql.SQL("CREATE INDEX ON {} USING " + using).format(name)
        try:
            connection.execute(statement)
        except psycopg.Error as error:
            raise ShardError(
                f"table {short(table)} is whole, but has no index: {_line(error)}; make it with: "
                f"{statement.as_string(connection)}"
            ) from error


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
