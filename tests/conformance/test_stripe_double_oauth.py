"""OAuth of Connect and of Stripe Apps, through the real client."""

import urllib.parse
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import stripe
from stripe.oauth_error import (
    InvalidClientError,
    InvalidGrantError,
    InvalidRequestError,
    InvalidScopeError,
    UnsupportedGrantTypeError,
)
from stripe_sdk import sdk

from otel_usageflow.testing.stripe import Fault, ManualClock, StripeDouble

NOW = 1_790_000_000
BACK = "http://127.0.0.1:1/callback"
KEYS = ["sk_test_double", "sk_live_double"]


@pytest.fixture
async def double() -> AsyncIterator[StripeDouble]:
    """A platform with keys of both modes and one registered address."""
    async with StripeDouble(KEYS, clock=ManualClock(NOW)) as running:
        running.oauth.redirect_uris = [BACK]
        yield running


def link(client: stripe.StripeClient, double: StripeDouble, **values: Any) -> str:
    """The link that a platform shows."""
    given: Any = {"client_id": double.client_id(), "scope": "read_write", "state": "s&1", "redirect_uri": BACK}
    asked: Any = {name: value for name, value in (given | values).items() if value is not None}
    return client.oauth.authorize_url(asked)


def query(url: str) -> dict[str, str]:
    """What a browser brings back."""
    assert url.startswith(BACK + "?")
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query, strict_parsing=True))


def token(client: stripe.StripeClient, **params: Any) -> Any:
    """POST /oauth/token; the client's OAuth is synchronous, so this goes around it."""
    return client._requestor.request_async("post", "/oauth/token", params=params, options={}, base_address="connect")


def code_of(error: stripe.StripeError) -> Any:
    """The code, which this client keeps for some kinds of errors only."""
    body: Any = error.json_body
    return body["error"]["code"]


def for_code(client: stripe.StripeClient, code: str) -> Any:
    """Exchange a code."""
    return token(client, grant_type="authorization_code", code=code)


async def test_a_merchant_agrees_and_the_platform_is_in(double: StripeDouble) -> None:
    """The code comes back with state and scope; exchanged, it lets the platform's key act for the account."""
    async with sdk(double) as client:
        back = query(double.approve(link(client, double), "acct_shop"))
        assert (back["state"], back["scope"], set(back)) == ("s&1", "read_write", {"state", "scope", "code"})
        assert double.connected() == []
        granted = await for_code(client, back["code"])
        assert (granted["stripe_user_id"], granted["token_type"], granted["livemode"]) == (
            "acct_shop",
            "bearer",
            False,
        )
        assert granted["scope"] == "read_write"
        assert double.connected() == ["acct_shop"]
        double.add_customer({"account_id": "acme"}, account="acct_shop")
        found = await client.v1.customers.list_async(options={"stripe_account": "acct_shop"})
        assert len(found.data) == 1
        with pytest.raises(stripe.PermissionError) as caught:
            await client.v1.customers.list_async(options={"stripe_account": "acct_other"})
        assert code_of(caught.value) == "account_invalid"
    async with sdk(double, api_key=granted["access_token"]) as merchant:
        assert len((await merchant.v1.customers.list_async()).data) == 1


async def test_a_browser_follows_the_page(double: StripeDouble) -> None:
    """The page has two links, each good once; a merchant who refuses brings `access_denied` back."""
    async with sdk(double) as client, aiohttp.ClientSession() as browser:
        for choice in ("approve", "deny"):
            async with browser.get(link(client, double)) as page:
                assert page.content_type == "text/html"
                text = await page.text()
            path = text.split(f'choice={choice}"')[0].rpartition('href="')[2].replace("&amp;", "&")
            address = f"{double.url}{path}choice={choice}"
            async with browser.get(address, allow_redirects=False) as sent:
                assert sent.status == 302
                back = query(sent.headers["Location"])
            async with browser.get(address, allow_redirects=False) as again:
                assert again.status == 400
        assert (back["error"], back["state"]) == ("access_denied", "s&1")
        double.settings.consent = "approve"
        async with browser.get(link(client, double), allow_redirects=False) as sent:
            granted = await for_code(client, query(sent.headers["Location"])["code"])
    assert granted["stripe_user_id"].startswith("acct_")


