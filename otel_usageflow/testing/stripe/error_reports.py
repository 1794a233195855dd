"""Error reports about meter events: one for each meter and 10 seconds in which events were rejected.

Source: docs.stripe.com, recording-usage-api; shapes of `stripe.events` of the client.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.ids import new_id
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.moments import rfc3339
from otel_usageflow.testing.stripe.rejections import Rejected
from otel_usageflow.testing.stripe.settings import DAY, Settings
from otel_usageflow.testing.stripe.webhook_endpoints import Notice

WINDOW = 10
KEPT = 30 * DAY

ReportType = Literal["v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found"]
ERROR_REPORT: ReportType = "v1.billing.meter.error_report_triggered"
NO_METER_FOUND: ReportType = "v1.billing.meter.no_meter_found"


@dataclass(slots=True, eq=False)
class Report:
    """One report: what was rejected for one meter (or for want of one) in one window."""

    id: str
    meter_id: str | None
    start: int
    """Of the window, unix seconds, a multiple of 10."""
    created: float
    """When it appears; a whole number of milliseconds."""
    livemode: bool
    account: str | None
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def type(self) -> ReportType:
        """Which of the two events it is."""
        return NO_METER_FOUND if self.meter_id is None else ERROR_REPORT

    def notice(self) -> JsonObject:
        """The thin event: what a webhook would carry, and what a list shows at the least."""
        related = None
        if self.meter_id is not None:
            url = f"/v1/billing/meters/{self.meter_id}"
            related = {"id": self.meter_id, "type": "billing.meter", "url": url}
        return {
            "id": self.id,
            "object": "v2.core.event",
            "type": self.type,
            "livemode": self.livemode,
            "created": rfc3339(self.created),
            "context": self.account,
            "reason": None,
            "related_object": related,
        }

    def whole(self, settings: Settings) -> JsonObject:
        """The full event, with its `data`."""
        by_code: dict[str, list[Rejected]] = {}
        for event in self.rejected:
            by_code.setdefault(event.code, []).append(event)
        count = len(self.rejected)
        summary = "There is 1 invalid event" if count == 1 else f"There are {count} invalid events"
        error_types = [
            {
                "code": code,
                "error_count": len(events),
                "sample_errors": [_sample(event, settings) for event in events[: settings.report_samples]],
            }
            for code, events in by_code.items()
        ]
        return self.notice() | {
            "data": {
                "developer_message_summary": summary,
                "validation_start": rfc3339(self.start),
                "validation_end": rfc3339(self.start + WINDOW),
                "reason": {"error_count": count, "error_types": error_types},
            }
        }


def _sample(event: Rejected, settings: Settings) -> JsonObject:
    key = event.idempotency_key or ""
    request = {"identifier": key} if settings.report_request == "identifier" else {"id": "", "idempotency_key": key}
    return {"error_message": event.message, "request": request}


class Reports:
    """The reports of one account.

    Args:
        account: goes into `context`, so that the client fetches the event from where it was found.
        publish: told about every new one, for webhooks.
    """

    def __init__(
        self,
        clock: Clock,
        settings: Settings,
        account: str | None,
        livemode: bool,
        publish: Callable[[Notice], None],
    ) -> None:
        self._clock, self._settings, self._account, self._livemode = clock, settings, account, livemode
        self._publish = publish
        self._open: dict[tuple[str | None, int], Report] = {}
        self.all: list[Report] = []

    def add(self, event: Rejected) -> None:
        """Put a rejected event into the report of its meter and window."""
        start = int(event.received) // WINDOW * WINDOW
        report = self._open.get((event.meter_id, start))
        if report is None:
            created = round(start + WINDOW + self._settings.report_delay, 3)
            report = Report(new_id("evt", 24), event.meter_id, start, created, self._livemode, self._account)
            self.restore(report)
            account, mode = self._account, self._livemode
            self._publish(Notice(report.id, report.type, "thin", account, account, mode, created, report.notice))
        report.rejected.append(event)

    def restore(self, report: Report) -> None:
        """Add a report that exists already."""
        self._open[report.meter_id, report.start] = report
        self.all.append(report)

    def visible(self, keep: Callable[[Report], bool] = lambda _report: True) -> list[Report]:
        """What has appeared and is at most 30 days old, newest first."""
        now = self._clock.now()
        shown = [report for report in self.all if 0 <= now - report.created <= KEPT and keep(report)]
        return sorted(shown, key=lambda report: (report.created, report.id), reverse=True)
