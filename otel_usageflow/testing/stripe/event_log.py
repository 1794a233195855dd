"""`/v1/events`: what changed, kept for 30 days (docs.stripe.com/api/events)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.failures import invalid, missing_resource
from otel_usageflow.testing.stripe.ids import new_id
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.paging import page
from otel_usageflow.testing.stripe.params import EXPAND, PAGING, Param, choice, moments, text, text_list
from otel_usageflow.testing.stripe.settings import DAY, Settings
from otel_usageflow.testing.stripe.webhook_endpoints import Notice

KEPT = 30 * DAY

LIST = PAGING | {
    "type": Param(text()),
    "types": Param(text_list(20)),
    "created": Param(moments),
    "delivery_success": Param(choice("true", "false")),
}
RETRIEVE = EXPAND


@dataclass(frozen=True, slots=True, eq=False)
class LoggedEvent:
    """One snapshot event."""

    id: str
    type: str
    created: int
    at: float
    place: int
    data: JsonObject
    livemode: bool
    account: str | None

    def render(self) -> JsonObject:
        """The event object."""
        event: JsonObject = {
            "id": self.id,
            "object": "event",
            "api_version": None,
            "created": self.created,
            "data": self.data,
            "livemode": self.livemode,
            "pending_webhooks": 0,
            "request": {"id": None, "idempotency_key": None},
            "type": self.type,
        }
        return event if self.account is None else event | {"account": self.account}


class EventLog:
    """The events of one account, in order.

    Args:
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
        self._clock, self._settings, self._publish = clock, settings, publish
        self._account, self._livemode = account, livemode
        self.entries: list[LoggedEvent] = []
        self._by_id: dict[str, LoggedEvent] = {}

    def add(
        self, kind: str, thing: JsonObject, previous: JsonObject | None = None, *, account: str | None = None
    ) -> None:
        """Note that `thing` has changed.

        Args:
            previous: the old values of what an update changed.
            account: whom the event names, where that is not the account in which it is kept.
        """
        data: JsonObject = {"object": thing}
        if previous is not None:
            data["previous_attributes"] = previous
        now = self._clock.now()
        about = account or self._account
        event = LoggedEvent(new_id("evt", 24), kind, int(now), now, len(self.entries), data, self._livemode, about)
        self.restore(event)
        self._publish(Notice(event.id, kind, "snapshot", self._account, about, self._livemode, now, event.render))

    def restore(self, event: LoggedEvent) -> None:
        """Append an event that exists already."""
        self.entries.append(event)
        self._by_id[event.id] = event

    def retrieve(self, identity: str, _params: Mapping[str, Any]) -> JsonObject:
        """GET /v1/events/ID."""
        return self._find(identity).render()

    def list(self, params: Mapping[str, Any]) -> JsonObject:
        """GET /v1/events: `type` (with a wildcard at the end) or `types[]`, `created[...]`, newest first."""
        if "type" in params and "types" in params:
            raise invalid("You may only specify one of these parameters: type, types.", "types")
        wanted = tuple(params.get("types", ())) or ((params["type"],) if "type" in params else ())
        exact = frozenset(name for name in wanted if not name.endswith("*"))
        prefixes = tuple(name[:-1] for name in wanted if name.endswith("*"))

        def keep(event: LoggedEvent) -> bool:
            return self._visible(event) and (
                not wanted or event.type in exact or (bool(prefixes) and event.type.startswith(prefixes))
            )

        return page("/v1/events", self.entries, params, self._find, keep)

    def _visible(self, event: LoggedEvent) -> bool:
        age = self._clock.now() - event.at
        return self._settings.events_lag <= age <= KEPT

    def _find(self, identity: str) -> LoggedEvent:
        event = self._by_id.get(identity)
        if event is None or not self._visible(event):
            raise missing_resource("event", identity)
        return event