async def test_a_code_used_twice_ends_the_connection(double: StripeDouble) -> None:
    """The second use is refused and takes away what the first had brought; an event tells of it."""
    async with sdk(double) as client:
        code = query(double.approve(link(client, double), "acct_shop"))["code"]
        granted = await for_code(client, code)
        with pytest.raises(InvalidGrantError, match="already been used"):
            await for_code(client, code)
        assert double.connected() == []
        events = (await client.v1.events.list_async({"type": "account.application.deauthorized"})).data
        assert [event.account for event in events] == ["acct_shop"]
        with pytest.raises(InvalidGrantError):
            await token(client, grant_type="refresh_token", refresh_token=granted["refresh_token"])
    async with sdk(double, api_key=granted["access_token"]) as merchant:
        with pytest.raises(stripe.AuthenticationError) as caught:
            await merchant.v1.customers.list_async()
        assert code_of(caught.value) == "platform_api_key_expired"


async def test_a_code_is_good_for_5_minutes_and_one_mode(double: StripeDouble) -> None:
    """Later, in the other mode, or unknown: `invalid_grant`, and nothing is connected."""
    async with sdk(double) as client, sdk(double, api_key=KEYS[1]) as live:
        for wait, by in ((299, client), (300, client), (0, live)):
            code = query(double.approve(link(client, double), f"acct_{wait}"))["code"]
            double.clock.advance(wait)
            if wait == 299:
                await for_code(by, code)
                continue
            with pytest.raises(InvalidGrantError):
                await for_code(by, code)
        with pytest.raises(InvalidGrantError):
            await for_code(client, "ac_unknown")
    assert double.connected() == ["acct_299"]


async def test_what_a_link_asks_for_is_checked(double: StripeDouble) -> None:
    """A client or an address that is not the platform's leads nowhere; a wrong scope is brought back."""
    async with sdk(double) as client, aiohttp.ClientSession() as browser:
        for wrong in ({"client_id": "ca_other"}, {"redirect_uri": BACK + "/"}, {"redirect_uri": "https://evil.test"}):
            async with browser.get(link(client, double, **wrong), allow_redirects=False) as answer:
                assert answer.status == 400
        assert query(double.approve(link(client, double, scope="all")))["error"] == "invalid_scope"
        other = double.approve(link(client, double, response_type="token"))
        assert query(other)["error"] == "unsupported_response_type"
        assert query(double.approve(link(client, double, scope=None)))["scope"] == "read_only"
        assert query(double.approve(link(client, double, redirect_uri=None, state=None))).keys() == {"code", "scope"}


async def test_reading_only_is_reading_only(double: StripeDouble) -> None:
    """A connection with the scope `read_only` lists customers and makes none."""
    double.connect_account("acct_shop", scope="read_only")
    async with sdk(double, account="acct_shop") as client:
        await client.v1.customers.list_async()
        with pytest.raises(stripe.PermissionError, match="read_write"):
            await client.v1.customers.create_async({})


