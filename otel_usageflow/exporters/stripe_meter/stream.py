"""The high-throughput stream: up to 100 meter events a call, received at once, judged by Stripe later.

Source: docs.stripe.com/api/v2/billing-meter-stream. Whether it works in a sandbox is documented both ways, so a
refusal there is taken to be about the stream as a whole until it has taken something.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import stripe
from pydantic import SecretStr

from otel_usageflow.delivery.batches import Batch
from otel_usageflow.exporters.stripe_meter.answers import outcome_of
from otel_usageflow.exporters.stripe_meter.api import StripeApi
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.session import Sessions
from otel_usageflow.exporters.stripe_meter.wire import StripeFailure
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Halted, Outcome, Refused, Retry
from otel_usageflow.model.usage import Reason

MOST = 100
"""Events in one call (API reference, `v2/billing/meter-event-stream/create`)."""
NO_STREAM = (
    "write `api: v1` in the exporter's configuration: Stripe does not offer the stream to this key or account; it is "
    "documented for live mode, and a restricted key must be allowed to write meter events"
)
NO_SESSION = (
    "Stripe has opened a session for the key, and what answers at exporters::stripe_meter::endpoints::meter_events "
    "does not take it: is that address right? If the key was rolled or revoked meanwhile, the next attempt says so; "
    "usage waits, nothing is lost"
)
_EXPIRED = "billing_meter_event_session_expired"
_NOT_OFFERED = ("live mode", "livemode", "sandbox", "test mode", "testmode", "not available", "not enabled")


class Stream:
    """Sends batches, each with the token of its account's session."""

    def __init__(self, api: StripeApi, sessions: Sessions, config: StripeMeterConfig) -> None:
        self._api = api
        self._sessions = sessions
        self._live = config.mode == "live"
        self._chosen = config.streams
        self._works: set[str] = set()
        """Accounts of which something was taken since the start."""

    async def send(self, batch: Batch, meter: Callable[[str], Meter]) -> Outcome:
        """Make one call, and say what it means for its events.

        Under `api: v1` only those come here of which it is not known what became of them in the stream. If that is
        not offered any more, they are set aside, and the meter's summaries tell.
        """
        outcome = await self._send(batch, meter)
        if not self._chosen and isinstance(outcome, Halted) and outcome.remedy == NO_STREAM:
            return Refused(Reason.REJECTED, outcome.why, uncertain=True)
        return outcome

    async def _send(self, batch: Batch, meter: Callable[[str], Meter]) -> Outcome:
        """A session that has expired is renewed once, because the call was not processed."""
        events = [wire_event(event, meter(event.event_name)) for event in batch.events]
        for again in (True, False):
            try:
                token = await self._sessions.token(batch.account)
            except StripeFailure as error:
                return of_session(error)
            try:
                request_id = await self._api.stream_events(token, events, batch.key)
            except StripeFailure as error:
                expired = is_expired(error)
                if is_unauthorized(error):  # a session that is made anew tells whether it is the key
                    self._sessions.expired(batch.account, token)
                if expired and again:
                    continue
                return _without(token, self._meaning(error, batch.account))
            self._works.add(batch.account)
            return Accepted(request_id)
        raise AssertionError("the second attempt is the last")

    def _meaning(self, error: BaseException, account: str) -> Outcome:
        """What an answer to a call means for its events."""
        if is_expired(error):
            return Retry("two sessions in a row were refused as expired", everyone=True)
        outcome = outcome_of(error)
        if isinstance(outcome, Refused) and outcome.uncertain:
            # A resend has a key of its own and the same identifiers, so that it cannot count twice.
            return Retry(outcome.why, uncertain=True)
        if isinstance(outcome, Retry):
            return replace(outcome, new_key=False)  # each call has a new one
        status = error.http_status if isinstance(error, stripe.StripeError) else None
        if isinstance(outcome, Halted) and status == 401:
            return Halted(outcome.why, NO_SESSION)
        if status in (403, 404, 405):
            return Halted(outcome.why if not isinstance(outcome, Accepted) else "", NO_STREAM)
        if isinstance(outcome, Refused) and self._about_stream(outcome, account):
            return Halted(outcome.why, NO_STREAM)
        return outcome

    def _about_stream(self, refused: Refused, account: str) -> bool:
        """Whether a 400 says that there is no stream here, rather than that an event is wrong."""
        if account in self._works:
            return False
        said = refused.why.lower()
        return not self._live or any(text in said for text in _NOT_OFFERED)


def wire_event(event: MeterEvent, meter: Meter) -> dict[str, Any]:
    """A meter event as the stream takes it: the same facts as in v1, the time as RFC 3339, every value a string."""
    return {
        "event_name": event.event_name,
        "payload": {**event.payload, meter.customer_key: event.customer, meter.value_key: event.value},
        "identifier": event.identifier,
        "timestamp": datetime.fromtimestamp(event.timestamp, UTC).isoformat().replace("+00:00", "Z"),
    }


def of_session(error: BaseException) -> Outcome:
    """What it means for a batch that no session could be made: nothing of it was sent."""
    outcome = outcome_of(error)
    match outcome:
        case Retry():
            return replace(outcome, uncertain=False, new_key=False)
        case Halted() if isinstance(error, stripe.StripeError) and error.http_status == 401:
            return outcome
        case Halted(why=why) if isinstance(error, stripe.StripeError) and (error.http_status or 0) >= 400:
            return Halted(f"no session for the stream: {why}", NO_STREAM)
        case Halted():
            return outcome
        case Refused(why=why):
            return Halted(f"no session for the stream: {why}", NO_STREAM)
        case Accepted():
            return Retry("no session for the stream: an answer that is about something else")


def is_unauthorized(error: BaseException) -> bool:
    """Whether what was shown was not taken."""
    return isinstance(error, stripe.StripeError) and error.http_status == 401


def is_expired(error: BaseException) -> bool:
    """Whether a call was not processed because its session had ended."""
    if not isinstance(error, stripe.StripeError) or not is_unauthorized(error):
        return False
    body = error.json_body if isinstance(error.json_body, dict) else {}
    said = body.get("error")
    facts = said if isinstance(said, dict) else {}
    return facts.get("code") == _EXPIRED or facts.get("type") == "temporary_session_expired"


def _without(token: SecretStr, outcome: Outcome) -> Outcome:
    """The outcome without the token in its text, should anybody have repeated it."""
    secret = token.get_secret_value()
    if isinstance(outcome, Accepted) or secret not in outcome.why:
        return outcome
    return replace(outcome, why=outcome.why.replace(secret, "[REDACTED]"))
