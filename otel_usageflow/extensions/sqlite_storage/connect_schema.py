"""The tables of version 3: connected accounts and ingest tokens."""

from otel_usageflow.extensions.sqlite_storage.ingest_schema import INGEST_TABLES

CONNECT_TABLES = (
    """
CREATE TABLE connections (
  book TEXT NOT NULL,
  account TEXT NOT NULL,
  kind TEXT NOT NULL,
  scope TEXT NOT NULL,
  state TEXT NOT NULL,
  connected_at REAL NOT NULL,
  changed_at REAL NOT NULL,
  actor TEXT NOT NULL,
  revoked INTEGER NOT NULL,
  sealed BLOB NOT NULL,
  renew_at REAL NOT NULL,
  renewing INTEGER NOT NULL,
  PRIMARY KEY (book, account)
) WITHOUT ROWID;
CREATE TABLE connect_links (
  nonce BLOB PRIMARY KEY,
  book TEXT NOT NULL,
  made_at REAL NOT NULL,
  expires_at REAL NOT NULL,
  actor TEXT NOT NULL,
  account TEXT NOT NULL,
  outcome TEXT NOT NULL,
  became TEXT NOT NULL,
  code BLOB NOT NULL DEFAULT x''
) WITHOUT ROWID;
CREATE INDEX taken_links ON connect_links (book) WHERE outcome = 'taken';
CREATE INDEX exchanged_codes ON connect_links (code) WHERE code != x'';
"""
    + INGEST_TABLES
)
"""`sealed` is encrypted with the exporter's `connect::encryption_key`, and empty where nothing needs to be kept.
`code` is the SHA-256 of the code with which a link was taken."""
