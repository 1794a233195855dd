"""Whether what is kept of requests with an id is as it was written, and fits what was billed."""

import sqlite3

from otel_usageflow.extensions.sqlite_storage.damage import of_connection, recovery
from otel_usageflow.extensions.sqlite_storage.flow.request_ids import check_sum
from otel_usageflow.ledger.verification import Progress, Verification

_LOOK = "`otel-usageflow explain` shows what is known of a trace; restore a backup, or correct it with `usage adjust`"
_BOTH = """
SELECT count(*) FROM request_ids i JOIN records r USING (key) WHERE i.same_as IS NOT NULL AND r.quantity IS NOT NULL
"""


def check_request_ids(connection: sqlite3.Connection, found: Verification, progress: Progress) -> None:
    """Look at every line. Needs a snapshot."""
    wrong = 0
    lines = connection.execute("SELECT check_sum, key, request, same_as, quantity FROM request_ids")
    for number, (told, *values) in enumerate(lines):
        if number % 100_000 == 0:
            progress("request ids", number, 0)
        wrong += told != check_sum(*values)
    if wrong:
        problem = f"{wrong} rows are not as they were written"
        found.find("request ids", "request_ids", problem, recovery(of_connection(connection)))
    (both,) = connection.execute(_BOTH).fetchone()
    if both:
        problem = f"there are {both} requests that are billed, and are the same as another that is"
        found.find("request ids", "the ledger", problem, _LOOK)
