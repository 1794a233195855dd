"""What each answer of Stripe means for a meter event: the one table, as a pure function.

Sources: Stripe's API reference on errors, idempotent requests and rate limits; the texts are those that others have
reported, because v1 gives most refusals of meter events no code.
"""

import aiohttp
import stripe

from otel_usageflow.exporters.stripe_meter.access import NotConnected
from otel_usageflow.exporters.stripe_meter.transport import Redirected
from otel_usageflow.exporters.stripe_meter.trouble import Trouble, foreign_answer, trouble
from otel_usageflow.model.outcome import Accepted, Halted, Outcome, Refused, Retry, TooFast
from otel_usageflow.model.usage import Reason

_DUPLICATE = "already exists with identifier"
_TEXTS: tuple[tuple[str, Reason], ...] = (
    ("no active meter", Reason.NO_METER),
    ("no meter", Reason.NO_METER),
    ("no such customer", Reason.NO_CUSTOMER),
    ("days in past", Reason.TOO_OLD),
    ("days in the past", Reason.TOO_OLD),
)
_CODES: dict[str, Reason] = {
    "no_meter": Reason.NO_METER,
    "archived_meter": Reason.NO_METER,
    "meter_event_customer_not_found": Reason.NO_CUSTOMER,
    "timestamp_too_far_in_past": Reason.TOO_OLD,
}
_NOT_STRIPE = "check exporters::stripe_meter::endpoints: this is not Stripe's API"
_NOT_YET = ("in future", "in the future")

WRONG_KEY = (
    "exporters::stripe_meter::api_key is wrong, rolled or revoked: put the key that is valid now where the "
    "configuration takes it from, and restart; usage is taken and waits, nothing is lost"
)
NO_PERMISSION = (
    "give the key the permission that the message names, in the Dashboard (Developers > API keys); no restart is "
    "needed, usage waits. docs/stripe.md lists what is needed"
)
NO_ACCESS = (
    "the account is gone, has ended the connection, or is connected to another platform: have it connected again, or "
    "take it out of the policies; its usage is kept. `otel-usageflow connect list` shows what is known of it"
)


def outcome_of(error: BaseException) -> Outcome:
    """What became of a meter event when sending it raised this."""
    if isinstance(error, NotConnected):
        return Halted(str(error), error.remedy)
    if not isinstance(error, stripe.StripeError):
        return Retry(_why(error), uncertain=True, everyone=True)
    if isinstance(error, stripe.APIConnectionError):
        return _no_connection(error)
    status = error.http_status or 0
    headers = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
    why = _why(error)
    said = headers.get("stripe-should-retry")
    if status == 429:
        limited = headers.get("stripe-rate-limited-reason")
        return Retry(f"{why} ({limited})" if limited else why, too_fast=too_fast(error))
    if status == 409:
        return Retry(why, uncertain=True)
    replayed = headers.get("idempotent-replayed") == "true"
    if status >= 500:
        if said == "false" and not replayed:
            return Refused(Reason.REJECTED, why, _code(error), _request_id(error), uncertain=True)
        return Retry(why, uncertain=True, everyone=status in (502, 503, 504), new_key=replayed)
    if status in (401, 403, 404, 405) or 300 <= status < 400 or _is_stripes(error):
        return _refusal(error, status, why, retry=said == "true", replayed=replayed)
    return Retry(why, uncertain=True, everyone=True)


def cancellation_outcome(error: BaseException) -> Outcome:
    """What became of a request to cancel a meter event when it raised this.

    Stripe documents no texts for its refusals, so a refusal only says that this attempt did nothing: the event can
    be cancelled already, or not be there.
    """
    outcome = outcome_of(error)
    refused = isinstance(error, stripe.InvalidRequestError) and error.http_status in (400, 404) and _is_stripes(error)
    if not refused or isinstance(outcome, Retry):
        return outcome
    assert isinstance(error, stripe.InvalidRequestError)
    return Refused(Reason.REJECTED, _why(error), _code(error), _request_id(error))


def too_fast(error: stripe.StripeError) -> TooFast:
    """What a 429 says that there was too much of. A lock has no reason, and is about one object."""
    headers = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
    try:
        return TooFast(headers.get("stripe-rate-limited-reason", ""))
    except ValueError:
        return TooFast.RESOURCE if _code(error) == "lock_timeout" else TooFast.UNSAID


