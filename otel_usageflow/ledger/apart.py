"""What came with an ingest token stays in the token's account, whatever its policy says later. Pure.

A policy without an account bills spans of many companies, each in its own account. So whether it has billed elsewhere
before, or bills elsewhere now, is asked for each company by itself: usage of one never moves to another account, and
is never taken for a request of another.
"""

from collections.abc import Collection, Iterable
from dataclasses import replace

from otel_usageflow.model.usage import Terms


def terms_of_account(terms: Iterable[Terms], account: str) -> list[Terms]:
    """What policies bill in the account of an ingest token: those that name no account, or this one."""
    return [replace(one, account=account) for one in terms if one.account is None or one.account == account]


def group_of(account: str, apart: Collection[str]) -> str:
    """Accounts of one group may give usage to each other: the companies are each a group of their own."""
    return account if account in apart else ""
