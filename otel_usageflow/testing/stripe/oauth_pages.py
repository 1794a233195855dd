"""The addresses of OAuth: the page on which a merchant consents, and the exchange of codes and tokens.

The page has two links, which a test (or a person) follows: `.../answer?visit=...&choice=approve` and `choice=deny`;
`&account=acct_...` says which account consents, a new one otherwise. `Settings.consent` answers without a page.
"""

import html
import urllib.parse
from collections.abc import Callable, Mapping

from otel_usageflow.testing.stripe.failures import invalid, unknown_path
from otel_usageflow.testing.stripe.ids import new_id
from otel_usageflow.testing.stripe.message import Answer, Request
from otel_usageflow.testing.stripe.oauth import Ask, OAuth, Returned
from otel_usageflow.testing.stripe.oauth_codes import invalid_client
from otel_usageflow.testing.stripe.settings import Settings

AUTHORIZE = "/oauth/authorize"
AUTHORIZE_APP = "/oauth/v2/authorize"
ANSWER = "/oauth/answer"
TOKEN = "/oauth/token"
TOKEN_APP = "/v1/oauth/token"
DEAUTHORIZE = "/oauth/deauthorize"
PATHS = frozenset({AUTHORIZE, AUTHORIZE_APP, ANSWER, TOKEN, TOKEN_APP, DEAUTHORIZE})


class OAuthPages:
    """Answers the calls of OAuth.

    Args:
        keys: the platform's own keys, which authenticate the exchange.
    """

    def __init__(self, oauth: OAuth, settings: Settings, keys: set[str], changed: Callable[[], None]) -> None:
        self._oauth, self._settings, self._keys, self._changed = oauth, settings, keys, changed

    def answer(self, request: Request, key: str) -> Answer:
        """Answer one call.

        Raises:
            StripeFailure: 400, 401 or 404; those of the exchange in OAuth's shape.
        """
        try:
            request.decode()
        except ValueError:
            raise invalid("The parameters cannot be read.") from None
        values = dict(request.pairs)
        match request.method, request.path:
            case "GET", path if path in (AUTHORIZE, AUTHORIZE_APP):
                return self._authorize(values, app=path == AUTHORIZE_APP)
            case "GET", path if path == ANSWER:
                ask = self._oauth.close(values.get("visit", ""))
                return self._choose(ask, values.get("choice", ""), values.get("account"))
            case "POST", path if path in (TOKEN, TOKEN_APP, DEAUTHORIZE):
                livemode = self._livemode(values.get("client_secret") or key)
                try:
                    if path == DEAUTHORIZE:
                        return Answer(200, self._oauth.deauthorize(values, livemode=livemode))
                    return Answer(200, self._oauth.exchange(values, livemode=livemode, app=path == TOKEN_APP))
                finally:
                    self._changed()
        raise unknown_path(request.method, request.path)

    def visit(self, url: str, *, choice: str, account: str | None) -> str:
        """Do what a merchant's browser does with a link; returns the address that it is sent back to.

        Raises:
            StripeFailure: it is sent nowhere.
        """
        parts = urllib.parse.urlsplit(url)
        if parts.path not in (AUTHORIZE, AUTHORIZE_APP):
            raise unknown_path("GET", parts.path)
        values = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        try:
            ask = self._oauth.ask(values, app=parts.path == AUTHORIZE_APP)
        except Returned as returned:
            return returned.url
        return self._chosen(ask, choice, account)

    def _authorize(self, values: Mapping[str, str], *, app: bool) -> Answer:
        try:
            ask = self._oauth.ask(values, app=app)
        except Returned as returned:
            return _sent_to(returned.url)
        if self._settings.consent != "page":
            return self._choose(ask, self._settings.consent, None)
        visit = self._oauth.open(ask)
        return Answer(200, {}, {"Content-Type": "text/html; charset=utf-8"}, text=_page(ask, visit))

    def _choose(self, ask: Ask, choice: str, account: str | None) -> Answer:
        return _sent_to(self._chosen(ask, choice, account))

    def _chosen(self, ask: Ask, choice: str, account: str | None) -> str:
        if choice not in ("approve", "deny"):
            raise invalid("The choice is approve or deny.", "choice")
        if choice == "deny":
            return self._oauth.deny(ask)
        return self._oauth.approve(ask, account or new_id("acct", 16))

    def _livemode(self, key: str) -> bool:
        if not key:
            raise invalid_client("No API key was provided; send the platform's secret key.")
        if key not in self._keys or not key.startswith("sk_"):
            raise invalid_client(f"No such secret key of a platform: {key[:8]}***")
        return "_live_" in key


def _sent_to(url: str) -> Answer:
    return Answer(302, {}, {"Location": url, "Content-Type": "text/html; charset=utf-8"}, text="")


def _page(ask: Ask, visit: str) -> str:
    links = "".join(
        f'<p><a href="{ANSWER}?visit={visit}&amp;choice={choice}">{choice}</a></p>' for choice in ("approve", "deny")
    )
    mode = "live mode" if ask.livemode else "test mode"
    return (
        f"<!doctype html><title>Connect</title><h1>{html.escape(ask.client_id)} asks for {ask.scope} in {mode}</h1>"
        f"{links}"
    )
