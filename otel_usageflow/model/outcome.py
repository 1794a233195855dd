"""What became of one attempt to send a meter event. Outcomes are values; exceptions are for bugs."""

from dataclasses import dataclass
from enum import StrEnum

from otel_usageflow.model.usage import Reason


@dataclass(frozen=True, slots=True)
class Accepted:
    """The receiver has it. `duplicate`: it had it already, which is as good."""

    request_id: str = ""
    duplicate: bool = False


class TooFast(StrEnum):
    """What there was too much of: the values of `Stripe-Rate-Limited-Reason` (docs.stripe.com/rate-limits)."""

    GLOBAL_RATE = "global-rate"
    ENDPOINT_RATE = "endpoint-rate"
    GLOBAL_CONCURRENCY = "global-concurrency"
    ENDPOINT_CONCURRENCY = "endpoint-concurrency"
    RESOURCE = "resource-specific"
    """Only of this customer or object: nothing follows for others."""
    UNSAID = "unsaid"


@dataclass(frozen=True, slots=True)
class Retry:
    """No definite answer, or a refusal that says nothing about the event.

    `uncertain`: the event may have been processed, so that from now on only an unchanged resend within 24 hours
    is safe. `everyone`: not this event but the whole account is affected, so everybody slows down.
    `new_key`: the receiver replays a stored failure for this idempotency key, so the next attempt needs another.
    `too_fast`: the receiver asked for less, of this.
    """

    why: str
    uncertain: bool = False
    everyone: bool = False
    new_key: bool = False
    too_fast: TooFast | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A definite no for this event: it was not counted, and sending it again would not help.

    `uncertain`: Stripe wants it no more, but does not say that it was not counted.
    """

    reason: Reason
    why: str
    code: str = ""
    request_id: str = ""
    uncertain: bool = False


@dataclass(frozen=True, slots=True)
class Halted:
    """A definite no that says nothing about the event: the key, the permission or the address is wrong.

    Nothing was processed. The account's queue is kept, and tried again from time to time.
    """

    why: str
    remedy: str


Outcome = Accepted | Retry | Refused | Halted
