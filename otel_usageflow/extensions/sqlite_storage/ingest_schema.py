"""The table of version 3 for ingest tokens; `ledger/ingest_tokens.py` says what they are.

`changed` grows with each token that is made or revoked; `check_sum` is over the columns that never change.
"""

INGEST_TABLES = """
CREATE TABLE ingest_tokens (
  token_id TEXT PRIMARY KEY,
  digest BLOB NOT NULL UNIQUE,
  name TEXT NOT NULL,
  book TEXT NOT NULL,
  account TEXT NOT NULL,
  created_at REAL NOT NULL,
  expires_at REAL,
  revoked_at REAL,
  used_at REAL,
  changed INTEGER NOT NULL,
  check_sum INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX changes_of_ingest_tokens ON ingest_tokens (changed);
"""
