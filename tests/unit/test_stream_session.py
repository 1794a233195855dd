"""Sessions of the stream, and what its answers mean: with a clock that is told what time it is, and no network."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
import stripe
from pydantic import SecretStr

from otel_usageflow.delivery.batches import Batch
from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.feeding import Meter
from otel_usageflow.exporters.stripe_meter.reports import error_reports_of
from otel_usageflow.exporters.stripe_meter.session import Session, Sessions, session_of
from otel_usageflow.exporters.stripe_meter.stream import (
    NO_SESSION,
    NO_STREAM,
    Stream,
    is_expired,
    of_session,
    wire_event,
)
from otel_usageflow.model.meter_event import MeterEvent
from otel_usageflow.model.outcome import Accepted, Halted, Outcome, Refused, Retry

METER = Meter("api_request", "sum", active=True, customer_key="who", value_key="much")
EVENT = MeterEvent(1, "", "api_request", "cus_1", "1.50", 1_790_000_000, "uf_1", "uf_1", {"model": "m"})


class Givers:
    """Gives out sessions, or fails; the clock stands still unless a test moves it."""

    def __init__(self, life: float = 900.0) -> None:
        self.now = 100.0
        self.life = life
        self.given: list[str] = []
        self.failing = False
        self.sessions = Sessions(self._make, lambda: self.now)

    async def _make(self, account: str) -> Session:
        await asyncio.sleep(0)
        if self.failing:
            raise TimeoutError
        self.given.append(f"{account}/{len(self.given)}")
        return Session(SecretStr(self.given[-1]), self.life)

    async def token(self, account: str = "") -> str:
        """The token that is used now."""
        return (await self.sessions.token(account)).get_secret_value()


@pytest.mark.parametrize(
    ("facts", "life"),
    [
        ({"created": "2026-11-23T03:00:00Z", "expires_at": "2026-11-23T03:15:00Z"}, 900),
        ({"created": "2026-11-23T03:00:00.250Z", "expires_at": "2026-11-23T03:10:00.250+00:00"}, 600),
        ({"created": 1_790_000_000, "expires_at": 1_790_000_060, "livemode": "false"}, 60),
        ({"created": "now", "expires_at": "later"}, 900),
        ({"expires_at": "2026-11-23T03:15:00Z"}, 900),
        ({"created": "2026-11-23T03:15:00Z", "expires_at": "2026-11-23T03:00:00Z"}, 900),
        ({"created": "2026-11-23T03:00:00Z", "expires_at": "2036-11-23T03:00:00Z"}, 900),
    ],
)
def test_a_session_lives_as_long_as_its_own_times_say(facts: Mapping[str, Any], life: float) -> None:
    """Both times are of Stripe's clock, so ours need not be right; what cannot be read is taken as documented."""
    session = session_of({"authentication_token": "t", **facts})
    assert (session.token.get_secret_value(), session.life) == ("t", life)
    assert "t'" not in repr(session)


@pytest.mark.parametrize("facts", [{}, {"authentication_token": ""}, {"authentication_token": 5}])
def test_an_answer_without_a_token_is_no_session(facts: Mapping[str, Any]) -> None:
    """It is somebody else's answer."""
    with pytest.raises((KeyError, ValueError)):
        session_of(facts)


async def test_all_calls_share_one_session_until_it_is_nearly_over() -> None:
    """Ten that come at once get one token; at 80 % of its life the next one is made, once."""
    givers = Givers()
    assert await asyncio.gather(*(givers.token() for _ in range(10))) == ["/0"] * 10
    givers.now += 719
    assert await givers.token() == "/0"
    givers.now += 1
    assert set(await asyncio.gather(*(givers.token() for _ in range(10)))) == {"/1"}
    assert await givers.token("acct_1") == "acct_1/2"


async def test_a_session_that_works_is_used_while_another_cannot_be_made() -> None:
    """A failing renewal costs nothing before the old session ends, and is not tried with every call."""
    givers = Givers()
    await givers.token()
    givers.failing, givers.now = True, givers.now + 800
    assert await givers.token() == "/0"
    givers.failing = False
    assert await givers.token() == "/0"  # not yet again
    givers.now += 20
    assert await givers.token() == "/1"
    givers.failing, givers.now = True, givers.now + 901
    with pytest.raises(TimeoutError):
        await givers.token()


async def test_a_refused_token_is_replaced_once() -> None:
    """Two calls that met the same end ask for one new session between them."""
    givers = Givers()
    token = await givers.sessions.token("")
    givers.sessions.expired("", token)
    assert await givers.token() == "/1"
    givers.sessions.expired("", token)
    assert await givers.token() == "/1"


def error(status: int, code: str = "", message: str = "no", **more: Any) -> stripe.StripeError:
    """An answer of Stripe's, as its client raises it."""
    body = {"error": {"code": code, "message": message, **more}}
    kind = {401: stripe.AuthenticationError, 403: stripe.PermissionError, 429: stripe.RateLimitError}
    made = kind.get(status, stripe.APIError)(message, http_status=status, json_body=body, headers={})
    if status == 400:
        made = stripe.InvalidRequestError(message, None, http_status=status, json_body=body, headers={})
    return made


class Answers:
    """A stream that answers as it is told, one answer a call."""

    def __init__(self, *answers: BaseException | str) -> None:
        self.answers = list(answers)
        self.tokens: list[str] = []

    async def stream_events(self, token: SecretStr, _events: Any, _key: str) -> str:
        """The next answer."""
        self.tokens.append(token.get_secret_value())
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


