"""SQL functions that add stored amounts without a float ever coming near them."""

import sqlite3

from otel_usageflow.ledger import amount
from otel_usageflow.model.usage import Quantity


def register(connection: sqlite3.Connection) -> None:
    """Let a connection use `exact_sum(left, right)` and the aggregate `exact_total(amount)`."""
    connection.create_function("exact_sum", 2, exact_sum, deterministic=True)
    connection.create_aggregate("exact_total", 1, _ExactTotal)  # type: ignore[arg-type]


def exact_sum(left: int | str, right: int | str) -> int | str:
    """The sum of two stored amounts, as it is stored."""
    return amount.stored(amount.add(amount.restored(left), amount.restored(right)))


def columns(column: str) -> str:
    """Columns `high`, `low` and `exact` for SQL, together the sum of a column of stored amounts; see `total`.

    Integers are added by SQLite itself, in two halves so that 64 bits are always enough, which is some ten times as
    fast as asking Python for each row. Only decimals and very large integers, which are stored as text, pay that.
    """
    whole = f"FILTER (WHERE typeof({column}) = 'integer')"
    return (
        f"coalesce(sum({column} >> 32) {whole}, 0) AS high, coalesce(sum({column} & 4294967295) {whole}, 0) AS low, "
        f"coalesce(exact_total({column}) FILTER (WHERE typeof({column}) = 'text'), 0) AS exact"
    )


def total(high: int, low: int, text: int | str) -> Quantity:
    """The sum that `columns` tells in three."""
    return amount.add((high << 32) + low, amount.restored(text))


class _ExactTotal:
    """Sums stored amounts exactly."""

    def __init__(self) -> None:
        self._total: Quantity = 0

    def step(self, value: int | str | None) -> None:
        """Add one; what has no quantity adds nothing."""
        if value is not None:
            self._total = amount.add(self._total, amount.restored(value))

    def finalize(self) -> int | str:
        """The sum, as it is stored."""
        return amount.stored(self._total)
