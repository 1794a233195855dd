"""How a call says for whom it is made: nothing for the key's own account, a header or a token for a connected one."""

from collections.abc import Mapping
from typing import Any, Protocol

from otel_usageflow.ledger.connections import Connection, ConnectionState


class NotConnected(Exception):
    """There is no way to act for an account; nothing was sent. `remedy`: what to do."""

    def __init__(self, account: str, why: str, remedy: str) -> None:
        super().__init__(f"account {account}: {why}")
        self.account = account
        self.remedy = remedy


class Access(Protocol):
    """Request options of the `stripe` package for one account; empty stands for the key's own.

    Raises `NotConnected`.
    """

    def v1(self, account: str, **options: str) -> Any:
        """For `/v1`."""

    def v2(self, account: str) -> Any:
        """For `/v2`, which names accounts by their context."""


class PlatformAccess:
    """The exporter's own key acts for every account (docs.stripe.com/connect/authentication)."""

    def v1(self, account: str, **options: str) -> Any:
        """With `Stripe-Account`."""
        return {**options, "stripe_account": account} if account else options

    def v2(self, account: str) -> Any:
        """With `Stripe-Context`."""
        return {"stripe_context": account} if account else {}


class OAuthAccess(PlatformAccess):
    """The same, but not for an account whose connection is over.

    An account that was connected by other means is none of ours to judge: Stripe knows.
    """

    def __init__(self) -> None:
        self._connections: Mapping[str, Connection] = {}

    def learn(self, connections: Mapping[str, Connection], _tokens: Mapping[str, str]) -> None:
        """These are the connections from now on."""
        self._connections = connections

    def v1(self, account: str, **options: str) -> Any:
        """With `Stripe-Account`."""
        self._check(account)
        return super().v1(account, **options)

    def v2(self, account: str) -> Any:
        """With `Stripe-Context`."""
        self._check(account)
        return super().v2(account)

    def _check(self, account: str) -> None:
        connection = self._connections.get(account)
        if connection is not None and not connection.usable:
            raise _over(connection)


class AppAccess:
    """A token for each account that has installed the app; the exporter's key acts for its own account only."""

    def __init__(self) -> None:
        self._connections: Mapping[str, Connection] = {}
        self._tokens: Mapping[str, str] = {}

    def learn(self, connections: Mapping[str, Connection], tokens: Mapping[str, str]) -> None:
        """These are the connections, and the access tokens by account, from now on."""
        self._connections, self._tokens = connections, tokens

    def v1(self, account: str, **options: str) -> Any:
        """With the account's token as key."""
        return {**options, **self._key(account)}

    def v2(self, account: str) -> Any:
        """With the account's token as key."""
        return self._key(account)

    def _key(self, account: str) -> dict[str, str]:
        if not account:
            return {}
        if token := self._tokens.get(account):
            return {"api_key": token}
        connection = self._connections.get(account)
        if connection is None:
            raise NotConnected(account, "it has not installed the app", _CONNECT)
        if not connection.usable:
            raise _over(connection)
        raise NotConnected(
            account,
            "its tokens cannot be read",
            "put the encryption key back that they were encrypted with, behind the present one; or " + _CONNECT,
        )


_CONNECT = "connect it again: make a link with `otel-usageflow connect url`, and let the owner of the account open it"


def _over(connection: Connection) -> NotConnected:
    why = {
        ConnectionState.REMOVED: "it was removed with `connect remove`",
        ConnectionState.DEAUTHORIZED: "its owner has ended the connection in Stripe",
        ConnectionState.LOST: "its refresh token is valid no more",
    }.get(connection.state, "its connection is over")
    return NotConnected(connection.account, f"{why}; its usage is kept", _CONNECT)
