"""Reads what Stripe reports late: a 200 says that an event was received, an error report that it was not counted.

Source: `/v2/core/events` with `v1.billing.meter.error_report_triggered` and `v1.billing.meter.no_meter_found`
(docs.stripe.com, recording-usage-api). Samples name requests by their idempotency key.
"""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import stripe
import structlog

from otel_usageflow.errors import Unavailable
from otel_usageflow.exporters.stripe_meter.answers import explained, is_no_access, what_happened
from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.doubts import REMEDY_REJECTED
from otel_usageflow.exporters.stripe_meter.rhythm import Rhythm
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure, UnexpectedAnswer
from otel_usageflow.ledger.doubt import Doubts, ErrorReport, ErrorSample

_log = structlog.get_logger(__name__)

_OVERLAP = 600.0
"""Seconds before the last report that are read again: reports may appear out of order."""
_OLDEST = 29 * 86_400.0
"""Stripe lists 30 days."""

_MOST_AT_ONCE = 200
"""Reports that are taken in one go, oldest first: each is a read of its own."""


class Reports:
    """Follows the error reports of one account.

    Args:
        event_names: meter id -> event name, as they are known now.
        sent: how many events Stripe has taken since the start.
        now: unix seconds.
    """

    def __init__(
        self,
        api: StripeApi,
        ledger: Doubts,
        account: str,
        event_names: Callable[[], Mapping[str, str]],
        sent: Callable[[], int],
        now: Callable[[], float],
        rhythm: Rhythm,
    ) -> None:
        self._api = api
        self._ledger = ledger
        self._account = account
        self._event_names = event_names
        self._sent = sent
        self._now = now
        self._rhythm = rhythm
        self._read_at: float | None = None
        self._next_read = now()
        self._soon_until: float | None = None
        self._forbidden = False
        self._failures = 0
        self._seen: dict[str, float] = {}
        self._samples_open = True

    def are_read(self) -> bool:
        """Whether it is known what Stripe reported until a moment ago, or cannot be known."""
        if self._forbidden:
            return True
        return self._read_at is not None and self._now() - self._read_at <= 2 * self._rhythm.reports_idle

    def read_soon(self) -> None:
        """There is something to read: a webhook says so."""
        self._next_read = min(self._next_read, self._now())

    async def follow(self) -> None:
        """Read and apply reports until cancelled."""
        while True:
            if self._soon_until is None and self._sent():
                self._soon_until = self._now() + self._rhythm.soon_for
                self._next_read = min(self._next_read, self._now() + self._rhythm.reports_soon)
            try:
                if self._now() >= self._next_read:
                    await self._read()
                if self._samples_open:
                    await self._apply()
            except Unavailable as error:
                _log.warning("ledger_unavailable", error=str(error))
            await asyncio.sleep(self._rhythm.tick)

    async def _read(self) -> None:
        began = self._now()
        try:
            complete = await self._read_all()
        except StripeFailure as error:
            self._failures += 1
            self._tell_failure(error)
            quickly = self._rhythm.reports_soon * 2**self._failures
            pause = self._rhythm.reports_idle if self._forbidden else min(quickly, self._rhythm.reports_idle)
        else:
            if self._failures:
                _log.info("error_reports_readable_again", account=self._account or "own")
            self._failures, self._forbidden = 0, False
            soon = self._soon_until is not None and began < self._soon_until
            pause = self._rhythm.reports_soon if soon else self._rhythm.reports_idle
            if complete:
                self._read_at = began
            else:
                pause = 0.0  # nobody may rest on what is read while the rest waits
        self._next_read = began + pause

    def _tell_failure(self, error: BaseException) -> None:
        forbidden = isinstance(error, stripe.PermissionError) and not is_no_access(error)
        if forbidden and not self._forbidden:
            _log.error(
                "error_reports_forbidden",
                account=self._account or "own",
                why=what_happened(error),
                meaning="what Stripe takes and does not count is not noticed",
                remedy="give the key the permission to read events (event_read)",
            )
        elif not forbidden and self._failures == 1:
            _log.warning("error_reports_not_readable", account=self._account or "own", why=explained(error))
        self._forbidden = forbidden

    async def _read_all(self) -> bool:
        """Take what is new; False if there is more of it than is taken in one go."""
        now = self._now()
        cursor = await self._ledger.report_cursor(self._account)
        latest = _moment(cursor) if cursor is not None else now
        since = max(latest - _OVERLAP, now - _OLDEST)
        found: list[Mapping[str, Any]] = []
        async for page in self._api.error_reports(self._account, rfc3339(since)):
            found.extend(page)
        new = [facts for facts in found if facts["id"] not in self._seen]
        for facts in sorted(new, key=lambda event: _moment(event["created"]))[:_MOST_AT_ONCE]:
            await self._take(facts)
        self._seen = {name: created for name, created in self._seen.items() if created >= since}
        return len(new) <= _MOST_AT_ONCE

    async def _take(self, facts: Mapping[str, Any]) -> None:
        if facts.get("data") is None:
            facts = await self._api.error_report(self._account, facts["id"])
        try:
            reports = error_reports_of(facts, self._event_names())
            created = _moment(facts["created"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UnexpectedAnswer(f"the report {facts.get('id')} cannot be read: {error!r}") from error
        read = await self._ledger.take_reports(self._account, reports, facts["created"], self._now())
        self._seen[facts["id"]] = created
        if read.ours:
            self._samples_open = True
        if read.others:
            _log.info(
                "errors_of_other_programs", account=self._account or "own", report=facts["id"], samples=read.others
            )
        if read.more:
            _log.warning(
                "error_report_names_not_all",
                account=self._account or "own",
                report=facts["id"],
                meaning="Stripe shows only some of what it has not counted; summaries are asked for the rest",
            )

    async def _apply(self) -> None:
        rejected, left = await self._ledger.apply_reports(self._account, self._now())
        self._samples_open = left
        for one in rejected:
            _log.error(
                "meter_event_rejected_later",
                account=self._account or "own",
                event_name=one.event_name,
                identifier=one.identifier,
                code=one.code,
                why=one.message,
                remedy=REMEDY_REJECTED,
            )


def error_reports_of(facts: Mapping[str, Any], event_names: Mapping[str, str]) -> list[ErrorReport]:
    """The reports in one whole event of `/v2/core/events`, one for each code."""
    data = facts["data"]
    meter = (facts.get("related_object") or {}).get("id")
    return [
        ErrorReport(
            report=facts["id"],
            code=str(kind["code"]),
            event_name=event_names.get(meter, "") if meter else "",
            message=str(data.get("developer_message_summary") or ""),
            validation_start=_moment(data["validation_start"]),
            validation_end=_moment(data["validation_end"]),
            errors=int(kind["error_count"]),
            samples=tuple(map(_sample, kind.get("sample_errors") or ())),
        )
        for kind in data["reason"]["error_types"]
        if not _about_duplicates(str(kind["code"]))
    ]


def _about_duplicates(code: str) -> bool:
    """Whether it only says that an event was there already. No code for that is documented; v2 has one elsewhere."""
    return "duplicate" in code


def rfc3339(moment: float) -> str:
    """Unix seconds as v2 writes them."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sample(facts: Mapping[str, Any]) -> ErrorSample:
    request = facts.get("request") or {}  # documented in two shapes
    key = request.get("idempotency_key") or request.get("identifier") or ""
    return ErrorSample(str(key), str(facts.get("error_message") or ""))


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
