"""The compiled reader of spans and its plain twin, asked the same."""

import copy
from collections.abc import Sequence
from typing import Any, Final

from otel_usageflow.errors import InvalidData, Unavailable
from otel_usageflow.model.attributes import Wanted
from otel_usageflow.model.plain_reader import Resources
from otel_usageflow.model.reader import Reader
from otel_usageflow.model.spans import SERVER, ReadSpan
from otel_usageflow.model.usage import UsageBatch
from otel_usageflow.policy.engine import PolicyEngine

FIELDS: Final = (
    *("trace_id", "span_id", "trace_state", "parent_span_id", "kind", "start_time_unix_nano", "end_time_unix_nano"),
    *("dropped_attributes_count", "flags", "attributes", "valid"),
)


class Twins:
    """Both readers of the same keys."""

    def __init__(self, keys: frozenset[str]) -> None:
        self.keys = keys
        wanted = Wanted(keys)
        self.compiled, self.plain = (Reader(wanted, compiled=compiled) for compiled in (True, False))

    def check(self, payload: bytes) -> int:
        """Assert that both read the same; return how many spans were read, -1 for an invalid request."""
        read, expected = _read(self.compiled, payload), _read(self.plain, payload)
        if read is None or expected is None:
            assert read is expected
            return -1
        assert _shape(read) == _shape(expected)
        spans = [span for _, scopes in read for _, spans in scopes for span in spans]
        for span, twin in zip(spans, (s for _, scopes in expected for _, each in scopes for s in each), strict=True):
            assert [getattr(span, name) for name in FIELDS] == [getattr(twin, name) for name in FIELDS]
            assert _found(span) == _found(twin)
        self._check_said([span for span in spans if span.kind == SERVER])
        return len(spans)

    def _check_said(self, spans: Sequence[ReadSpan]) -> None:
        """Spans that say the same under some keys have the same attributes there."""
        for group in (self.keys, frozenset(sorted(self.keys)[::2]), frozenset[str]()):
            by_said: dict[Any, Any] = {}
            for span in spans:
                said = span.said(group)
                if said is not None:
                    found = {key: raw for key, raw in span.find().items() if key in group}
                    assert by_said.setdefault(said, found) == found


def _read(reader: Reader, payload: bytes) -> Resources | None:
    try:
        return reader.read(payload)
    except InvalidData:
        return None


def _shape(read: Resources) -> list[Any]:
    return [(list(attributes), [(name, len(spans)) for name, spans in scopes]) for attributes, scopes in read]


def _found(span: ReadSpan) -> Any:
    try:
        return span.find()
    except InvalidData:
        return InvalidData


def plainly(engine: PolicyEngine) -> PolicyEngine:
    """The same policies, with the plain reader."""
    other = copy.copy(engine)
    other._reader = Reader(Wanted(engine.span_keys), compiled=False)
    return other


def judged(engine: PolicyEngine, payload: bytes, now_ns: int) -> UsageBatch | type[Exception]:
    """What the policies say, or which error they raise."""
    try:
        return engine.evaluate(payload, now_ns)
    except (InvalidData, Unavailable) as error:
        return type(error)
