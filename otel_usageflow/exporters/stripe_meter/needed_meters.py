"""Which meters the policies need, and whether Stripe's can be fed with what the policies bill. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from otel_usageflow.exporters.stripe_meter.feeding import Meter, Unfit, feeding
from otel_usageflow.ledger.freeze import Formula


@dataclass(frozen=True, slots=True)
class Billed:
    """What one policy sends."""

    policy: str
    event_name: str
    account: str
    """The connected account; empty for the key's own."""
    ones: bool
    """Whether every request counts 1."""
    payload: tuple[str, ...] = ()
    """Its further keys in the meter event."""


class Verdict(StrEnum):
    """Whether a meter does what its policies mean."""

    OK = "ok"
    MISSING = "missing"
    INACTIVE = "inactive"
    UNFIT = "unfit"
    """It exists and takes events, and can never bill what the policies mean."""


@dataclass(frozen=True, slots=True)
class Needed:
    """One meter that policies need, and what was found."""

    account: str
    event_name: str
    policies: tuple[str, ...]
    verdict: Verdict
    meter: Meter | None = None
    why: str = ""
    remedy: str = ""
    notes: tuple[str, ...] = field(default=())
    """What is as it should be in form, and may still not be what is meant."""


def needed(billed: Iterable[Billed], meters: Mapping[str, Sequence[Meter]]) -> list[Needed]:
    """Judge every meter that is needed, sorted by account and event name.

    Args:
        billed: what the policies send.
        meters: account -> all of its meters.
    """
    together: dict[tuple[str, str], list[Billed]] = {}
    for one in billed:
        together.setdefault((one.account, one.event_name), []).append(one)
    return [_judged(together[place], meters[place[0]]) for place in sorted(together)]


def _judged(senders: Sequence[Billed], meters: Sequence[Meter]) -> Needed:
    account, event_name = senders[0].account, senders[0].event_name
    policies = tuple(sorted({one.policy for one in senders}))
    named = sorted((meter for meter in meters if meter.event_name == event_name), key=lambda meter: meter.active)
    meter = named[-1] if named else None
    answer = feeding(meter, event_name, account, ones=all(one.ones for one in senders))
    if isinstance(answer, Unfit):
        verdict = Verdict.MISSING if meter is None else Verdict.UNFIT if meter.active else Verdict.INACTIVE
        return Needed(account, event_name, policies, verdict, meter, answer.why, answer.remedy)
    assert meter is not None  # a missing one cannot be fed
    for one in senders:
        for key in one.payload:
            if key in (meter.customer_key, meter.value_key):
                what = "customer" if key == meter.customer_key else "quantity"
                return Needed(
                    account,
                    event_name,
                    policies,
                    Verdict.UNFIT,
                    meter,
                    f"the policy {one.policy} puts something of its own under the payload key {key!r}, where the "
                    f"meter expects the {what}",
                    f"call the key in the policy's payload otherwise; what stands there is not sent, the {what} is",
                )
    return Needed(account, event_name, policies, Verdict.OK, meter, notes=tuple(_notes(meter, answer)))


def _notes(meter: Meter, formula: Formula) -> Iterable[str]:
    if formula is Formula.LAST:
        yield (
            "the meter keeps the last value of a billing period and adds nothing up: right for a level, such as "
            "seats, and wrong for requests"
        )
