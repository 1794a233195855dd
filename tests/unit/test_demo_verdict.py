"""The demo's comparison: what was sent against what was billed."""

from collections import Counter
from decimal import Decimal
from itertools import islice

from otel_usageflow.demo.cast import AT_START, CUSTOMERS
from otel_usageflow.demo.ledger_view import LedgerView
from otel_usageflow.demo.plan import Planned, plan
from otel_usageflow.demo.tally import Tally
from otel_usageflow.demo.verdict import judge

REQUESTS = list(islice(plan(), 300))


def counted(requests: list[Planned] = REQUESTS) -> Tally:
    """A count of requests that all went as planned."""
    tally = Tally()
    for request in requests:
        tally.add(request, request.status)
    return tally


def ledger(tally: Tally) -> LedgerView:
    """A ledger that holds in quarantine what it should when everybody is a customer."""
    kept = Counter({(reason, ""): count for reason, count in tally.waiting(CUSTOMERS).items()})
    return LedgerView(records=kept.total(), quarantined=kept)


def test_equal_is_billed_once() -> None:
    """What was sent and what was billed are equal: no difference."""
    tally = counted()
    assert judge(tally, list(CUSTOMERS), tally.owed(CUSTOMERS), ledger(tally)).billed_once


def test_one_unit_too_much_is_a_difference() -> None:
    """One token billed twice is found, and named with its customer and meter."""
    tally = counted()
    billed = tally.owed(CUSTOMERS)
    due = billed["Acme", "chat_tokens"]
    billed["Acme", "chat_tokens"] += 1
    assert judge(tally, list(CUSTOMERS), billed, ledger(tally)).differences == (
        f"Acme, chat_tokens: used {due}, billed {due + 1}",
    )


def test_one_unit_too_little_is_a_difference() -> None:
    """A request that was never billed is found, even if a customer was billed for nothing at all."""
    tally = counted()
    billed = tally.owed(CUSTOMERS)
    del billed["Umbrella", "report"]
    verdict = judge(tally, list(CUSTOMERS), billed, ledger(tally))
    assert [difference.partition(":")[0] for difference in verdict.differences] == ["Umbrella, report"]


def test_usage_of_nobody_we_know_is_a_difference() -> None:
    """A bill for a customer who has used nothing is found."""
    tally = counted()
    billed = {**tally.owed(CUSTOMERS), ("Nobody", "report"): Decimal(1)}
    assert judge(tally, list(CUSTOMERS), billed, ledger(tally)).differences == ("Nobody, report: used 0, billed 1",)


def test_what_cannot_be_billed_must_be_in_quarantine() -> None:
    """A usage record that is missing in the quarantine is a difference, and so is one that is still under way."""
    tally = counted()
    right = ledger(tally)
    kept = right.quarantined.copy()
    kept["no_user", ""] -= 1
    wrong = LedgerView(records=right.records, quarantined=kept)
    differences = judge(tally, list(CUSTOMERS), tally.owed(CUSTOMERS), wrong).differences
    assert [difference.split(":")[0] for difference in differences] == [
        "quarantine no_user",
        "1 usage records are not billed yet",
    ]


def test_a_customer_who_has_not_appeared_owes_nothing_and_waits() -> None:
    """Without the late customer at Stripe, all of his usage belongs in quarantine, and none on a bill."""
    tally = counted()
    late = sum(len(request.usage) for request in REQUESTS if request.payer and request.payer.name == "Stark")
    assert late > 0
    assert tally.waiting(AT_START)["no_customer"] == tally.waiting(CUSTOMERS)["no_customer"] + late
    assert {name for name, _ in tally.owed(AT_START)} == {customer.name for customer in AT_START}


def test_an_answer_that_was_not_planned_is_a_difference() -> None:
    """A request that the API answered otherwise is counted for nobody, and spoils the verdict."""
    tally = Tally()
    tally.add(REQUESTS[0], 503)
    assert tally.owed(CUSTOMERS) == {}
    assert not judge(tally, list(CUSTOMERS), {}, LedgerView()).billed_once
