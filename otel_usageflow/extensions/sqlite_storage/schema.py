"""The tables of the ledger, and how an older ledger becomes a newer one.

Migrations are applied in order, each in one transaction with its number (`PRAGMA user_version`). A migration
that has been released is never changed.

Where what lives, and why:
- `records`: one row a charge, keyed by the charge itself (`ledger/charge.py`), time first, so that inserting stays
  as cheap as the table grows.
- `series`: who, under which event name, with which further keys; windows and records name it by number.
- `open_windows`: what is still collecting or waits for its lane; small, read at every freeze.
- `held_windows`: what waits for a customer or a meter; may be large, is read only when one appears.
- `windows`: what was frozen, and into which event (0: it summed to 0; -1: each record has its own; -2: discarded).
- `meter_events`: what was or will be sent. `quarantine`: charges that are clear to be unbillable at once.
- `stray_records`: records whose billed moment is not the span's end, so that their key does not tell the second.
- `server_spans`: SERVER spans that did not say whether their parent is remote (design: what a request is).
- `customers`, `directories`: the customer directory. `listings`: how far a listing of all customers has come.
- `answers`: what a meter event's answer was, before it took a step out of a state that had one. `returned_windows`:
  what an event had covered that was given back. `released_events`: events that may be sent again, for the sender to
  take up while it runs.
- `adjustments`: corrections that people asked for. `audit`: who changed what, hash-chained.
- `error_reports`, `error_samples`: what Stripe said later about events that it had taken. `reconciled`: when the
  ledger was last compared with Stripe, and what came out.
- `daily`: billed usage summed by UTC day, so that reports of a month read thousands of rows, not millions. It is kept
  longer than the records.
- `series_policies`: which policies a series has usage of. `decisions`: which entries of `audit` speak of a charge,
  window or meter event that was released, discarded or refiled. `refiled`: charges that were put under the terms that
  their policy has now, and what they became; the old row of `records` stays, without a quantity.
- `trace_slices`, `trace_index`: in which second a trace has records, made in the background, slice by slice of time.
  A row of `trace_slices` with fewer than 0 records is being made.
- `books`, `traces` and `trace_*` but for the index: see `trace_schema.py`. `known_meters`: see `identity_schema.py`.
- `request_ids`: charges that carry the id of a request, and which of them counts (`flow/request_ids.py`).
- `left_windows`: where a charge was once counted that was taken back and then filed anew, in another commit, by which
  the range of commits of that window still begins or ends.
- `stream_batches`, `meter_events.batch`, `report_suspects`: see `stream_schema.py`.
- `pruning`: what a pass of pruning that has not ended yet has removed so far; its end is told in `audit`.
- `connections`: connected accounts, those that are over too. `connect_links`: links that `connect url` has made, and
  what became of each; a link is used once.
- `ingest_tokens`: the tokens that let companies in, see `ingest_schema.py`.
"""

from otel_usageflow.extensions.sqlite_storage.connect_schema import CONNECT_TABLES
from otel_usageflow.extensions.sqlite_storage.directory_schema import DIRECTORY_TABLES
from otel_usageflow.extensions.sqlite_storage.identity_schema import IDENTITY_TABLES
from otel_usageflow.extensions.sqlite_storage.stream_schema import STREAM_TABLES
from otel_usageflow.extensions.sqlite_storage.trace_schema import TRACE_TABLES

APPLICATION_ID = 0x75_66_6C_77  # "uflw"

