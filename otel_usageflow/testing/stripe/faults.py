"""What goes wrong on purpose: scripted faults, counted, or random ones from a seed."""

import random
from dataclasses import dataclass, field
from enum import StrEnum


class Fault(StrEnum):
    """The ways in which a call fails. "Commit" is the moment from which the call has had its effect."""

    RESET_BEFORE = "reset_before"
    """The connection breaks, nothing was done."""
    RESET_AFTER = "reset_after"
    """The connection breaks after commit: the classic double count."""
    ERROR_BEFORE = "error_before"
    """500 before execution began: nothing done, nothing stored under the idempotency key."""
    ERROR_STORED = "error_stored"
    """500 in execution: nothing done, but the idempotency key replays it. Only a new key gets through."""
    ERROR_AFTER = "error_after"
    """500 after commit, stored: a new key meets the duplicate refusal."""
    UNAVAILABLE = "unavailable"
    """503, nothing done, nothing stored."""
    RATE_LIMITED = "rate_limited"
    """429 `global-rate`."""
    LOCK_TIMEOUT = "lock_timeout"
    """429 `lock_timeout`, although nobody broke the rule of one call per customer and meter."""
    SLOW_BEFORE = "slow_before"
    """`seconds` pass before commit; meanwhile a resend with the same key meets 409."""
    SLOW_AFTER = "slow_after"
    """`seconds` pass between commit and answer; a resend with the same key is replayed."""
    MALFORMED = "malformed"
    """Status 200 after commit, with a body that is no JSON."""
    HANG = "hang"
    """No answer until the double stops, nothing done."""
    HANG_AFTER = "hang_after"
    """No answer until the double stops, after commit."""
    STALL = "stall"
    """Headers and half the body after commit, and no more until the double stops."""
    EMPTY = "empty"
    """Status 200 after commit, with no body at all."""
    WRONG_TYPE = "wrong_type"
    """The right answer after commit, but as `text/plain`."""
    NOT_JSON = "not_json"
    """Status 200 with a page of HTML, as from a proxy that wants a login; nothing done."""
    BAD_GATEWAY = "bad_gateway"
    """Status 502 with a page of HTML, as from a proxy; nothing done."""
    REDIRECT = "redirect"
    """Status 302 to another host, as from a proxy that wants a login; nothing done."""


AFTER_COMMIT = frozenset(
    {
        Fault.RESET_AFTER,
        Fault.SLOW_AFTER,
        Fault.MALFORMED,
        Fault.HANG_AFTER,
        Fault.STALL,
        Fault.EMPTY,
        Fault.WRONG_TYPE,
    }
)
BY_PROXY = frozenset({Fault.NOT_JSON, Fault.BAD_GATEWAY, Fault.REDIRECT})
"""What answers in Stripe's place, before Stripe has heard of anything."""


@dataclass(slots=True, eq=False)
class Rule:
    """One fault that was asked for.

    Args:
        path: beginning of the paths that it strikes.
        times: how often it strikes, None for ever.
        probability: of striking a call, decided by a generator with `seed`.
        seconds: of the slow ones, in real time.
    """

    path: str
    fault: Fault
    times: int | None = 1
    probability: float = 1.0
    seed: int = 0
    seconds: float = 1.0
    method: str | None = None
    fired: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def strikes(self, method: str, path: str) -> bool:
        """Whether it strikes this call; counts it if so."""
        if self.times is not None and self.fired >= self.times:
            return False
        if not path.startswith(self.path) or self.method not in (None, method):
            return False
        if self.probability < 1 and self._random.random() >= self.probability:
            return False
        self.fired += 1
        return True


class Faults:
    """All rules, in order; the first that strikes decides."""

    def __init__(self) -> None:
        self.rules: list[Rule] = []
        self.outage = False
        """While true, every connection is reset as soon as a call arrives."""

    def add(self, rule: Rule) -> Rule:
        """Add a rule behind those there are."""
        self.rules.append(rule)
        return rule

    def clear(self) -> None:
        """Everything works again, outages included."""
        self.rules.clear()
        self.outage = False

    def pick(self, method: str, path: str) -> Rule | None:
        """The rule that strikes this call, if any."""
        for rule in self.rules:
            if rule.strikes(method, path):
                return rule
        return None