async def test_the_exchange_says_what_is_wrong(double: StripeDouble) -> None:
    """Missing parts, strange grants and strange keys are told apart, in OAuth's shape."""
    async with sdk(double) as client:
        with pytest.raises(InvalidRequestError):
            await token(client, code="x")
        with pytest.raises(InvalidRequestError):
            await token(client, grant_type="authorization_code")
        with pytest.raises(UnsupportedGrantTypeError):
            await token(client, grant_type="password")
        with pytest.raises(InvalidClientError):
            await token(client, grant_type="authorization_code", code="x", client_secret="sk_test_other")
    double.api.keys.add("rk_test_restricted")
    async with sdk(double, api_key="rk_test_restricted") as restricted:
        with pytest.raises(InvalidClientError):
            await for_code(restricted, query(double.approve(link(restricted, double)))["code"])
    async with sdk(double, api_key="sk_test_wrong") as stranger:
        with pytest.raises(InvalidClientError) as caught:
            await for_code(stranger, "ac_1")
        assert "sk_test_wrong" not in str(caught.value)


async def test_a_refresh_token_of_connect_stays_good(double: StripeDouble) -> None:
    """It brings tokens of the same or a lesser scope, and of test mode from a connection of live mode."""
    live_link = {"client_id": double.client_id(livemode=True)}
    async with sdk(double) as client, sdk(double, api_key=KEYS[1]) as live:
        code = query(double.approve(link(live, double, **live_link), "acct_shop"))["code"]
        refresh = (await for_code(live, code))["refresh_token"]
        for by, mode in ((live, True), (live, True), (client, False)):
            granted = await token(by, grant_type="refresh_token", refresh_token=refresh)
            assert (granted["livemode"], granted["refresh_token"]) == (mode, refresh)
        lesser = await token(live, grant_type="refresh_token", refresh_token=refresh, scope="read_only")
        async with sdk(double, api_key=lesser["access_token"]) as reader:
            await reader.v1.customers.list_async()
            with pytest.raises(stripe.PermissionError):
                await reader.v1.customers.create_async({})
        with pytest.raises(InvalidScopeError):
            await token(live, grant_type="refresh_token", refresh_token=refresh, scope="everything")
        assert double.connected(livemode=True) == double.connected(livemode=False) == ["acct_shop"]


@pytest.mark.parametrize(
    ("fault", "connected"),
    [
        (Fault.ERROR_BEFORE, False),
        (Fault.ERROR_STORED, False),
        (Fault.UNAVAILABLE, False),
        (Fault.NOT_JSON, False),
        (Fault.RESET_BEFORE, False),
        (Fault.ERROR_AFTER, True),
        (Fault.RESET_AFTER, True),
        (Fault.MALFORMED, True),
    ],
)
async def test_an_exchange_may_fail_before_or_after_it_took_place(
    double: StripeDouble, fault: Fault, connected: bool
) -> None:
    """What failed before can be tried again; what was lost after has used up the code: a second try ends it all."""
    async with sdk(double) as client:
        code = query(double.approve(link(client, double), "acct_shop"))["code"]
        double.fault("/oauth/token", fault)
        with pytest.raises((stripe.APIError, stripe.APIConnectionError)):
            await for_code(client, code)
        assert double.connected() == (["acct_shop"] if connected else [])
        if connected:
            with pytest.raises(InvalidGrantError):
                await for_code(client, code)
            assert double.connected() == []
        else:
            assert (await for_code(client, code))["stripe_user_id"] == "acct_shop"


async def test_deauthorising_ends_the_connection(double: StripeDouble) -> None:
    """The platform's key is refused afterwards; another mode, client or account is `invalid_client`."""
    double.connect_account("acct_shop")
    async with sdk(double, account=None) as client, sdk(double, api_key=KEYS[1]) as live:

        def deauthorise(by: stripe.StripeClient, **values: Any) -> Any:
            params = {"client_id": double.client_id(), "stripe_user_id": "acct_shop"} | values
            return by._requestor.request_async(
                "post", "/oauth/deauthorize", params=params, options={}, base_address="connect"
            )

        for by, wrong in (
            (live, {}),
            (client, {"client_id": "ca_other"}),
            (client, {"stripe_user_id": "acct_other"}),
        ):
            with pytest.raises(InvalidClientError):
                await deauthorise(by, **wrong)
        assert (await deauthorise(client))["stripe_user_id"] == "acct_shop"
        with pytest.raises(stripe.PermissionError):
            await client.v1.customers.list_async(options={"stripe_account": "acct_shop"})


