"""Companies on one ledger: usage that came with their ingest tokens."""

from dataclasses import replace

from otel_usageflow.model.caller import Caller
from otel_usageflow.model.usage import Terms, UsageBatch

BOOK = "stripe_meter test"
ACME, BETA = "acct_acme", "acct_beta"
"""Two companies."""
OWN = ""
"""The operator's own spans, which come without a token."""


def caller(account: str) -> Caller:
    """What an authenticator says of a token of this account."""
    return Caller(account, BOOK, f"it_{account}")


def terms_in(terms: Terms, account: str) -> Terms:
    """As the processor puts them for a caller."""
    return replace(terms, account=account) if account else terms


def of_company(usage: UsageBatch, account: str) -> UsageBatch:
    """The same spans, as if they had come with a company's token; unchanged for the operator's own."""
    if not account:
        return usage
    return replace(
        usage,
        caller=caller(account),
        records=[one._replace(terms=terms_in(one.terms, account)) for one in usage.records],
        trace_requests=[
            one._replace(record=one.record._replace(terms=terms_in(one.record.terms, account)))
            for one in usage.trace_requests
        ],
    )
