"""Two bills of the same spans, compared: the result of `preview --against`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

from otel_usageflow.model.usage import Quantity
from otel_usageflow.policy.preview import CountLine, Payload, Preview
from otel_usageflow.policy.text import decimal_text

_EXACT: Final = Context(prec=300)


class Bill(NamedTuple):
    """What one side bills for one line."""

    requests: int
    quantity: Quantity


class UsageChange(NamedTuple):
    """A line of usage that differs. Usage with another payload is another line."""

    policy: str
    event_name: str
    metadata_field: str | None
    user: str
    account: str | None
    payload: Payload
    before: Bill
    after: Bill

    @property
    def quantity(self) -> Quantity:
        """By how much the quantity grows; negative where it shrinks."""
        return _EXACT.subtract(Decimal(self.after.quantity), Decimal(self.before.quantity))


class CountChange(NamedTuple):
    """A number of requests that differs."""

    policy: str
    reason: str
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What differs between two bills of the same spans. Lists are sorted, and hold only what differs.

    `before` is what the other configuration bills (`--against`), `after` what the one that is asked about does.
    """

    spans: int
    requests: tuple[int, int]
    usage: list[UsageChange]
    quarantined: list[CountChange]
    unbilled: list[CountChange]
    unmatched_requests: tuple[int, int]

    @property
    def equal(self) -> bool:
        """Whether both bill the same."""
        numbers = (self.requests, self.unmatched_requests)
        return not (self.usage or self.quarantined or self.unbilled) and all(one == two for one, two in numbers)

    def as_json(self) -> dict[str, Any]:
        """The object that `preview --against --format json` prints; differences are after minus before."""
        return {
            "equal": self.equal,
            "spans": self.spans,
            "requests": _numbers(*self.requests),
            "usage": [
                {
                    "policy": line.policy,
                    "event_name": line.event_name,
                    "metadata_field": line.metadata_field,
                    "user": line.user,
                    "account": line.account,
                    "payload": dict(line.payload),
                    "requests": _numbers(line.before.requests, line.after.requests),
                    "quantity": {
                        "before": decimal_text(line.before.quantity),
                        "after": decimal_text(line.after.quantity),
                        "difference": decimal_text(line.quantity),
                    },
                }
                for line in self.usage
            ],
            "quarantined": [_count(line) for line in self.quarantined],
            "unbilled": [_count(line) for line in self.unbilled],
            "unmatched_requests": _numbers(*self.unmatched_requests),
        }


def compare(before: Preview, after: Preview) -> Difference:
    """Tell what `after` bills otherwise than `before`; both are of the same spans."""
    return Difference(
        spans=after.spans,
        requests=(before.requests, after.requests),
        usage=list(_usage(_by_key(before), _by_key(after))),
        quarantined=list(_counts(before.quarantined, after.quarantined)),
        unbilled=list(_counts(before.unbilled, after.unbilled)),
        unmatched_requests=(before.unmatched_requests, after.unmatched_requests),
    )


_Key = tuple[str, str, str, str | None, str | None, Payload]
_NOTHING: Final = Bill(0, 0)


def _by_key(result: Preview) -> dict[_Key, Bill]:
    return {
        (line.policy, line.event_name, line.user, line.metadata_field, line.account, part.payload): Bill(
            part.requests, part.quantity
        )
        for line in result.usage
        for part in line.parts
    }


def _sortable(key: _Key) -> tuple[tuple[bool, str | Payload], ...]:
    """What may be None sorts, too: the same policy may have another customer field or account on each side."""
    return (*tuple((part is not None, part or "") for part in key[:5]), (True, key[5]))


def _usage(before: Mapping[_Key, Bill], after: Mapping[_Key, Bill]) -> Iterator[UsageChange]:
    for key in sorted({*before, *after}, key=_sortable):
        one, two = before.get(key, _NOTHING), after.get(key, _NOTHING)
        if (key in before) != (key in after) or one != two:
            policy, event_name, user, metadata_field, account, payload = key
            yield UsageChange(policy, event_name, metadata_field, user, account, payload, one, two)


def _counts(before: list[CountLine], after: list[CountLine]) -> Iterator[CountChange]:
    old = {(line.policy, line.reason): line.requests for line in before}
    new = {(line.policy, line.reason): line.requests for line in after}
    for key in sorted({*old, *new}):
        if old.get(key, 0) != new.get(key, 0):
            yield CountChange(*key, old.get(key, 0), new.get(key, 0))


def _numbers(before: int, after: int) -> dict[str, int]:
    return {"before": before, "after": after, "difference": after - before}


def _count(line: CountChange) -> dict[str, Any]:
    return {"policy": line.policy, "reason": line.reason, "requests": _numbers(line.before, line.after)}