async def outcome(answers: Answers, *, key: str = "sk_live_x", api: str = "v2_stream", times: int = 1) -> Outcome:
    """What becomes of the last of so many calls."""
    config = StripeMeterConfig.model_validate(
        {"api_key": key, "api": api, "sending_queue": {"storage": "sqlite_storage"}}
    )
    stream = Stream(answers, Givers().sessions, config)  # type: ignore[arg-type]
    for _ in range(times):
        found = await stream.send(Batch((EVENT,), "uf_b1_0123456789abcdef"), lambda _name: METER)
    return found


EXPIRED = error(401, "billing_meter_event_session_expired", type="temporary_session_expired")


async def test_an_expired_session_is_replaced_and_the_call_made_again() -> None:
    """Once, at once; a second time in a row it waits, and nothing is uncertain."""
    answers = Answers(EXPIRED, "req_1")
    assert await outcome(answers) == Accepted("req_1")
    assert answers.tokens == ["/0", "/1"]
    again = await outcome(Answers(EXPIRED, EXPIRED))
    assert isinstance(again, Retry)
    assert not again.uncertain
    assert is_expired(EXPIRED)
    assert not is_expired(error(401))


async def test_a_session_that_is_not_taken_is_made_anew_and_is_no_verdict_on_the_key() -> None:
    """The key has just opened it: the address is looked at first, and the next attempt begins with the key."""
    answers = Answers(error(401), "req_1")
    assert await outcome(answers, times=2) == Accepted("req_1")
    assert answers.tokens == ["/0", "/1"]
    refused = await outcome(Answers(error(401)))
    assert isinstance(refused, Halted)
    assert refused.remedy == NO_SESSION


@pytest.mark.parametrize("status", [403, 404, 405])
async def test_a_stream_that_is_not_there_halts(status: int) -> None:
    """Nothing was processed, and the remedy is the other way."""
    found = await outcome(Answers(error(status)))
    assert isinstance(found, Halted)
    assert found.remedy == NO_STREAM


async def test_a_sandbox_that_refuses_everything_halts() -> None:
    """With a test key a 400 is about the stream until the stream has taken something; afterwards about the event."""
    assert isinstance(await outcome(Answers(error(400)), key="sk_test_x"), Halted)
    assert isinstance(await outcome(Answers("", error(400)), key="sk_test_x", times=2), Refused)


async def test_in_live_mode_a_refusal_is_about_the_event_unless_it_says_otherwise() -> None:
    """The stream is documented for live mode."""
    assert isinstance(await outcome(Answers(error(400, message="events[0] is wrong"))), Refused)
    assert isinstance(await outcome(Answers(error(400, message="Not available in this account."))), Halted)


async def test_no_answer_is_uncertain_whatever_the_stream_says_of_trying_again() -> None:
    """A failure that Stripe wants nobody to repeat is repeated: identifiers keep it from counting twice."""
    failure = error(500)
    failure.headers = {"Stripe-Should-Retry": "false"}
    for raised in (failure, TimeoutError(), error(503)):
        found = await outcome(Answers(raised))
        assert isinstance(found, Retry)
        assert found.uncertain
        assert not found.new_key


async def test_under_v1_an_uncertain_event_without_a_stream_is_set_aside() -> None:
    """It must not go by the other way; the meter's summaries tell."""
    found = await outcome(Answers(error(404)), api="v1")
    assert isinstance(found, Refused)
    assert found.uncertain


async def test_a_token_in_an_answer_is_not_repeated() -> None:
    """Whoever echoes a token does not get it into the log."""
    found = await outcome(Answers(error(400, message="the token /0 is odd")))
    assert isinstance(found, Refused)
    assert "/0" not in found.why


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (error(401), Halted),
        (error(403), Halted),
        (error(404), Halted),
        (error(400), Halted),
        (error(429), Retry),
        (error(500), Retry),
        (TimeoutError(), Retry),
    ],
)
def test_without_a_session_nothing_was_sent(raised: BaseException, kind: type) -> None:
    """Whatever keeps a session from being made leaves every event certain."""
    found = of_session(raised)
    assert isinstance(found, kind)
    assert not getattr(found, "uncertain", False)
    if isinstance(found, Halted):
        assert (found.remedy == NO_STREAM) == (getattr(raised, "http_status", 0) != 401)


def test_the_same_facts_as_in_v1() -> None:
    """Time as RFC 3339, values as strings, the meter's own keys, the frozen identifier."""
    assert wire_event(EVENT, METER) == {
        "event_name": "api_request",
        "payload": {"model": "m", "who": "cus_1", "much": "1.50"},
        "identifier": "uf_1",
        "timestamp": "2026-09-21T14:13:20Z",
    }


def test_a_report_about_duplicates_rejects_nothing() -> None:
    """Should Stripe report what the stream drops, then the event is there: it was counted."""
    kind = {"error_count": 1, "sample_errors": [{"error_message": "m", "request": {"identifier": "uf_b1_0"}}]}
    moment = "2026-11-23T03:00:00Z"
    errors = [{"code": "duplicate_meter_event", **kind}, {"code": "meter_event_invalid_value", **kind}]
    data = {"validation_start": moment, "validation_end": moment, "reason": {"error_types": errors}}
    found = error_reports_of({"id": "evt_1", "data": data}, {})
    assert [report.code for report in found] == ["meter_event_invalid_value"]
