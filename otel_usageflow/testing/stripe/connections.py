"""Which accounts have let this platform in, and how far (docs.stripe.com/connect/authentication)."""

from dataclasses import dataclass
from typing import Literal, Protocol

from otel_usageflow.testing.stripe.failures import StripeFailure
from otel_usageflow.testing.stripe.settings import Settings

Scope = Literal["read_only", "read_write", "stripe_apps"]


@dataclass(frozen=True, slots=True)
class Connection:
    """One account that one client of the platform (its Connect settings, or an app) may act for.

    A connection of live mode is good for test mode too; one of test mode is not good for live mode.
    """

    account: str
    client_id: str
    livemode: bool
    scope: Scope
    since: int
    """Unix seconds."""

    def good_for(self, livemode: bool) -> bool:
        """Whether calls of this mode may be made."""
        return self.livemode or not livemode


class Tell(Protocol):
    """Is told about a connection."""

    def __call__(self, connection: Connection, *, begun: bool) -> None:
        """It has begun, or ended."""


class Connections:
    """Every connection there is.

    As long as there never was one, any account is let through, so that tests of other things need not connect any.

    `watchers` are told about every connection that begins or ends.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.watchers: list[Tell] = []
        self._all: dict[tuple[str, str], Connection] = {}
        self._ever = False

    @property
    def strict(self) -> bool:
        """Whether an account that is not connected is refused."""
        access = self._settings.account_access
        return access == "connected" or (access == "automatic" and self._ever)

    @property
    def kept(self) -> list[Connection]:
        """Every one, in the order in which they began."""
        return list(self._all.values())

    def all(self, livemode: bool) -> list[Connection]:
        """What is good for a mode, newest first."""
        return [one for one in reversed(self._all.values()) if one.good_for(livemode)]

    def connect(self, connection: Connection) -> None:
        """Let the platform in; again is another scope."""
        self._ever = True
        key = (connection.account, connection.client_id)
        new = key not in self._all
        self._all[key] = connection
        for watcher in self.watchers if new else ():
            watcher(connection, begun=True)

    def restore(self, connection: Connection) -> None:
        """Put back what there was, without a word."""
        self._ever = True
        self._all[connection.account, connection.client_id] = connection

    def find(self, account: str, livemode: bool) -> Connection | None:
        """The connection that reaches furthest for this account and mode."""
        found = [one for one in self._all.values() if one.account == account and one.good_for(livemode)]
        return min(found, key=lambda one: one.scope == "read_only", default=None)

    def of_client(self, account: str, client_id: str) -> Connection | None:
        """The connection of one client."""
        return self._all.get((account, client_id))

    def end(self, connection: Connection) -> None:
        """Show the platform out."""
        if self._all.pop((connection.account, connection.client_id), None) is not None:
            for watcher in self.watchers:
                watcher(connection, begun=False)

    def lets_in(self, account: str, livemode: bool) -> bool:
        """Whether the platform may act for an account in a mode."""
        return not self.strict or self.find(account, livemode) is not None

    def admit(self, key: str, account: str, method: str, livemode: bool) -> None:
        """Let a call for an account through.

        Raises:
            StripeFailure: 403, there is no connection (`account_invalid`), or only one for reading.
        """
        if not self.strict:
            return
        connection = self.find(account, livemode)
        if connection is None:
            raise no_access(key, account)
        if connection.scope == "read_only" and method != "GET":
            raise only_reading(account)


def only_reading(account: str) -> StripeFailure:
    """403: the scope is `read_only`."""
    return StripeFailure(
        403,
        f"This application does not have the required permissions for this endpoint on account '{account}'. "
        "Having the 'read_write' scope would allow this request to continue.",
    )


def no_access(key: str, account: str) -> StripeFailure:
    """403 (a status that is documented nowhere): not connected, no longer, or not in this mode."""
    return StripeFailure(
        403,
        f"The provided key '{key[:8]}***{key[-4:]}' does not have access to account '{account}' (or that account "
        "does not exist). Application access may have been revoked.",
        code="account_invalid",
    )
