"""OAuth of Connect and of Stripe Apps: a merchant's consent, the exchange of its code, tokens, and the end of it all.

Which error stands for what is documented, the sentences are not, but for that of a code used twice. Errors of the
exchange have OAuth's shape. Sources: docs.stripe.com/connect/oauth-reference,
docs.stripe.com/stripe-apps/api-authentication/oauth.
"""

import secrets
import urllib.parse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.connections import Connection, Connections, Scope
from otel_usageflow.testing.stripe.failures import StripeFailure, invalid, key_expired
from otel_usageflow.testing.stripe.message import JsonObject
from otel_usageflow.testing.stripe.oauth_codes import (
    HOUR,
    Code,
    OAuthRefusal,
    Token,
    invalid_client,
    invalid_grant,
    invalid_request,
    new_token,
)

CODE_LIFE = 300.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One visit of a merchant to the page of consent."""

    client_id: str
    livemode: bool
    scope: Scope
    state: str | None
    redirect_uri: str

    def back(self, **values: str) -> str:
        """Where the browser is sent."""
        given = values if self.state is None else values | {"state": self.state}
        joint = "&" if urllib.parse.urlsplit(self.redirect_uri).query else "?"
        return f"{self.redirect_uri}{joint}{urllib.parse.urlencode(given)}"


class OAuth:
    """The clients of the platform, their codes and their tokens.

    Args:
        client_ids: of the platform; `_live_` in one means live mode.
    """

    def __init__(self, clock: Clock, connections: Connections, client_ids: Iterable[str]) -> None:
        self._clock, self._connections = clock, connections
        self.client_ids = list(client_ids)
        self.redirect_uris: list[str] = []
        """Addresses that a browser may be sent back to; any while the list is empty."""
        self._asks: dict[str, Ask] = {}
        self._codes: dict[str, Code] = {}
        self._by_access: dict[str, Token] = {}
        self._by_refresh: dict[str, Token] = {}

    def client_of(self, livemode: bool) -> str:
        """The platform's client id in a mode.

        Raises:
            ValueError: it has none.
        """
        for client_id in self.client_ids:
            if ("_live_" in client_id) == livemode:
                return client_id
        raise ValueError(f"this double has no client id of {'live' if livemode else 'test'} mode")

    def ask(self, values: Mapping[str, str], *, app: bool) -> Ask:
        """What a link asks a merchant for.

        Raises:
            StripeFailure: 400, the client id or the address to return to is none of the platform's, so that the
                browser is sent nowhere.
            OAuthRefusal: the other errors, which are brought back to the platform; its `back` is the address.
        """
        client_id = values.get("client_id", "")
        if client_id not in self.client_ids:
            raise invalid(f"No application matches the supplied client identifier: {client_id[:40]!r}", "client_id")
        redirect = values.get("redirect_uri") or next(iter(self.redirect_uris), "")
        if not redirect or (self.redirect_uris and redirect not in self.redirect_uris):
            raise invalid(
                f"Invalid redirect URI {redirect!r}: it must be exactly one of those in the platform's settings.",
                "redirect_uri",
            )
        scope = values.get("scope") or "read_only"
        ask = Ask(
            client_id,
            "_live_" in client_id,
            "stripe_apps" if app else "read_write" if scope == "read_write" else "read_only",
            values.get("state"),
            redirect,
        )
        if not app and values.get("response_type") != "code":
            raise Returned(ask, "unsupported_response_type", "The response_type must be code.")
        if not app and scope not in ("read_only", "read_write"):
            raise Returned(ask, "invalid_scope", "The scope must be read_only or read_write.")
        return ask

    def open(self, ask: Ask) -> str:
        """Show the page of consent; returns what its buttons say to be about this visit."""
        visit = secrets.token_urlsafe(12)
        self._asks[visit] = ask
        return visit

    def close(self, visit: str) -> Ask:
        """A merchant has pressed a button.

        Raises:
            StripeFailure: 400, of a page that is none, or was answered before.
        """
        ask = self._asks.pop(visit, None)
        if ask is None:
            raise invalid("This page has expired; follow the link again.", "visit")
        return ask

    def approve(self, ask: Ask, account: str) -> str:
        """Let the platform in; returns the address with the code."""
        code = Code(
            f"ac_{secrets.token_hex(16)}",
            account,
            ask.client_id,
            ask.livemode,
            ask.scope,
            self._clock.now() + CODE_LIFE,
        )
        self._codes[code.value] = code
        if ask.scope == "stripe_apps":
            return ask.back(code=code.value, stripe_user_id=account)
        return ask.back(code=code.value, scope=ask.scope)

    @staticmethod
    def deny(ask: Ask) -> str:
        """Keep the platform out; returns the address that says so."""
        return ask.back(error="access_denied", error_description="The user denied your request")

    def exchange(self, values: Mapping[str, str], *, livemode: bool, app: bool) -> JsonObject:
        """POST /oauth/token of Connect, or /v1/oauth/token of apps.

        Args:
            livemode: the mode of the key that asks.

        Raises:
            OAuthRefusal: it is not granted.
        """
        match values.get("grant_type"):
            case "authorization_code":
                return self._for_code(values.get("code", ""), livemode, app)
            case "refresh_token":
                return self._for_refresh(values.get("refresh_token", ""), values.get("scope"), livemode, app)
            case None | "":
                raise invalid_request("Missing required parameter: grant_type")
            case other:
                raise OAuthRefusal("unsupported_grant_type", f"Unsupported grant type: {other[:40]}")

    def deauthorize(self, values: Mapping[str, str], *, livemode: bool) -> JsonObject:
        """POST /oauth/deauthorize.

        Raises:
            OAuthRefusal: the account is not connected through this client, or the mode is another.
        """
        client_id, account = values.get("client_id", ""), values.get("stripe_user_id", "")
        if not client_id or not account:
            raise invalid_request(f"Missing required parameter: {'stripe_user_id' if client_id else 'client_id'}")
        if client_id not in self.client_ids or ("_live_" in client_id) != livemode:
            raise invalid_client(f"No such application in this mode: {client_id[:40]}")
        connection = self._connections.of_client(account, client_id)
        if connection is None:
            raise invalid_client(
                f"This application is not connected to stripe account {account[:40]}, or that account does not exist."
            )
        self._connections.end(connection)
        return {"stripe_user_id": account}

    def revoke(self, connection: Connection) -> None:
        """Let every token of a connection be worth nothing."""
        for token in self._by_access.values():
            if (token.account, token.client_id) == (connection.account, connection.client_id):
                token.revoked = True

    def token_of(self, key: str) -> Token | None:
        """The token that is used as a key, if it is one.

        Raises:
            StripeFailure: 401, it has expired (`api_key_expired`) or was revoked (`platform_api_key_expired`).
        """
        token = self._by_access.get(key)
        if token is None:
            return None
        if token.revoked:
            message = "The API key provided by your Connect platform has expired."
            raise StripeFailure(401, message, code="platform_api_key_expired")
        if self._clock.now() >= token.expires:
            raise key_expired(key)
        return token

    def _for_code(self, value: str, livemode: bool, app: bool) -> JsonObject:
        if not value:
            raise invalid_request("Missing required parameter: code")
        code = self._codes.get(value)
        if code is None or (code.scope == "stripe_apps") != app:
            raise invalid_grant(f"Authorization code does not exist: {value[:40]}")
        if code.used:
            connection = self._connections.of_client(code.account, code.client_id)
            for token in code.tokens:
                token.revoked = True
            if connection is not None and code.tokens:
                self._connections.end(connection)
            raise invalid_grant(
                "This authorization code has already been used. All tokens issued with this code have been revoked."
            )
        if self._clock.now() >= code.expires:
            raise invalid_grant(f"Authorization code expired: {value[:40]}")
        if code.livemode != livemode:
            raise invalid_grant("The authorization code and the API key are not of the same mode.")
        code.used = True
        now = self._clock.now()
        self._connections.connect(Connection(code.account, code.client_id, livemode, code.scope, int(now)))
        token = self._issue(new_token(code.account, code.client_id, livemode, code.scope, now, HOUR))
        code.tokens.append(token)
        return _shown(token)

    def _for_refresh(self, value: str, scope: str | None, livemode: bool, app: bool) -> JsonObject:
        if not value:
            raise invalid_request("Missing required parameter: refresh_token")
        old = self._by_refresh.get(value)
        now = self._clock.now()
        if old is None or old.app != app or old.revoked or old.replaced or now >= old.refresh_expires:
            raise invalid_grant("The refresh token does not exist, has expired, or was revoked.")
        if (livemode and not old.livemode) or (app and livemode != old.livemode):
            raise invalid_grant("The refresh token and the API key are not of the same mode.")
        if scope not in (None, "", "read_only", old.scope):
            raise OAuthRefusal("invalid_scope", "The scope may be equal or lesser than the one that was granted.")
        granted: Scope = "read_only" if scope == "read_only" and not app else old.scope
        token = new_token(old.account, old.client_id, livemode, granted, now, HOUR)
        if app:
            old.replaced = True
        else:
            token.refresh = old.refresh  # which stays good, and for what was granted first
            self._by_access[token.access] = token
            return _shown(token)
        return _shown(self._issue(token))

    def _issue(self, token: Token) -> Token:
        self._by_access[token.access] = self._by_refresh[token.refresh] = token
        return token


class Returned(OAuthRefusal):
    """An error that the browser brings back to the platform."""

    def __init__(self, ask: Ask, word: str, description: str) -> None:
        super().__init__(word, description)
        self.url = ask.back(error=word, error_description=description)


def _shown(token: Token) -> JsonObject:
    mode = "live" if token.livemode else "test"
    return {
        "access_token": token.access,
        "livemode": token.livemode,
        "refresh_token": token.refresh,
        "scope": token.scope,
        "stripe_publishable_key": f"pk_{mode}_{token.account.removeprefix('acct_')}",
        "stripe_user_id": token.account,
        "token_type": "bearer",
    }
