"""Whether what is kept of calls of the stream is as it was written, and fits the meter events that were in them."""

import sqlite3

from otel_usageflow.extensions.sqlite_storage.damage import of_connection, recovery
from otel_usageflow.extensions.sqlite_storage.flow.batches import check_sum
from otel_usageflow.ledger.verification import Progress, Verification

_BATCHES = "SELECT check_sum, batch_id, account_id, token, begun_at, events FROM stream_batches"
# An event is in the batch that it names, unless that is so old that it was forgotten.
_MEMBERS = """
SELECT coalesce(sum(e.account_id != b.account_id OR e.batch != 0 AND e.batch < b.batch_id), 0),
       coalesce(sum(e.batch = b.batch_id), 0)
FROM stream_batches b, json_each(b.events) j JOIN meter_events e ON e.event_id = j.value WHERE b.batch_id = ?
"""
_NAMED = "SELECT count(*) FROM meter_events WHERE batch IN (SELECT batch_id FROM stream_batches)"
# An event whose attempts were all made by the stream went that way last. Each resend gives it another identifier and
# counts its attempts anew.
_FORGOT = """
SELECT count(*) FROM (
  SELECT 1 FROM stream_batches b, json_each(b.events) j JOIN meter_events e ON e.event_id = j.value
  WHERE e.batch = 0 AND e.attempts > 0 GROUP BY e.event_id
  HAVING count(*) >= e.attempts + (SELECT coalesce(sum(most), 0) FROM (
    SELECT max(a.attempts) AS most FROM answers a
    WHERE a.event_id = e.event_id AND a.identifier != e.identifier GROUP BY a.identifier)))
"""
_NO_BATCH = """
SELECT count(*) FROM meter_events WHERE batch != 0 AND batch NOT IN (SELECT batch_id FROM stream_batches)
  AND batch >= (SELECT coalesce(min(batch_id), (SELECT coalesce(max(seq), 0) + 1 FROM sqlite_sequence
                                                WHERE name = 'stream_batches')) FROM stream_batches)
"""


def check_stream(connection: sqlite3.Connection, found: Verification, progress: Progress) -> None:
    """Look at every call. Needs a snapshot."""
    remedy = recovery(of_connection(connection))
    changed = apart = named = 0
    for number, (told, *values) in enumerate(connection.execute(_BATCHES)):
        if number % 10_000 == 0:
            progress("calls of the stream", number, 0)
        if told != check_sum(*values):
            changed += 1
            continue
        wrong, naming = connection.execute(_MEMBERS, (values[0],)).fetchone()
        apart += bool(wrong)
        named += naming
    if changed:
        found.find("stream", "stream_batches", f"{changed} rows are not as they were written", remedy)
    if apart:
        found.find("stream", "stream_batches", f"{apart} calls have events that say they went otherwise", remedy)
    if not changed:
        (all_named,) = connection.execute(_NAMED).fetchone()
        (forgot,) = connection.execute(_FORGOT).fetchone()
        if elsewhere := all_named - named + forgot:
            problem = f"{elsewhere} meter events do not say which call was their last"
            found.find("stream", "meter_events", problem, remedy)
    (lost,) = connection.execute(_NO_BATCH).fetchone()
    if lost:
        found.find("stream", "meter_events", f"{lost} meter events name a call that there is not", remedy)
