"""The tables of version 3: what was sent in one call of the stream."""

STREAM_TABLES = ""
