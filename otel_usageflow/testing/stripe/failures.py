"""The refusals of Stripe, with the texts that were observed where any were (docs.stripe.com/error-codes)."""

from collections.abc import Mapping

from otel_usageflow.testing.stripe.message import Answer, JsonObject


class StripeFailure(Exception):
    """An answer that is an error.

    Args:
        stored: whether the idempotency key replays it. Stripe stores what happened after execution began, so neither
            invalid parameters nor 401, 409 and 429.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        stored: bool = False,
    ) -> None:
        super().__init__(message)
        self.stored = stored
        error: JsonObject = {"message": message, "type": kind}
        if code is not None:
            error |= {"code": code, "doc_url": f"https://stripe.com/docs/error-codes/{code.replace('_', '-')}"}
        if param is not None:
            error["param"] = param
        self.answer = Answer(status, {"error": error}, headers or {})


_V2_CODES = {400: "invalid_parameters", 401: "unauthorized", 404: "not_found", 429: "rate_limit"}
"""Where the failure has no code of its own. v2 always has one; these are our own words."""


def as_v2(answer: Answer) -> Answer:
    """A failure in the shape of `/v2`: only `code` and `message` are sure (docs.stripe.com/api-v2-overview)."""
    assert isinstance(answer.body, dict)
    error = answer.body["error"]
    code = error.get("code") or _V2_CODES.get(answer.status, "api_error")
    shown = {"code": code, "message": error["message"]}
    if error["type"] == "temporary_session_expired":  # the one type that is documented
        shown["type"] = error["type"]
    if error["type"] == "idempotency_error":  # the same failure has another status here
        return answer._replace(status=409, body={"error": shown | {"code": "idempotency_error"}})
    return answer._replace(body={"error": shown})


class RefusedByState(StripeFailure):
    """A 400 that the account's state decided, so the same call may succeed later."""


def missing_resource(kind: str, identity: str, param: str = "id") -> StripeFailure:
    """404: there is no such object in this account and mode."""
    return StripeFailure(404, f"No such {kind}: '{identity}'", code="resource_missing", param=param, stored=True)


def invalid(message: str, param: str | None = None, code: str | None = None) -> StripeFailure:
    """400: a parameter is not acceptable, whatever the state of the account."""
    return StripeFailure(400, message, param=param, code=code)


def invalid_key(shown: str) -> StripeFailure:
    """401: no key of this double."""
    return StripeFailure(401, f"Invalid API Key provided: {shown[:8]}***")


def key_expired(key: str) -> StripeFailure:
    """401: a key that has been rolled, or a token after its hour."""
    return StripeFailure(401, f"Expired API Key provided: {key[:8]}***{key[-4:]}", code="api_key_expired")


def no_key() -> StripeFailure:
    """401: no key at all."""
    return StripeFailure(401, "You did not provide an API key. Send it as `Authorization: Bearer KEY`.")


def no_version() -> StripeFailure:
    """400: `/v2` wants to be told its version."""
    return StripeFailure(400, "Send the API version as `Stripe-Version`.", code="missing_stripe_version")


def unknown_path(method: str, path: str) -> StripeFailure:
    """404: no endpoint there, or the double does not model it."""
    return StripeFailure(404, f"Unrecognized request URL ({method}: {path}).")


def rate_limited(reason: str) -> StripeFailure:
    """429 with its reason; Stripe documents no `Retry-After`."""
    headers = {"Stripe-Rate-Limited-Reason": reason}
    return StripeFailure(429, "Request rate limit exceeded.", code="rate_limit", headers=headers)


def lock_timeout() -> StripeFailure:
    """429 without a reason: another call holds the same object."""
    message = "This object cannot be accessed right now because another API request is currently accessing it."
    return StripeFailure(429, message, code="lock_timeout")


def key_in_flight(key: str) -> StripeFailure:
    """409: the first call with this idempotency key has not been answered yet."""
    return StripeFailure(
        409, f"Another request with the idempotency key {key} is still in progress.", code="idempotency_key_in_use"
    )


def key_mismatch(key: str) -> StripeFailure:
    """400: the idempotency key was first used with other parameters."""
    message = f"The idempotency key {key} was first used with other parameters; use a new key."
    return StripeFailure(400, message, kind="idempotency_error")


def server_error(*, stored: bool) -> StripeFailure:
    """500."""
    return StripeFailure(500, "An unknown error occurred.", kind="api_error", stored=stored)


def session_expired() -> StripeFailure:
    """401: the stream takes this token no more (docs.stripe.com/api/v2/billing-meter-stream)."""
    return StripeFailure(
        401,
        "The session has expired; make a new one.",
        kind="temporary_session_expired",
        code="billing_meter_event_session_expired",
    )


def unavailable() -> StripeFailure:
    """503."""
    return StripeFailure(503, "The service is temporarily unavailable.", kind="api_error")
