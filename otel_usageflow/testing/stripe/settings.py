"""What a test may choose about the double, all of it changeable while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

DAY = 86_400

Duplicates = Literal["refuse", "ignore"]
Validation = Literal["synchronous", "asynchronous"]
AdjustmentStatus = Literal["complete", "pending"]
ReportRequest = Literal["identifier", "id_and_key"]
AccountAccess = Literal["automatic", "any", "connected"]
Consent = Literal["page", "approve", "deny"]
WebhookOrder = Literal["sent", "shuffled"]


@dataclass(slots=True)
class RateLimits:
    """Calls per second and account; None switches a limit off.

    The buckets hold one second's worth. Source: docs.stripe.com/rate-limits, live mode.
    """

    meter_events: float | None = 1_000
    """Only for calls without `Stripe-Account`; acting for a connected account counts as basic."""
    stream: float | None = 10_000
    """Calls of the stream."""
    basic: float | None = 100
    search: float | None = 20
    """In addition to basic."""
    all_basic: bool = False
    """Whether meter events and the stream have no bucket of their own."""
    endpoint: float | None = None
    """Calls of any one endpoint, in addition to basic, but for meter events and the stream. Stripe documents 25."""
    stream_events: float | None = None
    """Events of the stream, in addition to its calls: one page of Stripe's says that 10,000 are calls, another that
    they are events."""

    @classmethod
    def off(cls) -> "RateLimits":
        """No limits at all."""
        return cls(None, None, None, None)

    @classmethod
    def sandbox(cls) -> "RateLimits":
        """Those of a sandbox, where meter events and the stream count as basic."""
        return cls(meter_events=None, stream=None, basic=25, search=20, all_basic=True)

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set some limits by name; all of them, or none.

        Raises:
            ValueError: there is no such limit, or the value is none for it.
        """
        known = {item.name for item in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"no limit is called {name}; there are: {', '.join(sorted(known))}")
            right = isinstance(value, bool) if name == "all_basic" else value is None or _fits(name, value, float)
            if not right:
                words = "true or false" if name == "all_basic" else "a number of calls a second, or null for none"
                raise ValueError(f"{name} cannot be {value!r}; it is {words}")
        for name, value in changes.items():
            setattr(self, name, value)


@dataclass(slots=True)
class Settings:
    """How this Stripe behaves where Stripe's documentation leaves a choice, or a test wants one."""

    limits: RateLimits = field(default_factory=RateLimits)
    latency: float = 0.002
    """Real seconds that a meter event is in flight. Above 0, because otherwise no two calls ever overlap and a
    sender that breaks the rule of one call per customer and meter would go unnoticed."""
    duplicates: Duplicates = "refuse"
    """What a known identifier meets: status 400, or a 200 that counts nothing."""
    store_refusals: bool = True
    """Whether an idempotency key replays a 400 that came from the account's state (no meter, no customer, duplicate,
    nothing to cancel).
    What fails as a parameter is never stored."""
    identifier_memory: float = DAY
    """Seconds after which an identifier is forgotten, and a resend is counted again."""
    idempotency_memory: float = DAY
    """Seconds after which an idempotency key is forgotten."""
    idempotency_memory_v2: float = 30 * DAY
    """The same for keys of `/v2`."""
    session_life: float = 900
    """Seconds that a token of the stream is good for."""
    search_lag: float = 0
    """Seconds until search sees a change."""
    events_lag: float = 0
    """Seconds until `/v1/events` shows an event."""
    summary_lag: float = 0
    """Seconds until summaries include a meter event, and until they miss a cancelled one."""
    adjustment_status: AdjustmentStatus = "complete"
    """What the answer to a cancellation says of it."""
    validation: Validation = "synchronous"
    """Whether a meter event's meter, customer, value and timestamp are judged at once (400), or after a 200, in an
    error report of `/v2/core/events`. Parameters and known identifiers are judged at once either way."""
    reserve_rejected: bool = True
    """Whether the identifier of an event that was rejected after its 200 stays taken."""
    report_delay: float = 0
    """Seconds between the end of a report's 10 seconds and its appearance; for reports that begin from now on."""
    report_samples: int = 10
    """How many samples a report shows for each code at the most; its counts tell of all."""
    report_request: ReportRequest = "identifier"
    """How a sample names its request, two ways being documented: `{"identifier": KEY}`, or `{"id": "",
    "idempotency_key": KEY}`. KEY is the idempotency key either way, empty if there was none."""
    report_list_data: bool = False
    """Whether the list of `/v2/core/events` shows `data` already, or only an event fetched by its id does."""
    read_allocation: int = 0
    """GET calls that an account has within 30 days before further ones are a 429; 0 counts them only."""
    account_access: AccountAccess = "automatic"
    """Which accounts the platform's keys may act for: any, those that are connected, or (automatic) any as long as
    none was ever connected."""
    consent: Consent = "page"
    """What a link of OAuth leads to: a page with two links, or straight back with the merchant's yes or no."""
    date_skew: float = 0
    """Seconds by which the header `Date` is ahead of the double's clock; less than 0, behind."""
    webhook_retry_delay: float = 60
    """Seconds by the clock after which a webhook that failed comes again; twice as many the next time, and so on."""
    webhook_timeout: float = 10
    """Real seconds in which a webhook must be answered."""
    webhook_order: WebhookOrder = "sent"
    """Whether webhooks arrive in the order of events, or shuffled, which Stripe allows itself."""
    keep_calls: int = 10_000
    """How many of the last calls are remembered, with headers and form; fewer when they are large batches."""

    def change(self, changes: Mapping[str, Any]) -> None:
        """Set some of the plain settings (all but `limits` and `keep_calls`) by name; all of them, or none.

        Raises:
            ValueError: there is no such setting, or the value is none for it.
        """
        hints = get_type_hints(type(self))
        for name, value in changes.items():
            if name not in SETTABLE:
                raise ValueError(f"no setting is called {name}; there are: {', '.join(SETTABLE)}")
            if not _fits(name, value, hints[name]):
                raise ValueError(f"{name} cannot be {value!r}; it is {_words(hints[name])}")
        for name, value in changes.items():
            setattr(self, name, value)


SETTABLE = tuple(item.name for item in fields(Settings) if item.name not in ("limits", "keep_calls"))


def _fits(name: str, value: Any, hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is bool or isinstance(value, bool):
        return hint is bool and isinstance(value, bool)
    return isinstance(value, int | float if hint is float else hint) and (value >= 0 or name == "date_skew")


def _words(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return " or ".join(get_args(hint))
    return {bool: "true or false", int: "a whole number from 0", float: "a number from 0"}[hint]
