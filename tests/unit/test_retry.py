"""Back-off: longer and longer, never for ever, and not in step with others."""

import pytest
from pydantic import ValidationError

from otel_usageflow.delivery.retry import Backoff
from otel_usageflow.exporters.stripe_meter.config import RetryOnFailure


def test_it_doubles_up_to_the_maximum() -> None:
    """Without jitter: 1, 2, 4, 8, and then the maximum for ever."""
    backoff = Backoff(1.0, 2.0, 0.0, 10.0)
    assert [backoff.delay(n) for n in (1, 2, 3, 4, 5, 1_000_000)] == [1, 2, 4, 8, 10, 10]


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, 5.0), (0.5, 10.0), (1.0, 15.0)])
def test_jitter_spreads_around_the_interval(jitter: float, expected: float) -> None:
    """`randomization_factor` 0.5 means half to one and a half times the interval."""
    assert Backoff(10.0, 2.0, 0.5, 100.0).delay(1, jitter) == expected


def test_random_jitter_stays_within_the_spread() -> None:
    """Delays that are not given a position stay within the same bounds."""
    backoff = Backoff(10.0, 1.0, 0.5, 100.0)
    assert all(5 <= backoff.delay(n) <= 15 for n in range(1, 200))


def test_no_configuration_makes_it_overflow() -> None:
    """The steepest back-off that may be configured still has an answer after a thousand failures."""
    config = RetryOnFailure.model_validate({"multiplier": 100})
    assert config.backoff.delay(1_000, jitter=0.5) == 300
    with pytest.raises(ValidationError):
        RetryOnFailure.model_validate({"multiplier": float("inf")})
