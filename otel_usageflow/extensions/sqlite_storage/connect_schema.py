"""The tables of version 3: connected accounts and ingest tokens."""

CONNECT_TABLES = ""
