"""The tables for quantities that are summed over a request's trace; `flow/traces.py` says what is done with them.

- `books`: exporters, by number: each keeps traces of its own.
- `traces`: traces of which spans are kept, numbered in the order in which they came; `at_s` is when the first of it
  came, `requested` whether a request of it is billed by its trace. Its index by trace id is the only tree here that
  is touched at random, once a trace.
- `trace_spans`: the spans, filed under the number of their trace, so that new ones come to the end of the tree and
  those of one trace lie side by side. `entry` is NULL for a SERVER span whose SDK does not say.
- `trace_requests`: the requests whose quantity is such a sum, with all that is needed to file them. `due_ns` is the
  moment at which something has to be decided about them; `state` is a `RequestState`.
- `trace_parts`: which spans counted, under which attributes, and in which charge: the request's, or, where `key` is
  not empty, one of their own.

`check_sum` is over the columns of a row that never change, so that `ledger verify` finds a number that was altered.
"""

TRACE_TABLES = """
CREATE TABLE books (
  book_id INTEGER PRIMARY KEY,
  book TEXT NOT NULL UNIQUE
);
CREATE TABLE traces (
  trace_no INTEGER PRIMARY KEY,
  trace_id BLOB NOT NULL,
  book_id INTEGER NOT NULL,
  at_s INTEGER NOT NULL,
  requested INTEGER NOT NULL,
  check_sum INTEGER NOT NULL,
  UNIQUE (trace_id, book_id)
);
CREATE INDEX unrequested_traces ON traces (at_s) WHERE requested = 0;
CREATE TABLE trace_spans (
  trace_no INTEGER NOT NULL,
  span_id BLOB NOT NULL,
  parent BLOB NOT NULL,
  service TEXT NOT NULL,
  entry INTEGER,
  ended_ns INTEGER NOT NULL,
  amounts TEXT NOT NULL,
  check_sum INTEGER NOT NULL,
  PRIMARY KEY (trace_no, span_id)
) WITHOUT ROWID;
CREATE TABLE trace_requests (
  trace_no INTEGER NOT NULL,
  span_id BLOB NOT NULL,
  meter_id INTEGER NOT NULL,
  book_id INTEGER NOT NULL,
  key BLOB NOT NULL,
  series_id INTEGER NOT NULL,
  origin_id INTEGER NOT NULL,
  at_ns INTEGER NOT NULL,
  reason TEXT,
  seen TEXT NOT NULL,
  request_id BLOB NOT NULL,
  names TEXT NOT NULL,
  wait_ns INTEGER NOT NULL,
  check_sum INTEGER NOT NULL,
  state INTEGER NOT NULL,
  due_ns INTEGER,
  PRIMARY KEY (trace_no, span_id, meter_id)
) WITHOUT ROWID;
CREATE INDEX due_requests ON trace_requests (book_id, due_ns, state, at_ns) WHERE due_ns IS NOT NULL;
CREATE TABLE trace_parts (
  trace_no INTEGER NOT NULL,
  meter_id INTEGER NOT NULL,
  span_id BLOB NOT NULL,
  request BLOB NOT NULL,
  key BLOB NOT NULL,
  names TEXT NOT NULL,
  check_sum INTEGER NOT NULL,
  PRIMARY KEY (trace_no, meter_id, span_id)
) WITHOUT ROWID;
"""