class Marketplace:
    """Stripe Apps, whose addresses are others and whose tokens roll."""

    def __init__(self, double: StripeDouble, http: aiohttp.ClientSession, key: str = KEYS[0]) -> None:
        self.double, self.http, self.key = double, http, key

    def code(self, account: str = "acct_shop") -> str:
        """What comes of a merchant who installs the app."""
        values = {"client_id": self.double.client_id(), "redirect_uri": BACK, "state": "s"}
        url = f"{self.double.url}/oauth/v2/authorize?{urllib.parse.urlencode(values)}"
        return query(self.double.approve(url, account))["code"]

    async def exchange(self, **form: str) -> tuple[int, dict[str, Any]]:
        """POST /v1/oauth/token with the developer's key as the user of Basic."""
        headers = {"Authorization": aiohttp.encode_basic_auth(self.key, "")}
        async with self.http.post(f"{self.double.url}/v1/oauth/token", data=form, headers=headers) as answer:
            return answer.status, await answer.json()

    async def installed(self, account: str = "acct_shop") -> dict[str, Any]:
        """The tokens of a fresh installation."""
        status, granted = await self.exchange(grant_type="authorization_code", code=self.code(account))
        assert (status, granted["scope"], granted["stripe_user_id"]) == (200, "stripe_apps", account)
        return granted


async def test_the_tokens_of_an_app_roll(double: StripeDouble) -> None:
    """An access token is good for an hour; a refresh token for one exchange, which brings the next."""
    async with aiohttp.ClientSession() as http:
        app = Marketplace(double, http)
        first = await app.installed()
        async with sdk(double, api_key=first["access_token"]) as client:
            double.clock.advance(3_599)
            await client.v1.customers.list_async()
            double.clock.advance(1)
            with pytest.raises(stripe.AuthenticationError) as caught:
                await client.v1.customers.list_async()
            assert code_of(caught.value) == "api_key_expired"
        status, second = await app.exchange(grant_type="refresh_token", refresh_token=first["refresh_token"])
        assert (status, second["stripe_user_id"]) == (200, "acct_shop")
        assert second["refresh_token"] != first["refresh_token"]
        status, refused = await app.exchange(grant_type="refresh_token", refresh_token=first["refresh_token"])
        assert (status, refused["error"]) == (400, "invalid_grant")
        double.clock.advance(365 * 86_400)
        status, refused = await app.exchange(grant_type="refresh_token", refresh_token=second["refresh_token"])
        assert (status, refused["error"]) == (400, "invalid_grant")


async def test_codes_of_connect_and_of_apps_are_not_the_same(double: StripeDouble) -> None:
    """Each is exchanged at its own address only; an uninstalled app's token is refused."""
    async with aiohttp.ClientSession() as http, sdk(double) as client:
        app = Marketplace(double, http)
        with pytest.raises(InvalidGrantError):
            await for_code(client, app.code())
        code = query(double.approve(link(client, double)))["code"]
        assert (await app.exchange(grant_type="authorization_code", code=code))[0] == 400
        granted = await app.installed()
        double.disconnect_account("acct_shop")
    async with sdk(double, api_key=granted["access_token"]) as merchant:
        with pytest.raises(stripe.AuthenticationError):
            await merchant.v1.customers.list_async()


async def test_a_token_acts_for_its_account_only(double: StripeDouble) -> None:
    """Whatever header comes with it, another account is refused."""
    async with aiohttp.ClientSession() as http:
        app = Marketplace(double, http)
        granted = await app.installed("acct_a")
        await app.installed("acct_b")
    async with sdk(double, api_key=granted["access_token"], account="acct_b") as client:
        with pytest.raises(stripe.PermissionError):
            await client.v1.customers.list_async()
