"""Stripe's documented limits of one account, by the key's mode and by whose account it is, and the paces below them.

Source: docs.stripe.com/rate-limits, and for connected accounts the guide on recording usage.
"""

import time
from collections.abc import Callable, Mapping

from otel_usageflow.delivery.limits import RATE, Limits
from otel_usageflow.delivery.pace import Pace
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig

METER_EVENTS = 1_000.0
STREAM = 10_000.0
"""Events a second. Sources disagree on whether calls or events are meant; events are the fewer."""
_LIVE = 100.0
_TEST = 25.0
_ENDPOINT = 25.0
_SEARCH = 20.0


def limits_of(config: StripeMeterConfig, account: str) -> Limits:
    """The limits of an account, empty for the key's own.

    What is set by hand is taken as it is: less is a bound, and more says that Stripe has raised the limit.
    """
    basic = _LIVE if config.mode == "live" else _TEST
    stream = config.api != "v1"
    documented = (STREAM if stream else METER_EVENTS) if config.mode == "live" and (stream or not account) else None
    by_hand = config.calls_per_second
    if by_hand is None:
        return Limits(basic, _ENDPOINT, _SEARCH, documented, by_event=documented is not None and stream)
    limit = by_hand / RATE
    if documented is not None or limit < basic:
        return Limits(basic, _ENDPOINT, _SEARCH, limit, by_event=stream)
    return Limits(limit, max(_ENDPOINT, limit), max(_SEARCH, limit))


class Paces:
    """The pace of every account that one exporter, or one command, calls."""

    def __init__(self, config: StripeMeterConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._paces: dict[str, Pace] = {}

    @property
    def by_account(self) -> Mapping[str, Pace]:
        """Those that there are so far; the key's own account has an empty name."""
        return self._paces

    def of(self, account: str) -> Pace:
        """The pace of an account."""
        if account not in self._paces:
            self._paces[account] = Pace(limits_of(self._config, account), self._clock)
        return self._paces[account]
