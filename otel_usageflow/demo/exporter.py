"""The SDK's OTLP exporter, with what happens on bad days: some batches are sent again, and none is given up.

In production this is a Collector with `retry_on_failure` and a persistent queue, or an SDK whose acknowledgement was
lost on the way. What was sent is also recorded, for `otel-usageflow preview`.
"""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.trace import SpanKind

EVERY = 3
"""One in so many batches is sent again although it was acknowledged."""
PATIENCE = 60.0  # seconds
_PAUSE = 0.2  # seconds


class Acknowledged(NamedTuple):
    """One batch that the service has taken."""

    spans: int
    requests: int
    """The SERVER spans among them."""
    again: bool
    """Whether it was sent once more afterwards."""


class PersistentExporter(OTLPSpanExporter):
    """Sends each batch until it is acknowledged, and every third once more.

    Args:
        record: a file to which every acknowledged batch is appended, once.
        tell: is called after every batch.
    """

    def __init__(self, record: Path, tell: Callable[[Acknowledged], None]) -> None:
        super().__init__()
        self._record = record
        self._tell = tell
        self._batches = 0
        self._one_at_a_time = threading.Lock()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; FAILURE only after a minute without success."""
        with self._one_at_a_time:
            return self._export_patiently(spans)

    def _export_patiently(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        deadline = time.monotonic() + PATIENCE
        while not self._attempt(spans):
            if time.monotonic() > deadline:
                return SpanExportResult.FAILURE
            time.sleep(_PAUSE)
        self._batches += 1
        again = self._batches % EVERY == 0 and self._attempt(spans)
        with self._record.open("ab") as file:
            file.write(encode_spans(spans).SerializeToString())
        requests = sum(span.kind is SpanKind.SERVER for span in spans)
        self._tell(Acknowledged(len(spans), requests, again))
        return SpanExportResult.SUCCESS

    def _attempt(self, spans: Sequence[ReadableSpan]) -> bool:
        try:
            return super().export(spans) is SpanExportResult.SUCCESS
        except OSError:  # what older versions raise when nobody listens
            return False
