"""Reading the spans of an export request, with the attributes that are wanted.

Compiled where there was a compiler when the package was installed, else in plain Python; both read the same.
"""

import os
from typing import Final

from otel_usageflow.model.attributes import Wanted
from otel_usageflow.model.plain_reader import Resources, read_plainly

try:
    from otel_usageflow.model import _reader
except ImportError:
    COMPILED = False
else:
    COMPILED = os.environ.get("OTEL_USAGEFLOW_PLAIN", "") != "1"

_LONGEST_KEY: Final = 127


class Reader:
    """Reads requests, and notes of each SERVER span where the attributes with wanted keys stand.

    Args:
        wanted: the keys.
        compiled: whether to use the compiled reader; needs `COMPILED`.
    """

    __slots__ = ("_fast", "_wanted")

    def __init__(self, wanted: Wanted, *, compiled: bool = COMPILED) -> None:
        self._wanted = wanted
        keys = tuple(sorted(key for key in wanted.keys if len(key.encode()) <= _LONGEST_KEY))
        self._fast = _reader.Reader(keys, wanted.search) if compiled else None

    def read(self, payload: bytes) -> Resources:
        """What one or several concatenated `ExportTraceServiceRequest` hold.

        Raises:
            InvalidData: the payload is no such message.
        """
        read = self._fast.read(payload) if self._fast is not None else None
        return read_plainly(payload, self._wanted) if read is None else read
