"""One request on its way through the app: what is known of it, whichever part of the app finds out."""

import threading
from contextvars import ContextVar
from decimal import Decimal

from otel_usageflow.sdk.record import Value
from otel_usageflow.sdk.request import Request
from otel_usageflow.sdk.user import FindUser, as_user

_LOCK = threading.Lock()


class Visit:
    """A request, from its entry to the end of its SERVER span."""

    __slots__ = ("ended", "find_user", "mistakes", "request", "route", "span_id", "sums", "user")

    def __init__(self, request: Request | None = None, find_user: FindUser | None = None) -> None:
        self.request = request
        """Absent where there is no middleware of ours, only the span processor."""
        self.find_user = find_user
        self.user: str | None = None
        self.route: str | None = None
        self.span_id: int | None = None
        """The SERVER span that an instrumentation has started for it."""
        self.sums: dict[str, int | Decimal | None] = {}
        """None for what was not all numbers: a sum of the rest would bill too little."""
        self.mistakes: list[str] = []
        self.ended = False

    def added(self) -> dict[str, Value]:
        """What `add` has summed, as attributes: decimals as text, because a float is not exact."""
        return {
            key: value if isinstance(value, int) else format(value, "f")
            for key, value in self.sums.items()
            if value is not None
        }


CURRENT: ContextVar[Visit | None] = ContextVar("otel_usageflow_visit", default=None)


def current() -> Visit | None:
    """The request that is being served here."""
    visit = CURRENT.get()
    return None if visit is None or visit.ended else visit


def set_user(user: str | int | None) -> None:
    """Say who the current request belongs to, for example after authentication; the last call counts.

    It goes before the `user` that was given to `install`. Outside of a request it does nothing. What is no text is
    nobody, and counted in `Stats.mistakes`.
    """
    visit = current()
    if visit is None:
        return
    try:
        visit.user = as_user(user)
    except TypeError as error:
        visit.user = None
        visit.mistakes.append(f"set_user: {error}")


def add(attribute: str, number: int | Decimal) -> None:
    """Add to a quantity of the current request, which policies read as `quantity: {attribute: ...}`.

    Works from anywhere within the request, also under a span of one's own. Outside of a request it does nothing. A
    float is not exact and so no quantity: the request goes out without the attribute, and is kept as `bad_quantity`.
    """
    visit = current()
    if visit is None:
        return
    with _LOCK:
        before = visit.sums.get(attribute, 0)
        if isinstance(number, bool) or not isinstance(number, int | Decimal):
            visit.mistakes.append(f"add: a quantity is an int or a Decimal, not {type(number).__name__}")
            visit.sums[attribute] = None
        elif before is not None:
            visit.sums[attribute] = before + number
