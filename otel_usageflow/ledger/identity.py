"""Whose book this is: does a key belong to the account that was billed before? Pure.

No call tells a restricted key's own account for sure, but meters do: Stripe never deletes one, and no id is given
twice. An account that has none of the meters that were fed before is another one. Then nothing of this book may be
sent to it or judged by it: what it does not know it would seem not to have counted.
"""

from collections.abc import Collection, Iterable

from otel_usageflow.errors import StartError


class AnotherAccount(StartError):
    """The key belongs to another account than the ledger."""

    def __init__(self) -> None:
        super().__init__(f"exporters::stripe_meter::api_key: {WHAT}; {REMEDY}")


WHAT = (
    "the key belongs to another Stripe account than the one that this ledger has billed: "
    "none of the meters that were fed before is there"
)
REMEDY = (
    "nothing is sent; put back a key of the account from before. If the change is meant, or if a sandbox's data was "
    "deleted, give the new account a ledger of its own (extensions::sqlite_storage::directory): "
    "what this one still has to send and to settle belongs to the other account"
)


def is_another_account(known: Collection[str], there: Iterable[str]) -> bool:
    """Whether an account that has the meters `there` cannot be the one whose meters `known` were fed before."""
    return bool(known) and not set(known).intersection(there)
