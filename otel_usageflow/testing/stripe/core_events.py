"""`/v2/core/events`: the error reports, as the v2 API lists and shows them (docs.stripe.com/api/v2/core/events)."""

import base64
import binascii
import urllib.parse
from collections.abc import Mapping
from typing import Any

from otel_usageflow.testing.stripe.error_reports import Report, Reports
from otel_usageflow.testing.stripe.failures import StripeFailure, invalid
from otel_usageflow.testing.stripe.message import JsonObject, Pairs
from otel_usageflow.testing.stripe.moments import moment
from otel_usageflow.testing.stripe.params import Param, Reader, integer, shape, text, text_list
from otel_usageflow.testing.stripe.settings import Settings

PATH = "/v2/core/events"


_BOUNDS: Reader = shape(**{bound: Param(moment) for bound in ("gt", "gte", "lt", "lte")})
LIST = {
    "created": Param(_BOUNDS),
    "limit": Param(integer(1, 100)),
    "object_id": Param(text()),
    "types": Param(text_list(20)),
}
PAGE = {"page": Param(text())}
"""Not among the client's parameters: it follows `next_page_url`."""
RETRIEVE: Mapping[str, Param] = {}


def list_events(reports: Reports, settings: Settings, params: Mapping[str, Any], pairs: Pairs) -> JsonObject:
    """One page, newest first.

    Args:
        pairs: the parameters as they were sent, for the addresses of the pages before and after.

    Raises:
        StripeFailure: 400, the page is none that was given out.
    """
    types, bounds, about = params.get("types"), params.get("created", {}), params.get("object_id")

    def keep(report: Report) -> bool:
        return (
            (not types or report.type in types)
            and (about is None or report.meter_id == about)
            and _within(report.created, bounds)
        )

    shown = reports.visible(keep)
    limit: int = params.get("limit", 10)
    first = _first(shown, params.get("page"), limit)
    part = shown[first : first + limit]
    more = first + limit < len(shown)
    return {
        "data": [report.whole(settings) if settings.report_list_data else report.notice() for report in part],
        "next_page_url": _url(pairs, "after", part[-1]) if part and more else None,
        "previous_page_url": _url(pairs, "before", part[0]) if part and first else None,
    }


def retrieve(reports: Reports, settings: Settings, identity: str) -> JsonObject:
    """One whole event.

    Raises:
        StripeFailure: 404, there is none, not yet, or no longer.
    """
    for report in reports.visible(lambda report: report.id == identity):
        return report.whole(settings)
    raise StripeFailure(404, f"No such event: {identity}", code="not_found")


def _within(created: float, bounds: Mapping[str, float]) -> bool:
    return (
        bounds.get("gte", created) <= created <= bounds.get("lte", created)
        and ("gt" not in bounds or created > bounds["gt"])
        and ("lt" not in bounds or created < bounds["lt"])
    )


def _url(pairs: Pairs, side: str, report: Report) -> str:
    token = base64.urlsafe_b64encode(f"{side} {report.created!r} {report.id}".encode()).decode().rstrip("=")
    kept = [(name, value) for name, value in pairs if name != "page"]
    return f"{PATH}?{urllib.parse.urlencode([*kept, ('page', token)])}"


def _first(shown: list[Report], page: str | None, limit: int) -> int:
    """Where a page begins. It is found by place in time, so that a report that appears meanwhile shifts nothing."""
    if page is None:
        return 0
    try:
        side, created, identity = base64.urlsafe_b64decode(page + "=" * (-len(page) % 4)).decode().split(" ")
        place = (float(created), identity)
    except (binascii.Error, ValueError):
        raise invalid("The page is none that this list has given out.", "page") from None
    newer = sum((report.created, report.id) > place for report in shown)
    if side == "before":
        return max(0, newer - limit)
    return newer + sum((report.created, report.id) == place for report in shown)
