"""The retry table: what each answer of Stripe means for a meter event, row by row."""

import errno
import socket
import ssl

import aiohttp
import pytest
import stripe
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from otel_usageflow.exporters.stripe_meter.answers import explained, outcome_of
from otel_usageflow.exporters.stripe_meter.transport import Redirected
from otel_usageflow.exporters.stripe_meter.wire import UnexpectedAnswer
from otel_usageflow.model.outcome import Accepted, Halted, Outcome, Refused, Retry, TooFast
from otel_usageflow.model.usage import Reason

KEY = aiohttp.client_reqrep.ConnectionKey("api", 443, True, True, None, None, None)


def answered(
    status: int,
    message: str = "words",
    *,
    code: str | None = None,
    kind: str = "invalid_request_error",
    headers: dict[str, str] | None = None,
) -> stripe.StripeError:
    """What the `stripe` package raises for an error of Stripe's, made by the package itself."""
    error = {"type": kind, "message": message, **({"code": code} if code else {})}
    return _raised(status, {"error": error}, {"Request-Id": "req_1", **(headers or {})})


def _raised(status: int, body: object, headers: dict[str, str]) -> stripe.StripeError:
    requestor = stripe.StripeClient("sk_test_x")._requestor
    with pytest.raises(stripe.StripeError) as caught:
        requestor.handle_error_response(str(body), status, body, CIMultiDict(headers), "V1")
    return caught.value


def by_someone_else(status: int, text: str = "<html>") -> stripe.StripeError:
    """What the package raises for an answer that is no JSON."""
    return stripe.APIError("Invalid response body from API", text, status, {})


def no_answer(cause: Exception) -> stripe.APIConnectionError:
    """What the package raises when the connection fails."""
    error = stripe.APIConnectionError("Unexpected error communicating with Stripe.")
    error.__cause__ = cause
    return error


def _proxy_says(status: int) -> Exception:
    url = URL("http://proxy:3128")
    info = aiohttp.RequestInfo(url, "CONNECT", CIMultiDictProxy(CIMultiDict()), url)
    return aiohttp.ClientHttpProxyError(info, (), status=status, message="no")


NEVER_SENT: dict[str, Exception] = {
    "no-name": aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_NONAME, "unknown")),
    "no-name-server": aiohttp.ClientConnectorDNSError(KEY, socket.gaierror(socket.EAI_AGAIN, "later")),
    "no-proxy": aiohttp.ClientProxyConnectionError(KEY, ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
    "proxy-407": _proxy_says(407),
    "proxy-403": _proxy_says(403),
    "certificate": aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("bad")),
    "no-tls": aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "wrong version")),
    "no-connection-in-time": aiohttp.ConnectionTimeoutError("api"),
    "no-route": aiohttp.ClientConnectorError(KEY, OSError(errno.EHOSTUNREACH, "no route")),
}
"""The connection was never made."""

