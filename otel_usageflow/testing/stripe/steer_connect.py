"""Keys, connected accounts and OAuth, as tests steer them."""

from otel_usageflow.testing.stripe.connections import Connection, Scope
from otel_usageflow.testing.stripe.oauth import OAuth
from otel_usageflow.testing.stripe.steering import Steering


class ConnectSteering(Steering):
    """The part of the double that lets the platform into other accounts, and out again."""

    @property
    def oauth(self) -> OAuth:
        """Client ids, addresses to return to, codes and tokens."""
        return self.api.oauth

    def client_id(self, *, livemode: bool | None = None) -> str:
        """The platform's client id; of the mode of the first key by default."""
        return self.oauth.client_of(self._mode(livemode))

    def revoke_key(self, key: str) -> None:
        """Let a key be known no more: 401."""
        self.api.keys.discard(key)

    def roll_key(self, old: str, new: str) -> None:
        """Replace a key by another that may do the same: the old one is a 401 `api_key_expired`."""
        self.api.keyring.roll(old, new)

    def connect_account(
        self, account: str, *, livemode: bool | None = None, scope: Scope = "read_write"
    ) -> Connection:
        """Let the platform's keys act for an account, as if OAuth had been gone through before.

        From the first connection on, accounts that are not connected are refused; see `Settings.account_access`.

        Args:
            livemode: a connection of live mode is good for both modes; the mode of the first key by default.
        """
        mode = self._mode(livemode)
        connection = Connection(account, self.client_id(livemode=mode), mode, scope, int(self.clock.now()))
        self.api.connections.connect(connection)
        return connection

    def disconnect_account(self, account: str, *, livemode: bool | None = None) -> None:
        """Let a merchant end the connection in their dashboard: `account.application.deauthorized` tells of it.

        Raises:
            KeyError: there is none.
        """
        connection = self.api.connections.of_client(account, self.client_id(livemode=livemode))
        if connection is None:
            raise KeyError(f"{account} is not connected")
        self.api.connections.end(connection)

    def connected(self, *, livemode: bool | None = None) -> list[str]:
        """The accounts that the keys of a mode may act for."""
        return sorted({one.account for one in self.api.connections.all(self._mode(livemode))})

    def approve(self, url: str, account: str | None = None) -> str:
        """Do what a merchant does who follows an OAuth link and agrees; returns where the browser is sent.

        Args:
            account: which account agrees; a new one by default.
        """
        return self.api.pages.visit(url, choice="approve", account=account)

    def deny(self, url: str) -> str:
        """The same, but the merchant refuses."""
        return self.api.pages.visit(url, choice="deny", account=None)

    def _mode(self, livemode: bool | None) -> bool:
        return "_live_" in self.api_key if livemode is None else livemode