_V1 = """
CREATE TABLE ledger (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  ledger_id TEXT NOT NULL,
  seq INTEGER NOT NULL
);
CREATE TABLE accounts (
  account_id INTEGER PRIMARY KEY,
  book TEXT NOT NULL,
  account TEXT NOT NULL,
  UNIQUE (book, account)
);
CREATE TABLE meters (
  meter_id INTEGER PRIMARY KEY,
  account_id INTEGER NOT NULL,
  event_name TEXT NOT NULL,
  UNIQUE (account_id, event_name)
);
CREATE TABLE origins (
  origin_id INTEGER PRIMARY KEY,
  policy TEXT NOT NULL,
  source TEXT NOT NULL,
  UNIQUE (policy, source)
);
CREATE TABLE series (
  series_id INTEGER PRIMARY KEY,
  meter_id INTEGER NOT NULL,
  metadata_field TEXT NOT NULL,
  user TEXT NOT NULL,
  payload TEXT NOT NULL,
  UNIQUE (user, metadata_field, meter_id, payload)
);
CREATE TABLE records (
  key BLOB PRIMARY KEY,
  series_id INTEGER NOT NULL,
  origin_id INTEGER NOT NULL,
  at_ns INTEGER NOT NULL,
  quantity,
  seq INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE stray_records (
  at_s INTEGER NOT NULL,
  key BLOB NOT NULL,
  PRIMARY KEY (at_s, key)
) WITHOUT ROWID;
CREATE TABLE open_windows (
  length INTEGER NOT NULL,
  start INTEGER NOT NULL,
  series_id INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  total NOT NULL,
  last_ns INTEGER NOT NULL,
  last_value NOT NULL,
  sealed INTEGER NOT NULL,
  PRIMARY KEY (length, start, series_id, first_seq)
) WITHOUT ROWID;
CREATE TABLE held_windows (
  series_id INTEGER NOT NULL,
  length INTEGER NOT NULL,
  start INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  total NOT NULL,
  last_ns INTEGER NOT NULL,
  last_value NOT NULL,
  reason TEXT NOT NULL,
  held_at REAL NOT NULL,
  PRIMARY KEY (series_id, length, start, first_seq)
) WITHOUT ROWID;
CREATE INDEX held_for_reason ON held_windows (reason, series_id);
CREATE TABLE windows (
  length INTEGER NOT NULL,
  start INTEGER NOT NULL,
  series_id INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  total NOT NULL,
  last_ns INTEGER NOT NULL,
  last_value NOT NULL,
  event_id INTEGER NOT NULL,
  PRIMARY KEY (length, start, series_id, first_seq)
) WITHOUT ROWID;
CREATE INDEX windows_of_event ON windows (event_id) WHERE event_id > 0;
CREATE TABLE meter_events (
  event_id INTEGER PRIMARY KEY AUTOINCREMENT,
  account_id INTEGER NOT NULL,
  event_name TEXT NOT NULL,
  customer TEXT NOT NULL,
  payload TEXT NOT NULL,
  value TEXT NOT NULL,
  timestamp INTEGER NOT NULL,
  identifier TEXT NOT NULL,
  idempotency_key TEXT NOT NULL,
  record_key BLOB,
  requests INTEGER NOT NULL,
  parts INTEGER NOT NULL,
  state INTEGER NOT NULL,
  uncertain INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  frozen_at REAL NOT NULL,
  first_attempt_at REAL,
  settled_at REAL,
  duplicate INTEGER NOT NULL DEFAULT 0,
  reason TEXT,
  code TEXT,
  message TEXT,
  request_id TEXT
);
CREATE INDEX unsettled_events ON meter_events (event_id) WHERE state IN (0, 1);
CREATE INDEX set_aside_events ON meter_events (state, event_id) WHERE state IN (3, 4);
CREATE INDEX events_of_record ON meter_events (record_key) WHERE record_key IS NOT NULL;
CREATE TABLE quarantine (
  key BLOB PRIMARY KEY,
  series_id INTEGER NOT NULL,
  origin_id INTEGER NOT NULL,
  at_ns INTEGER NOT NULL,
  quantity,
  reason TEXT NOT NULL,
  seen TEXT NOT NULL,
  quarantined_at REAL NOT NULL,
  resolved_at REAL,
  resolution TEXT
) WITHOUT ROWID;
CREATE INDEX unresolved_quarantine ON quarantine (key) WHERE resolved_at IS NULL;
CREATE TABLE server_spans (
  span BLOB PRIMARY KEY,
  parent BLOB NOT NULL,
  service TEXT NOT NULL,
  ended_s INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX server_spans_of_parent ON server_spans (parent) WHERE parent != x'';
CREATE TABLE customers (
  account_id INTEGER NOT NULL,
  field TEXT NOT NULL,
  value TEXT NOT NULL,
  customer TEXT NOT NULL,
  generation INTEGER NOT NULL,
  PRIMARY KEY (account_id, field, value, customer)
) WITHOUT ROWID;
CREATE INDEX values_of_customer ON customers (account_id, customer);
CREATE TABLE directories (
  account_id INTEGER NOT NULL,
  field TEXT NOT NULL,
  listed_at REAL NOT NULL,
  PRIMARY KEY (account_id, field)
) WITHOUT ROWID;
CREATE TABLE cursors (
  account_id INTEGER PRIMARY KEY,
  created REAL NOT NULL
);
"""