def explained(error: BaseException) -> str:
    """An error of a call to Stripe in one line, for logs: what happened and, where somebody must, what to do."""
    outcome = outcome_of(error)
    return f"{what_happened(error)}; {outcome.remedy}" if isinstance(outcome, Halted) else _why(error)


def what_happened(error: BaseException) -> str:
    """The same without what to do."""
    if isinstance(error, NotConnected):
        return str(error)
    if not isinstance(error, (stripe.StripeError, aiohttp.ClientError, OSError)):  # TimeoutError is an OSError
        return str(error).strip() or type(error).__name__
    if (met := _met(error)) is None:
        assert isinstance(error, stripe.StripeError)
        return f"{error.http_status} {_message(error)}"
    return met.what if isinstance(error, stripe.StripeError) and error.http_status else f"no answer: {met.what}"


def _why(error: BaseException) -> str:
    met, what = _met(error), what_happened(error)
    return f"{what}; {met.remedy}" if met is not None and met.remedy else what


def remedy_for(error: BaseException) -> str:
    """What to do about an error of a call."""
    outcome = outcome_of(error)
    if isinstance(outcome, Halted):
        return outcome.remedy
    met = _met(error)
    return (met.remedy if met else "") or "try again when Stripe answers; status.stripe.com says whether it is down"


def _met(error: BaseException) -> Trouble | None:
    """What stood in the way, unless Stripe itself has answered."""
    if not isinstance(error, stripe.StripeError) or isinstance(error, stripe.APIConnectionError):
        return trouble(error)
    if error.http_status and not _is_stripes(error):
        return foreign_answer(error.http_status, error.http_body)
    return None


def _no_connection(error: stripe.APIConnectionError) -> Retry | Halted:
    """Whether anything was sent: a connection that was never made cannot have been processed."""
    if isinstance(error.__cause__, Redirected):
        return Halted(what_happened(error), _NOT_STRIPE)
    return Retry(_why(error), uncertain=not trouble(error).never_sent, everyone=True)


def _refusal(error: stripe.StripeError, status: int, why: str, *, retry: bool, replayed: bool) -> Outcome:
    """A 4xx that is neither about speed nor about a conflict.

    A 400 is stored under the idempotency key too, so one that may change is asked for again under another.
    """
    message, code = _message(error).lower(), _code(error)
    if code == "duplicate_meter_event" or _DUPLICATE in message:
        return Accepted(_request_id(error), duplicate=True)
    if retry:
        return Retry(why, new_key=replayed)
    reason = _CODES.get(code) or next((reason for text, reason in _TEXTS if text in message), None)
    if reason is not None and status in (400, 404):
        return Refused(reason, why, code, _request_id(error))
    if is_no_access(error):
        return Halted(why, NO_ACCESS)
    if status == 401:
        return Halted(why, WRONG_KEY)
    if status == 403:
        return Halted(why, NO_PERMISSION)
    if status in (404, 405) or status < 400:
        return Halted(why, _NOT_STRIPE)
    if isinstance(error, stripe.IdempotencyError):
        return Retry(why, uncertain=True, new_key=True)
    if status == 402 or any(text in message for text in _NOT_YET):
        return Retry(why, new_key=replayed)
    return Refused(Reason.REJECTED, why, code, _request_id(error))


def is_no_access(error: BaseException) -> bool:
    """Whether the key has no access to the connected account (docs.stripe.com/error-codes, `account_invalid`)."""
    return isinstance(error, stripe.StripeError) and _code(error) == "account_invalid"


def _is_stripes(error: stripe.StripeError) -> bool:
    """Whether the answer has the shape of Stripe's errors; what a proxy says is no verdict on the event."""
    body = error.json_body
    return isinstance(body, dict) and isinstance(body.get("error"), dict)


def _code(error: stripe.StripeError) -> str:
    return str(getattr(error.error, "code", None) or error.code or "")


def _message(error: stripe.StripeError) -> str:
    return str(getattr(error.error, "message", None) or error.user_message or error).strip()


def _request_id(error: stripe.StripeError) -> str:
    return str(error.request_id or "")
