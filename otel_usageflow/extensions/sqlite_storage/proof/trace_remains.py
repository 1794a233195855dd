"""What a recovered ledger does with traces of which rows were lost."""

import sqlite3

from otel_usageflow.extensions.sqlite_storage.flow.trace_rows import check_sum

# A request names its trace in its charge; spans do not, and nobody knows any more whose they were.
_MEND = (
    "DELETE FROM trace_requests WHERE trace_no NOT IN (SELECT trace_no FROM traces)",
    "DELETE FROM trace_spans WHERE trace_no NOT IN (SELECT trace_no FROM traces)",
    "DELETE FROM trace_parts WHERE trace_no NOT IN (SELECT trace_no FROM traces)",
    """DELETE FROM trace_parts WHERE NOT EXISTS (SELECT 1 FROM trace_spans s
       WHERE s.trace_no = trace_parts.trace_no AND s.span_id = trace_parts.span_id)""",
)


def mend(connection: sqlite3.Connection) -> None:
    """Let rows of one trace be of one trace: a number that was lost must not be given to another one.

    What is lost of the spans of a request that waits makes its quantity smaller, or unknown; the recovery says which
    tables are incomplete.
    """
    lost = connection.execute(
        "SELECT DISTINCT trace_no, substr(key, 5, 16), book_id, at_ns / 1000000000 FROM trace_requests "
        "WHERE trace_no NOT IN (SELECT trace_no FROM traces)"
    ).fetchall()
    for values in lost:
        connection.execute("INSERT OR IGNORE INTO traces VALUES (?, ?, ?, ?, 1, ?)", (*values, check_sum(*values)))
    for statement in _MEND:
        connection.execute(statement)
