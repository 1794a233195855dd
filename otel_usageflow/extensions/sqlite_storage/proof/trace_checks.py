"""Whether what is kept of traces is as it was written, and fits what was billed.

No sum of the ledger would show that a number of a span was altered before it was billed, so each row has a check sum
of what never changes in it. What does change is told by rules.
"""

import sqlite3

from otel_usageflow.extensions.sqlite_storage.damage import of_connection, recovery
from otel_usageflow.extensions.sqlite_storage.flow.trace_rows import CHECKED, RequestState, check_sum
from otel_usageflow.ledger.verification import Progress, Verification

_LOOK = (
    "`otel-usageflow explain` shows what is known of a trace; restore a backup, or tell the makers of otel-usageflow"
)
_CHARGED = "SELECT 1 FROM records r WHERE r.key = t.key"
_RULES = {
    "requests that are settled, and neither billed nor in quarantine": "SELECT count(*) FROM trace_requests t "
    f"JOIN ledger WHERE state = {RequestState.SETTLED:d} AND at_ns >= pruned_to * 1000000000 "
    f"AND NOT EXISTS ({_CHARGED}) AND NOT EXISTS (SELECT 1 FROM quarantine q WHERE q.key = t.key)",
    "requests that are billed although they are those of inner spans": "SELECT count(*) FROM trace_requests t "
    f"WHERE state = {RequestState.INNER:d} AND EXISTS ({_CHARGED} AND quantity IS NOT NULL)",
    "requests that are billed although an inner span stands for them": "SELECT count(*) FROM trace_requests t "
    f"WHERE state = {RequestState.COVERED:d} AND EXISTS ({_CHARGED}) "
    "AND NOT EXISTS (SELECT 1 FROM trace_parts p WHERE p.trace_no = t.trace_no AND p.key = t.key)",
    "requests that wait for no moment, or are done and wait": "SELECT count(*) FROM trace_requests "
    f"WHERE state NOT IN ({', '.join(str(int(one)) for one in RequestState)}) "
    f"OR (state = {RequestState.WAITING:d} AND due_ns IS NULL) "
    f"OR (state = {RequestState.INNER:d} AND due_ns IS NOT NULL)",
    "traces that do not say whether a request of them is billed": "SELECT count(*) FROM traces t WHERE requested != "
    "EXISTS (SELECT 1 FROM trace_requests r WHERE r.trace_no = t.trace_no)",
    "spans, requests or sums of a trace that is not known": "SELECT count(*) FROM (SELECT trace_no FROM trace_spans "
    "UNION ALL SELECT trace_no FROM trace_requests UNION ALL SELECT trace_no FROM trace_parts) "
    "WHERE trace_no NOT IN (SELECT trace_no FROM traces)",
    "traces or requests of an exporter that is not known": "SELECT count(*) FROM (SELECT book_id FROM traces "
    "UNION ALL SELECT book_id FROM trace_requests) WHERE book_id NOT IN (SELECT book_id FROM books)",
    "parts of the index of traces that are neither begun nor made": "SELECT count(*) FROM trace_slices "
    "WHERE records < 0 AND (records != -1 OR digest != x'')",
    "sums of spans that are not there": "SELECT count(*) FROM trace_parts p WHERE NOT EXISTS "
    "(SELECT 1 FROM trace_spans s WHERE s.trace_no = p.trace_no AND s.span_id = p.span_id)",
}


def check_traces(connection: sqlite3.Connection, found: Verification, progress: Progress) -> None:
    """Look at every row that is kept of traces. Needs a snapshot."""
    for table, columns in CHECKED.items():
        wrong = 0
        for number, (told, *values) in enumerate(
            connection.execute(f"SELECT check_sum, {', '.join(columns)} FROM {table}")
        ):
            if number % 100_000 == 0:
                progress(table.replace("_", " "), number, 0)
            wrong += told != check_sum(*values)
        if wrong:
            problem = f"{wrong} rows are not as they were written"
            found.find("traces", table, problem, recovery(of_connection(connection)))
    for what, query in _RULES.items():
        (count,) = connection.execute(query).fetchone()
        if count:
            found.find("traces", "the ledger", f"there are {count} {what}", _LOOK)
