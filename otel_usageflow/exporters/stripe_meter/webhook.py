"""The webhook: Stripe tells that something has changed, so that it need not be looked for.

What it tells is a hint. Whoever forges, replays, reorders or duplicates deliveries makes us read at most, and what is
read decides. So a delivery is answered as soon as its signature is good: a hint that is lost with the process is told
again by the events, which are read at every start.

Source: docs.stripe.com/webhooks; the signature is checked by the `stripe` package, on the bytes as they came.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import stripe
import structlog
from aiohttp import web

from otel_usageflow.errors import Unavailable
from otel_usageflow.exporters.stripe_meter.account import Account
from otel_usageflow.exporters.stripe_meter.customer_pages import CHANGES, change_of
from otel_usageflow.exporters.stripe_meter.webhook_config import WebhookConfig

_log = structlog.get_logger(__name__)

OUTCOMES = ("used", "other_event", "other_mode", "unknown_account", "bad_signature", "malformed")
REPORTS = ("v1.billing.meter.error_report_triggered", "v1.billing.meter.no_meter_found")
DEAUTHORIZED = "account.application.deauthorized"

_LARGEST = 512 * 1024
"""Bytes; Stripe's events have some kilobytes."""
_BODY_WITHIN = 10.0
_TOLD_AGAIN = 60.0


class Admin(Protocol):
    """What an extension `admin` offers."""

    def mount(
        self, method: str, path: str, handler: Callable[..., Any], summary: str, *, public: bool = False
    ) -> None:
        """Serve a page."""


class Deauthorized(Protocol):
    """Who is told that an account has ended its connection."""

    async def __call__(self, account: str, at: float) -> bool:
        """Take note; False if there is no such connection."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told what. `accounts` may grow; the key's own account has an empty name."""

    accounts: Mapping[str, Account]
    reported: Callable[[str], None]
    """Stripe has reported errors of meter events of this account."""
    deauthorized: Deauthorized | None


class Refused(Exception):
    """A delivery that cannot be Stripe's, or is too old; says why, and never what was expected."""


class Webhook:
    """One endpoint for snapshot and for thin events, of one exporter."""

    def __init__(self, config: WebhookConfig, exporter: str, live: bool, listeners: Listeners) -> None:
        self._config = config
        self._exporter = exporter
        self._live = live
        self._listeners = listeners
        self._open = True
        self._told: dict[str, float] = {}
        self._since: Counter[str] = Counter()
        self.counts: Counter[str] = Counter()
        """Deliveries by what became of them."""

    def mount(self, admin: Admin) -> None:
        """Listen.

        Raises:
            StartError: the path is taken.
        """
        what = f"Stripe tells {self._exporter} of changes"
        admin.mount("POST", self._config.path, self.answer, what, public=True)

    def close(self) -> None:
        """Take no more: Stripe tells again later."""
        self._open = False

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one delivery."""
        if not self._open:
            return web.Response(status=503, text="the service is stopping; tell again\n")
        try:
            body = await self._body(request)
            self._check(body, request.headers.get("Stripe-Signature"))
        except Refused as why:
            self._count("bad_signature", why=str(why))
            return web.Response(status=400, text=f"{why}\n")
        try:
            outcome = await self._take(json.loads(body))
        except Unavailable:
            return web.Response(status=503, text="it cannot be written down now; tell again\n")
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            self._count("malformed", why=f"{type(error).__name__}: {error}")
            return web.Response(status=400, text="this is no event of Stripe\n")
        self._count(outcome)
        return web.Response(text=f"{outcome}\n")

    async def _body(self, request: web.BaseRequest) -> bytes:
        if (request.content_length or 0) > _LARGEST:
            self._count("malformed", why="too large")
            raise web.HTTPRequestEntityTooLarge(_LARGEST, request.content_length or 0)
        try:
            async with asyncio.timeout(_BODY_WITHIN):
                body = await request.read()
        except TimeoutError:
            raise Refused("the body did not come") from None
        if len(body) > _LARGEST:
            self._count("malformed", why="too large")
            raise web.HTTPRequestEntityTooLarge(_LARGEST, len(body))
        return body

    def _check(self, body: bytes, header: str | None) -> None:
        tolerance = int(self._config.tolerance.total_seconds())
        why = "there is no signature that fits; is this the endpoint's signing secret?"
        if not header:
            raise Refused("there is no header Stripe-Signature; only Stripe is answered here")
        for secret in self._config.secrets:
            try:
                stripe.WebhookSignature.verify_header(body, header, secret, tolerance)
            except stripe.SignatureVerificationError as error:
                if "tolerance" in str(error):  # the signature was right
                    why = "the delivery is too old; it may have been recorded, or a clock is wrong"
            except (TypeError, ValueError):  # bytes that are no text
                continue
            else:
                return
        raise Refused(why)

    async def _take(self, event: Mapping[str, Any]) -> str:
        """Tell whom it concerns; return what became of it."""
        kind, live = str(event["type"]), event["livemode"]
        if live is not self._live:
            return "other_mode"
        thin = event["object"] == "v2.core.event"
        account = _last(event.get("context")) if thin else str(event.get("account") or "")
        if kind == DEAUTHORIZED and self._listeners.deauthorized is not None:
            known = await self._listeners.deauthorized(account, float(event["created"]))
            return "used" if known else "unknown_account"
        if kind not in (REPORTS if thin else CHANGES):
            return "other_event"
        followed = self._listeners.accounts.get(account)
        if followed is None:
            return "unknown_account"
        if thin:
            self._listeners.reported(account)
        else:
            followed.directory.hint(change_of(event))
        return "used"

    def _count(self, outcome: str, **more: str) -> None:
        """Count, and tell of what is wrong once a minute."""
        self.counts[outcome] += 1
        self._since[outcome] += 1
        now = time.monotonic()
        if outcome not in ("bad_signature", "malformed", "unknown_account"):
            return
        if now - self._told.get(outcome, -_TOLD_AGAIN) < _TOLD_AGAIN:
            return
        self._told[outcome] = now
        level = _log.info if outcome == "unknown_account" else _log.warning
        level(
            "webhook_not_used", exporter=self._exporter, outcome=outcome, deliveries=self._since.pop(outcome), **more
        )


def _last(context: object) -> str:
    """The account in a context, which may be a path of organization and account."""
    return str(context or "").rpartition("/")[2]
