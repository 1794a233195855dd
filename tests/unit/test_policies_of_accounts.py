"""Policies, as they are for spans that came with an ingest token: under its account, and no other."""

from collections.abc import Mapping

import pytest
from companies import ACME, BETA, OWN
from span_builder import NOW, http, payload, policy, span

from otel_usageflow.model.usage import UsageBatch
from otel_usageflow.policy.config import PolicyConfig
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.policy import compile_policy
from otel_usageflow.policy.text import PLACEHOLDERS

ALL = policy(name="all")
ACMES = policy(name="acmes", account=ACME)


def engine(*policies: PolicyConfig) -> PolicyEngine:
    """These policies."""
    return PolicyEngine([compile_policy(one, PLACEHOLDERS) for one in policies])


def judged(policies: PolicyEngine, account: str | None, attributes: Mapping[str, str] = {}) -> UsageBatch:
    """A request that fits, with a token of this account; without one for None."""
    chosen = policies if account is None else policies.of_account(account)
    request = span(http() | {"http.request.header.x-account-id": "acme"} | dict(attributes))
    return chosen.evaluate(payload(request), NOW)


def billed(
    policies: PolicyEngine, account: str | None, attributes: Mapping[str, str] = {}
) -> list[tuple[str, str | None]]:
    """(policy, account) of each record."""
    return [(one.terms.policy, one.terms.account) for one in judged(policies, account, attributes).records]


@pytest.mark.parametrize("account", [ACME, BETA])
def test_a_policy_without_an_account_bills_in_the_tokens(account: str) -> None:
    """And in the exporter's without a token, or with one of the own account, whatever came before."""
    policies = engine(ALL)
    assert billed(policies, account) == [("all", account)]
    assert billed(policies, None) == [("all", None)]
    assert billed(policies, OWN) == [("all", None)]


@pytest.mark.parametrize("account", [BETA, OWN])
def test_no_policy_bills_in_another_account(account: str) -> None:
    """One that names an account does not match, which shows; the next one of its event name takes the request."""
    batch = judged(engine(ACMES), account)
    assert (batch.records, batch.requests, batch.unmatched) == ([], 1, 1)
    assert batch.others_policies == {"acmes": 1}
    assert billed(engine(ACMES, ALL), account) == [("all", account or None)]


def test_a_policy_with_an_account_bills_as_before() -> None:
    """Without a token, and with one of its own account."""
    assert billed(engine(ACMES, ALL), None) == [("acmes", ACME)]
    assert billed(engine(ACMES, ALL), ACME) == [("acmes", ACME)]
    assert judged(engine(ACMES), None).others_policies == {}


def test_nothing_in_a_span_chooses_an_account() -> None:
    """Attributes with names that one might expect to are attributes like others."""
    tries = dict.fromkeys(("account", "stripe.account", "stripe_account", "Stripe-Account"), ACME)
    tries |= {f"http.request.header.{name}": ACME for name in ("stripe-account", "stripe-context", "x-account")}
    assert billed(engine(ACMES, ALL), BETA, tries) == [("all", BETA)]


def test_what_does_not_fit_anyway_is_not_counted() -> None:
    """A policy of another account whose `match` the request does not meet has nothing to do with it."""
    narrowed = policy(name="acmes", account=ACME, match={"service": "other"})
    conditional = policy(name="acmes", account=ACME, match={"condition": "attributes['no'] == 'such'"})
    assert judged(engine(narrowed), BETA).others_policies == {}
    assert judged(engine(conditional), BETA).others_policies == {}


def test_many_accounts_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a number of accounts their policies are made anew, and bill the same."""
    monkeypatch.setattr("otel_usageflow.policy.engine._MOST_KEPT", 200)
    policies = engine(ALL)
    for number in range(1_000):
        policies.of_account(f"acct_{number}")
    assert len(policies._of_accounts) <= 100
    assert billed(policies, "acct_1") == [("all", "acct_1")]