_V2 = (
    """
ALTER TABLE ledger ADD COLUMN pruned_to INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN copied_seq INTEGER NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN copied_at REAL NOT NULL DEFAULT 0;
ALTER TABLE meter_events ADD COLUMN part INTEGER NOT NULL DEFAULT 0;
UPDATE meter_events SET part = CAST(substr(identifier, instr(identifier, '_p') + 2) AS INTEGER)
  WHERE parts > 1 AND instr(identifier, '_p') > 0;
DROP INDEX set_aside_events;
CREATE INDEX set_aside_events ON meter_events (state, event_id) WHERE state IN (3, 4, 6, 7);
DROP INDEX windows_of_event;
CREATE INDEX windows_of_event ON windows (event_id);
CREATE TABLE answers (
  event_id INTEGER NOT NULL,
  number INTEGER NOT NULL,
  identifier TEXT NOT NULL,
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL,
  first_attempt_at REAL,
  settled_at REAL,
  duplicate INTEGER NOT NULL,
  reason TEXT,
  code TEXT,
  message TEXT,
  request_id TEXT,
  PRIMARY KEY (event_id, number)
) WITHOUT ROWID;
CREATE TABLE returned_windows (
  event_id INTEGER NOT NULL,
  length INTEGER NOT NULL,
  start INTEGER NOT NULL,
  series_id INTEGER NOT NULL,
  first_seq INTEGER NOT NULL,
  last_seq INTEGER NOT NULL,
  PRIMARY KEY (event_id, length, start, series_id, first_seq)
) WITHOUT ROWID;
CREATE TABLE released_events (
  event_id INTEGER PRIMARY KEY
);
CREATE TABLE adjustments (
  adjustment_id INTEGER PRIMARY KEY AUTOINCREMENT,
  account_id INTEGER NOT NULL,
  event_name TEXT NOT NULL,
  customer TEXT NOT NULL,
  quantity NOT NULL,
  timestamp INTEGER NOT NULL,
  corrects INTEGER,
  whole INTEGER NOT NULL,
  origin TEXT NOT NULL,
  why TEXT NOT NULL,
  actor TEXT NOT NULL,
  asked_at REAL NOT NULL,
  state TEXT NOT NULL,
  event_id INTEGER,
  attempts INTEGER NOT NULL DEFAULT 0,
  first_attempt_at REAL,
  last_attempt_at REAL,
  settled_at REAL,
  message TEXT
);
CREATE INDEX asked_adjustments ON adjustments (adjustment_id) WHERE settled_at IS NULL;
CREATE INDEX adjustments_of_event ON adjustments (corrects) WHERE corrects IS NOT NULL;
CREATE INDEX event_of_adjustment ON adjustments (event_id) WHERE event_id IS NOT NULL;
CREATE TABLE audit (
  entry INTEGER PRIMARY KEY,
  at REAL NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  subject TEXT NOT NULL,
  before TEXT NOT NULL,
  after TEXT NOT NULL,
  why TEXT NOT NULL,
  hash BLOB NOT NULL
);
CREATE TABLE error_reports (
  report TEXT NOT NULL,
  code TEXT NOT NULL,
  account_id INTEGER NOT NULL,
  event_name TEXT NOT NULL,
  message TEXT NOT NULL,
  validation_start REAL NOT NULL,
  validation_end REAL NOT NULL,
  errors INTEGER NOT NULL,
  samples INTEGER NOT NULL,
  ours INTEGER NOT NULL,
  found INTEGER NOT NULL,
  read_at REAL NOT NULL,
  settled_at REAL,
  PRIMARY KEY (report, code)
) WITHOUT ROWID;
CREATE INDEX open_reports ON error_reports (account_id) WHERE settled_at IS NULL;
CREATE TABLE error_samples (
  idempotency_key TEXT NOT NULL,
  report TEXT NOT NULL,
  code TEXT NOT NULL,
  event_id INTEGER NOT NULL,
  identifier TEXT NOT NULL,
  message TEXT NOT NULL,
  settled_at REAL,
  PRIMARY KEY (idempotency_key, report)
) WITHOUT ROWID;
CREATE INDEX open_samples ON error_samples (event_id) WHERE settled_at IS NULL;
CREATE INDEX events_by_time ON meter_events (timestamp);
CREATE TABLE report_cursors (
  account_id INTEGER PRIMARY KEY,
  created TEXT NOT NULL
);
CREATE TABLE reconciled (
  account_id INTEGER NOT NULL,
  event_name TEXT NOT NULL,
  customer TEXT NOT NULL,
  at REAL NOT NULL,
  since INTEGER NOT NULL,
  until INTEGER NOT NULL,
  difference NOT NULL,
  PRIMARY KEY (account_id, event_name, customer)
) WITHOUT ROWID;
CREATE TABLE daily (
  day INTEGER NOT NULL,
  series_id INTEGER NOT NULL,
  customer TEXT NOT NULL,
  requests INTEGER NOT NULL,
  total NOT NULL,
  PRIMARY KEY (day, series_id, customer)
) WITHOUT ROWID;
INSERT INTO daily
  SELECT w.start / 86400, w.series_id, coalesce(e.customer, ''), sum(w.requests), exact_total(w.total)
  FROM windows w LEFT JOIN meter_events e ON e.event_id = w.event_id
  WHERE w.requests > 0 AND (w.event_id IN (0, -1) OR e.parts = (SELECT count(*) FROM meter_events p
    WHERE p.state = 2 AND p.event_id BETWEEN e.event_id AND e.event_id + e.parts - 1))
  GROUP BY 1, 2, 3;
INSERT INTO daily
  SELECT e.timestamp / 86400, r.series_id, e.customer, count(*), exact_total(r.quantity)
  FROM meter_events e JOIN records r ON r.key = e.record_key
  WHERE e.part = 0 AND e.parts = (SELECT count(*) FROM meter_events p
    WHERE p.state = 2 AND p.event_id BETWEEN e.event_id AND e.event_id + e.parts - 1)
  GROUP BY 1, 2, 3
  ON CONFLICT (day, series_id, customer) DO UPDATE SET
    requests = requests + excluded.requests, total = exact_sum(total, excluded.total);
CREATE TABLE trace_slices (
  slice INTEGER PRIMARY KEY,
  records INTEGER NOT NULL,
  digest BLOB NOT NULL
);
CREATE TABLE trace_index (
  bucket INTEGER NOT NULL,
  slice INTEGER NOT NULL,
  entries BLOB NOT NULL,
  PRIMARY KEY (bucket, slice)
) WITHOUT ROWID;
CREATE TABLE pruning (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  cutoff INTEGER NOT NULL,
  first_event INTEGER NOT NULL,
  last_event INTEGER NOT NULL,
  events INTEGER NOT NULL,
  counts TEXT NOT NULL
);
CREATE TABLE series_policies (
  series_id INTEGER NOT NULL,
  policy TEXT NOT NULL,
  PRIMARY KEY (series_id, policy)
) WITHOUT ROWID;
INSERT INTO series_policies SELECT DISTINCT series_id, policy FROM records JOIN origins USING (origin_id);
CREATE TABLE decisions (
  subject NOT NULL,
  entry INTEGER NOT NULL,
  PRIMARY KEY (subject, entry)
) WITHOUT ROWID;
CREATE TABLE refiled (
  key BLOB PRIMARY KEY,
  became BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE request_ids (
  key BLOB PRIMARY KEY,
  request BLOB NOT NULL,
  same_as BLOB,
  quantity,
  check_sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX charges_of_request ON request_ids (request);
CREATE TABLE left_windows (
  at_ns INTEGER NOT NULL,
  series_id INTEGER NOT NULL,
  seq INTEGER NOT NULL,
  PRIMARY KEY (at_ns, series_id, seq)
) WITHOUT ROWID;
CREATE INDEX refused_for_reason ON meter_events (reason, account_id, customer) WHERE state = 3;
"""
    + TRACE_TABLES
)

_V3 = STREAM_TABLES + CONNECT_TABLES + DIRECTORY_TABLES + IDENTITY_TABLES

MIGRATIONS: tuple[str, ...] = (_V1, _V2, _V3)
"""Script number n takes a ledger from version n to n + 1."""
