"""The tables of version 3: what was sent in one call of the stream, and whom a report about such a call may mean.

- `stream_batches`: one row a call, written before it is made. Its idempotency key is `uf_b<batch id>_<token>`; the
  token is random, so that a copy of the ledger never makes a key again. `events` is a JSON list of event ids.
- `meter_events.batch`: the batch in which the event was sent last, 0 where its last attempt was a call of its own.
- `report_suspects`: the only events that the unnamed errors of a report can be about. A report without rows here may
  be about anything that was sent around its time.
"""

STREAM_TABLES = """
ALTER TABLE meter_events ADD COLUMN batch INTEGER NOT NULL DEFAULT 0;
CREATE TABLE stream_batches (
  batch_id INTEGER PRIMARY KEY AUTOINCREMENT,
  account_id INTEGER NOT NULL,
  token TEXT NOT NULL,
  begun_at REAL NOT NULL,
  events TEXT NOT NULL,
  check_sum INTEGER NOT NULL
);
CREATE INDEX batches_by_time ON stream_batches (begun_at);
CREATE TABLE report_suspects (
  report TEXT NOT NULL,
  code TEXT NOT NULL,
  event_id INTEGER NOT NULL,
  PRIMARY KEY (report, code, event_id)
) WITHOUT ROWID;
"""
