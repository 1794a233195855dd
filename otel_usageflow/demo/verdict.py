"""Was everything billed once? Compares what was sent with what Stripe counted and what the ledger keeps."""

from collections.abc import Iterator
from dataclasses import dataclass

from otel_usageflow.demo.cast import Customer
from otel_usageflow.demo.ledger_view import LedgerView
from otel_usageflow.demo.tally import Tally, Totals
from otel_usageflow.ledger.amount import plain


@dataclass(frozen=True, slots=True)
class Verdict:
    """`differences` is empty when every billable request was billed exactly once, and the rest is kept."""

    differences: tuple[str, ...]

    @property
    def billed_once(self) -> bool:
        """Whether there is no difference."""
        return not self.differences


def judge(tally: Tally, customers: list[Customer], billed: Totals, ledger: LedgerView) -> Verdict:
    """Compare.

    Args:
        tally: what was sent.
        customers: who is a customer at Stripe.
        billed: what Stripe has counted.
        ledger: what the ledger holds.
    """
    return Verdict((*tally.surprises, *_unequal(tally.owed(customers), billed), *_kept(tally, customers, ledger)))


def _unequal(owed: Totals, billed: Totals) -> Iterator[str]:
    for who in sorted({*owed, *billed}):
        due, counted = owed.get(who, 0), billed.get(who, 0)
        if due != counted:
            yield f"{who[0]}, {who[1]}: used {plain(due)}, billed {plain(counted)}"


def _kept(tally: Tally, customers: list[Customer], ledger: LedgerView) -> Iterator[str]:
    due = tally.waiting(customers)
    kept = ledger.reasons
    for reason in sorted({*due, *kept}):
        if due[reason] != kept[reason]:
            yield f"quarantine {reason}: {due[reason]} usage records are due there, {kept[reason]} are there"
    if ledger.under_way:
        yield f"{ledger.under_way} usage records are not billed yet"
