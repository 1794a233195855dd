"""A quantity times the number of requests that its span stands for: exact, or rounded once.

A weight is 2^56 / (2^56 - T), a rational number that mostly has no finite decimal. What has none of at most 18
decimals is rounded, once, to the nearest of 9: each request is off by less than 5 * 10^-10, and no sum is rounded.
"""

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from typing import Final

from otel_usageflow.model.usage import Quantity, Reason, UsageRecord
from otel_usageflow.policy.policy import Policy
from otel_usageflow.policy.quantity import LIMIT, MAX_DECIMALS
from otel_usageflow.policy.sampling import weight

DECIMALS: Final = 9
"""Decimals of what is rounded: with them a sum below a million still fits into Stripe's 15 significant digits."""


def weigh(record: UsageRecord, state: bytes, heaviest: int) -> UsageRecord:
    """A record with its quantity times its weight; a heavier one than any that is believed has no quantity.

    What says nothing of its weight, or says it so that it cannot be used, counts once.

    Args:
        record: of a request.
        state: the trace state of its span.
        heaviest: the largest weight that is believed.
    """
    if not state or record.quantity is None:
        return record
    said = weight(state, record.trace_id)
    if not isinstance(said, Fraction):
        return record
    quantity = weighed(record.quantity, said) if said <= heaviest else None
    if quantity is None:
        return record._replace(quantity=None, reason=record.reason or Reason.BAD_QUANTITY)
    return record._replace(quantity=quantity)


def of_varying_quantity(policy: Policy) -> Policy:
    """The policy, saying that not all of its records have one quantity: a meter that counts must not be fed by it."""
    return replace(policy, terms=replace(policy.terms, quantity=None))


def weighed(quantity: Quantity, weight: Fraction) -> Quantity | None:
    """The quantity times the weight, or None if that is too large to be billed."""
    product = weight * Fraction(quantity)
    if product >= LIMIT:
        return None
    if product.denominator == 1:
        return product.numerator
    if 10**MAX_DECIMALS % product.denominator == 0:
        return _decimal(product.numerator * (10**MAX_DECIMALS // product.denominator), MAX_DECIMALS)
    rounded = round(product * 10**DECIMALS)  # never a tie: that would have a finite decimal
    return _decimal(rounded, DECIMALS) if rounded < LIMIT * 10**DECIMALS else None


def _decimal(digits: int, decimals: int) -> Quantity:
    """`digits` shifted, in the one form that equal amounts have."""
    while decimals and digits % 10 == 0:
        digits, decimals = digits // 10, decimals - 1
    # Not Decimal.scaleb, which rounds to the digits of the context.
    return digits if decimals == 0 else Decimal((0, tuple(map(int, str(digits))), -decimals))
