"""OAuth with Stripe: the link, the one exchange of its code, new tokens for old ones, and the end of a connection.

Sources: docs.stripe.com/connect/oauth-reference, docs.stripe.com/stripe-apps/api-authentication/oauth. The two differ
in the hosts; apps get tokens that end after an hour, Connect's platform acts with its own key.
"""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import stripe

from otel_usageflow.exporters.stripe_meter.answers import explained
from otel_usageflow.exporters.stripe_meter.connect_config import ConnectConfig
from otel_usageflow.exporters.stripe_meter.connect_keys import Tokens
from otel_usageflow.exporters.stripe_meter.wire import REMEDY, UnexpectedAnswer, only_from_stripe

MARKETPLACE = "https://marketplace.stripe.com"
"""Where apps are installed."""
STRIPES_CONNECT = "https://connect.stripe.com"
APP_LIFE = 3600.0
"""Seconds for which an access token of an app works, where Stripe's answer does not say."""
APP_SCOPE = "stripe_apps"

_SECRET = re.compile(r"\b(?:ac|rt|sk|rk|pk)_\w+")
_MOST_SAID = 300


@dataclass(frozen=True, slots=True)
class Granted:
    """What an exchange brought. Times are unix seconds by Stripe's clock, 0 if it did not tell."""

    account: str
    livemode: bool
    scope: str
    tokens: Tokens
    life: float
    """Seconds for which the access token works."""
    at: float


def link(config: ConnectConfig, connect_base: str, state: str, email: str = "") -> str:
    """The address that the owner of an account opens.

    Args:
        config: `connect`.
        connect_base: `endpoints::connect`; a test double has the pages of both kinds there.
        state: comes back with the answer.
        email: fills the form for a new account, under `oauth`.
    """
    base = connect_base.rstrip("/")
    values = {"client_id": config.client_id, "redirect_uri": config.redirect_uri, "state": state}
    if config.kind == "app":
        return f"{MARKETPLACE if base == STRIPES_CONNECT else base}/oauth/v2/authorize?{urlencode(values)}"
    values |= {"response_type": "code", "scope": config.scope}
    if email:
        values["stripe_user[email]"] = email
    return f"{base}/oauth/authorize?{urlencode(values)}"


class OAuth:
    """The calls. Each is one attempt, and raises `StripeFailure`."""

    def __init__(self, client: stripe.StripeClient, config: ConnectConfig) -> None:
        self._client = client
        self._app = config.kind == "app"
        self._client_id = config.client_id
        secret = config.client_secret
        self._options = {} if secret is None else {"api_key": secret.get_secret_value().strip()}

    async def exchange(self, code: str) -> Granted:
        """Turn a code into a connection. Only once: a code that is used twice revokes what it made."""
        return await self._token({"grant_type": "authorization_code", "code": code})

    async def refresh(self, refresh_token: str) -> Granted:
        """New tokens; the refresh token that is given here is void from then on."""
        return await self._token({"grant_type": "refresh_token", "refresh_token": refresh_token})

    async def deauthorize(self, account: str) -> None:
        """End a connection (`oauth` only)."""
        with only_from_stripe():
            answer: Any = await self._client.raw_request_async(
                "post",
                "/oauth/deauthorize",
                base="connect",
                client_id=self._client_id,
                stripe_user_id=account,
                **self._options,
            )
            if answer.data["stripe_user_id"] != account:
                raise UnexpectedAnswer("the answer is about another account; " + REMEDY)

    async def _token(self, values: Mapping[str, str]) -> Granted:
        path, base = ("/v1/oauth/token", "api") if self._app else ("/oauth/token", "connect")
        with only_from_stripe():
            answer: Any = await self._client.raw_request_async("post", path, base=base, **values, **self._options)
            return _granted(answer.data, answer.headers)


def told(error: BaseException) -> str:
    """The code of an error in OAuth's shape, as `invalid_grant`; empty if it has another."""
    if not isinstance(error, stripe.StripeError) or isinstance(error, stripe.APIConnectionError):
        return ""
    body = error.json_body
    code = body.get("error") if isinstance(body, dict) else None
    if isinstance(code, dict):
        code = code.get("code") or code.get("type")
    return code if isinstance(code, str) else ""


def said(error: BaseException) -> str:
    """An error of a call in one line, for logs and people; OAuth's sentences may quote codes and tokens, this not."""
    word = told(error)
    if not word or not isinstance(error, stripe.StripeError):
        return _SECRET.sub("[REDACTED]", explained(error))  # an answer that broke off is quoted
    body: Any = error.json_body
    sentence = _SECRET.sub("[REDACTED]", str(body.get("error_description") or ""))[:_MOST_SAID]
    return f"{error.http_status} {word}" + (f": {sentence}" if sentence else "")


def is_definite(error: BaseException) -> bool:
    """Whether Stripe said no, so that nothing was exchanged; silence and failures of its own are none."""
    return bool(told(error)) and isinstance(error, stripe.StripeError) and 400 <= (error.http_status or 0) < 500


def is_not_connected(error: BaseException) -> bool:
    """Whether Stripe says, to a request to end a connection, that there is none.

    It says `invalid_client` also of a wrong client id or mode; only the sentence tells them apart.
    """
    body: Any = error.json_body if isinstance(error, stripe.StripeError) else None
    return told(error) == "invalid_client" and "not connected to stripe account" in str(body)


def _granted(facts: Mapping[str, Any], headers: Mapping[str, str]) -> Granted:
    account, access = str(facts["stripe_user_id"]), str(facts["access_token"])
    if not account.startswith("acct_") or not access:
        raise UnexpectedAnswer("the answer names no account; " + REMEDY)
    return Granted(
        account,
        facts["livemode"] in (True, "true"),
        str(facts.get("scope") or ""),
        Tokens(access, str(facts.get("refresh_token") or "")),
        float(facts.get("expires_in") or APP_LIFE),
        _date(headers),
    )


def _date(headers: Mapping[str, str]) -> float:
    with contextlib.suppress(TypeError, ValueError):
        return parsedate_to_datetime(str(headers.get("Date"))).timestamp()
    return 0.0
