"""The first 100 bytes of an SQLite file: what they must be in a ledger, so that damage there costs nothing.

Source: "Database File Format", section 1.3, of SQLite's documentation.
"""

import struct

from otel_usageflow.extensions.sqlite_storage.schema import APPLICATION_ID, MIGRATIONS

_MAGIC = b"SQLite format 3\0"
_PAGE_SIZE = 4096


def repaired(header: bytes, size: int) -> bytes:
    """The header of a ledger whose file has `size` bytes, with what can be known; the rest as it is."""
    fixed = bytearray(header.ljust(100, b"\0"))
    fixed[0:16] = _MAGIC
    struct.pack_into(">H", fixed, 16, _PAGE_SIZE)
    fixed[18:24] = bytes((1, 1, 0, 64, 32, 32))  # no write-ahead log: the file is read by itself
    changes = fixed[24:28]
    struct.pack_into(">I", fixed, 28, size // _PAGE_SIZE)
    struct.pack_into(">I", fixed, 32, 0)  # without a list of free pages, which reading does not need
    struct.pack_into(">I", fixed, 36, 0)
    struct.pack_into(">I", fixed, 44, 4)
    struct.pack_into(">I", fixed, 56, 1)  # UTF-8
    struct.pack_into(">I", fixed, 60, len(MIGRATIONS))
    struct.pack_into(">I", fixed, 68, APPLICATION_ID)
    fixed[72:92] = bytes(20)
    fixed[92:96] = changes
    return bytes(fixed)
