"""Rows as JSON lines and as Parquet; both a piece at a time."""

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

from otel_usageflow.errors import UsageError

if TYPE_CHECKING:
    from otel_usageflow.ledger.export import Columns
    from otel_usageflow.ledger.verification import Progress

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_GROUP = 20_000
"""Rows in a row group of Parquet."""


def check_parquet() -> None:
    """Find out early whether Parquet can be written.

    Raises:
        UsageError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise UsageError(
            "--format parquet needs pyarrow, which is not installed: pip install 'otel-usageflow[parquet]', "
            "or leave it out for JSON lines"
        ) from None


def write_jsonl(columns: "Columns", rows: Iterable[tuple[object, ...]], file: IO[bytes], progress: "Progress") -> int:
    """One object a line, every column in every line; return the number of rows."""
    from otel_usageflow.ledger.export import Type

    as_json: list[Callable[[Any], object]] = [
        _iso if kind is Type.MOMENT else lambda value: value for kind in columns.values()
    ]
    names, count = list(columns), 0
    for row in rows:
        line = {name: None if v is None else to(v) for name, to, v in zip(names, as_json, row, strict=True)}
        file.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        count += 1
        progress("rows", count, 0)
    return count


def write_parquet(
    columns: "Columns", rows: Iterable[tuple[object, ...]], file: IO[bytes], progress: "Progress"
) -> int:
    """A Parquet file, zstd; return the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from otel_usageflow.ledger.export import Type

    types = {
        **dict.fromkeys((Type.TEXT, Type.QUANTITY, Type.JSON), pa.string()),
        Type.INTEGER: pa.int64(),
        Type.BOOLEAN: pa.bool_(),
        Type.MOMENT: pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    jsons = [place for place, kind in enumerate(columns.values()) if kind is Type.JSON]
    count, left = 0, iter(rows)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(left, _GROUP)):
            by_column: list[list[Any]] = [list(column) for column in zip(*group, strict=True)]
            for place in jsons:
                by_column[place] = [
                    None if value is None else json.dumps(value, ensure_ascii=False) for value in by_column[place]
                ]
            arrays = [pa.array(values, field.type) for values, field in zip(by_column, schema, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            count += len(group)
            progress("rows", count, 0)
    return count


def _iso(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds").replace("+00:00", "Z")
