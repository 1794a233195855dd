from collections.abc import Callable

from otel_usageflow.model.attributes import Found
from otel_usageflow.model.spans import ReadSpan

class Reader:
    def __new__(cls, keys: tuple[str, ...], search: Callable[[list[bytes]], Found], /) -> Reader: ...
    def read(self, payload: bytes, /) -> list[tuple[list[bytes], list[tuple[bytes, list[ReadSpan]]]]] | None: ...
