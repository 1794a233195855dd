"""Companies that send with ingest tokens: who may, and the accounts that come while the service runs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from otel_usageflow.errors import PermissionDenied
from otel_usageflow.ledger.apart import terms_of_account
from otel_usageflow.ledger.former import Filed, Former, filed, former
from otel_usageflow.ledger.ingest_tokens import TokenAccounts
from otel_usageflow.model.caller import Caller
from otel_usageflow.model.usage import Terms

_log = structlog.get_logger(__name__)


class Companies:
    """Knows the accounts of ingest tokens of one exporter.

    Args:
        book: the exporter's id and mode; tokens of other books are not let through.
        own: the account that the exporter is configured for, if it is.
        account_known: whether an account is followed.
        follow: begin to follow an account, with what policies bill there. Does not wait.
    """

    def __init__(
        self,
        book: str,
        own: str | None,
        account_known: Callable[[str], bool],
        follow: Callable[[str, Sequence[Terms]], None],
        recognise: Callable[[Former], None],
    ) -> None:
        self._book = book
        self._own = own
        self._account_known = account_known
        self._follow = follow
        self._recognise = recognise
        self._apart: set[str] = set()
        self._terms: tuple[Terms, ...] = ()
        self._known: list[Filed] = []
        self._changed_at = 0.0
        self._stops: list[Callable[[], None]] = []

    @property
    def apart(self) -> frozenset[str]:
        """The accounts of tokens, which have their usage to themselves."""
        return frozenset(self._apart)

    def begin(self, apart: Iterable[str], terms: tuple[Terms, ...], known: Iterable[Filed], now: float) -> None:
        """Start with what the ledger says: accounts of tokens, and where policies have billed."""
        self._apart = {account for account in apart if account}
        self._terms, self._known, self._changed_at = terms, list(known), now
        self._recognise_former()

    def expect(self, terms: tuple[Terms, ...], known: Iterable[Filed], now: float) -> None:
        """From now on policies bill this; `known` is where they did."""
        before = [one for one in self._terms if one not in terms]
        moved = [filed(one) for account in self._apart for one in terms_of_account(before, account)]
        self.begin(self._apart, terms, [*known, *moved], now)

    def terms_in(self, account: str) -> list[Terms]:
        """What policies bill in an account of a token."""
        return terms_of_account(self._terms, account)

    def follow_tokens(self, extensions: Mapping[str, Any]) -> None:
        """Hear of accounts for which tokens are made."""
        for extension in extensions.values():
            if isinstance(extension, TokenAccounts):
                self._stops.append(extension.follow_accounts(self._book, self.learn))

    def stop(self) -> None:
        """Hear of no more."""
        for stop in self._stops:
            stop()
        self._stops = []

    def admit(self, caller: Caller) -> None:
        """Let usage with a token through, and get to know its account.

        Raises:
            PermissionDenied: the token is for another exporter, mode or account; what came is not taken.
        """
        if caller.book != self._book:
            raise PermissionDenied(
                f"the ingest token {caller.token} was made for {caller.book}, and this is {self._book}; usage of one "
                "mode never comes into the other's book: make a token for this one with `connect token create`"
            )
        if self._own is not None and caller.account not in ("", self._own):
            raise PermissionDenied(
                f"the ingest token {caller.token} is for the account {caller.account}, and the exporter bills in "
                f"{self._own} only (exporters::{self._book.rpartition(' ')[0]}::account)"
            )
        self.learn(caller.account)

    def learn(self, account: str) -> None:
        """There is, or may be, usage with a token of this account."""
        if account and account not in self._apart:
            self._apart.add(account)
            self._recognise_former()
        name = account or self._own or ""
        if self._own is not None and name != self._own:
            return  # a token that is never let through
        if not self._account_known(name):
            self._follow(name, self.terms_in(name) if name else self._terms_of_own())
            _log.info("account_followed", account=name or "own", because="there is an ingest token for it")

    def _terms_of_own(self) -> list[Terms]:
        return [one for one in self._terms if not one.account]

    def _recognise_former(self) -> None:
        self._recognise(former(self._terms, self._known, self._changed_at, self._apart))