REPLAYED = {"Idempotent-Replayed": "true"}
AGAIN = {"Stripe-Should-Retry": "true"}
NEVER = {"Stripe-Should-Retry": "false"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        pytest.param(no_answer(ConnectionResetError("reset")), Retry("", uncertain=True, everyone=True), id="reset"),
        pytest.param(no_answer(TimeoutError()), Retry("", uncertain=True, everyone=True), id="timeout"),
        pytest.param(
            no_answer(aiohttp.ClientConnectorError(KEY, OSError("refused"))), Retry("", everyone=True), id="connect"
        ),
        *(
            pytest.param(no_answer(cause), Retry("", everyone=True), id=f"never-sent-{name}")
            for name, cause in NEVER_SENT.items()
        ),
        pytest.param(
            aiohttp.ClientPayloadError("cut"), Retry("", uncertain=True, everyone=True), id="cut-off-in-the-body"
        ),
        pytest.param(TimeoutError(), Retry("", uncertain=True, everyone=True), id="timeout-in-the-body"),
        pytest.param(UnexpectedAnswer("?"), Retry("", uncertain=True, everyone=True), id="200-but-not-stripe"),
        pytest.param(by_someone_else(200), Retry("", uncertain=True, everyone=True), id="200-no-json"),
        pytest.param(no_answer(Redirected("elsewhere")), Halted("", ""), id="redirect"),
        pytest.param(by_someone_else(304), Halted("", ""), id="3xx"),
        pytest.param(answered(409), Retry("", uncertain=True), id="409"),
        pytest.param(answered(429, code="rate_limit"), Retry("", too_fast=TooFast.UNSAID), id="429"),
        *(
            pytest.param(
                answered(429, headers={"Stripe-Rate-Limited-Reason": why.value}),
                Retry("", too_fast=why),
                id=f"429-{why}",
            )
            for why in TooFast
        ),
        pytest.param(answered(429, code="lock_timeout"), Retry("", too_fast=TooFast.RESOURCE), id="429-lock-timeout"),
        pytest.param(by_someone_else(429), Retry("", too_fast=TooFast.UNSAID), id="429-no-json"),
        pytest.param(answered(500, kind="api_error"), Retry("", uncertain=True), id="500"),
        *(
            pytest.param(answered(status), Retry("", uncertain=True, everyone=True), id=str(status))
            for status in (502, 503, 504)
        ),
        pytest.param(by_someone_else(502), Retry("", uncertain=True, everyone=True), id="502-no-json"),
        pytest.param(answered(500, headers=REPLAYED), Retry("", uncertain=True, new_key=True), id="500-replayed"),
        pytest.param(
            answered(500, headers={**REPLAYED, **NEVER}),
            Retry("", uncertain=True, new_key=True),
            id="500-replayed-should-not-retry-this-key",
        ),
        pytest.param(answered(500, headers=NEVER), Refused(Reason.REJECTED, "", uncertain=True), id="500-never"),
        pytest.param(answered(400, headers=AGAIN), Retry(""), id="400-should-retry"),
        pytest.param(answered(400, headers={**AGAIN, **REPLAYED}), Retry("", new_key=True), id="400-retry-replayed"),
        pytest.param(
            answered(400, "An event already exists with identifier x.", headers=NEVER),
            Accepted(duplicate=True),
            id="duplicate-text",
        ),
        pytest.param(
            answered(400, "An event already exists with identifier x.", headers=REPLAYED),
            Accepted(duplicate=True),
            id="duplicate-replayed",
        ),
        pytest.param(answered(400, code="duplicate_meter_event"), Accepted(duplicate=True), id="duplicate-code"),
        pytest.param(answered(400, 'No active meter found for "x"'), Refused(Reason.NO_METER, ""), id="no-meter"),
        pytest.param(answered(400, code="archived_meter"), Refused(Reason.NO_METER, ""), id="archived-meter"),
        pytest.param(answered(400, "No such customer: 'x'"), Refused(Reason.NO_CUSTOMER, ""), id="no-customer"),
        pytest.param(answered(404, "No such customer: 'x'"), Refused(Reason.NO_CUSTOMER, ""), id="no-customer-404"),
        pytest.param(
            answered(400, "The event timestamp cannot be more than 35 days in past."),
            Refused(Reason.TOO_OLD, ""),
            id="too-old",
        ),
        pytest.param(answered(400, "The event timestamp cannot be in future"), Retry(""), id="not-yet"),
        pytest.param(
            answered(400, "The event timestamp cannot be in future", headers=REPLAYED),
            Retry("", new_key=True),
            id="not-yet-replayed",
        ),
        pytest.param(answered(400, "Bad value", code="x"), Refused(Reason.REJECTED, ""), id="400-other"),
        pytest.param(
            answered(400, kind="idempotency_error"), Retry("", uncertain=True, new_key=True), id="idempotency-error"
        ),
        pytest.param(by_someone_else(400), Retry("", uncertain=True, everyone=True), id="400-by-a-proxy"),
        pytest.param(by_someone_else(413), Retry("", uncertain=True, everyone=True), id="413-by-a-proxy"),
        pytest.param(_raised(400, ["what"], {}), Retry("", uncertain=True, everyone=True), id="400-json-not-stripe"),
        pytest.param(answered(401), Halted("", ""), id="401"),
        pytest.param(answered(402), Retry(""), id="402"),
        pytest.param(answered(403), Halted("", ""), id="403"),
        pytest.param(answered(404, "Unrecognized request URL"), Halted("", ""), id="404-path"),
        pytest.param(by_someone_else(404), Halted("", ""), id="404-no-json"),
        pytest.param(by_someone_else(405), Halted("", ""), id="405-no-json"),
    ],
)
def test_the_table(error: BaseException, expected: Outcome) -> None:
    """Every row of the table has the class that the table gives it; only words may differ."""
    outcome = outcome_of(error)
    assert type(outcome) is type(expected)
    for flag in ("uncertain", "everyone", "new_key", "too_fast", "duplicate", "reason"):
        assert getattr(outcome, flag, None) == getattr(expected, flag, None), flag
    if not isinstance(outcome, Accepted):
        assert outcome.why


def test_what_stripe_says_is_kept() -> None:
    """Code and request id of a refusal are written down, for whoever asks Stripe about it."""
    outcome = outcome_of(answered(400, "Bad value", code="meter_event_invalid_value"))
    assert outcome == Refused(Reason.REJECTED, "400 Bad value", "meter_event_invalid_value", "req_1")


def test_the_limit_that_was_hit_is_named() -> None:
    """Which of Stripe's limits it was stands in the words."""
    outcome = outcome_of(answered(429, headers={"Stripe-Rate-Limited-Reason": "global-rate"}))
    assert isinstance(outcome, Retry)
    assert "global-rate" in outcome.why


def test_what_stands_in_the_way_has_a_remedy() -> None:
    """Whatever kept us from being answered is told in one line of words, with what to do."""
    for cause in (*NEVER_SENT.values(), TimeoutError(), ConnectionResetError("x"), aiohttp.ServerDisconnectedError()):
        text = explained(no_answer(cause))
        assert text.startswith("no answer: ")
        assert "; " in text, text
        assert "Error" not in text, text


def test_a_page_is_not_poured_into_the_log() -> None:
    """A long answer of something else is named by its beginning, in one line."""
    text = explained(by_someone_else(502, "<html>\n" + "please log in " * 1000))
    assert text.startswith("status 502, and what answered is not Stripe's API but says a web page: <html> please")
    assert len(text) < 400
    assert "endpoints" in text
    assert explained(by_someone_else(200, "")).startswith(
        "status 200, and what answered is not Stripe's API but says no"
    )


def test_an_answer_that_broke_off_is_not_quoted() -> None:
    """With a status of success it may hold the token that was asked for; a refusal of a proxy is quoted."""
    assert "secret" not in explained(by_someone_else(200, '{"authentication_token": "secret'))
    assert "no route" in explained(by_someone_else(404, '{"message": "no route"'))
