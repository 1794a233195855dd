"""Delivery of events to webhooks: signed, at least once, again after a failure (docs.stripe.com/webhooks).

An endpoint is told of one event after the other. What it does not answer with 2xx in time comes again, after
`Settings.webhook_retry_delay` seconds, twice as many, and so on, by the double's clock: 3 times in all in test mode,
16 times in live mode. That is our own choice; Stripe tells of a few hours and of up to three days.
"""

import asyncio
import contextlib
import json
import random
from collections import deque
from dataclasses import dataclass, field

import aiohttp

from otel_usageflow.testing.stripe.clock import Clock
from otel_usageflow.testing.stripe.connections import Connections
from otel_usageflow.testing.stripe.settings import Settings
from otel_usageflow.testing.stripe.webhook_endpoints import Notice, WebhookEndpoint, new_secret, signature
from otel_usageflow.testing.stripe.webhook_faults import WebhookFault, WebhookRule

ATTEMPTS = {False: 3, True: 16}
"""By mode."""
_BADLY_SIGNED = (WebhookFault.WRONG_SIGNATURE, WebhookFault.OLD_TIMESTAMP, WebhookFault.CHANGED_BODY)


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt, and what came of it."""

    url: str
    event_id: str
    event_type: str
    attempt: int
    status: int
    """0 when there was no answer."""
    at: float
    """By the double's clock."""
    body: bytes
    signature: str
    fault: WebhookFault | None = None


@dataclass(slots=True, eq=False)
class _Pending:
    notice: Notice
    due: float
    attempt: int = 1
    fault: WebhookRule | None = None


@dataclass(slots=True, eq=False)
class _Line:
    """What waits for one endpoint."""

    endpoint: WebhookEndpoint
    pending: list[_Pending] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    busy: bool = False


class Webhooks:
    """All endpoints, and what is on its way to them."""

    def __init__(self, clock: Clock, settings: Settings, connections: Connections) -> None:
        self._clock, self._settings, self._connections = clock, settings, connections
        self._lines: list[_Line] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._http: aiohttp.ClientSession | None = None
        self._random = random.Random(0)
        self.rules: list[WebhookRule] = []
        self.deliveries: deque[Delivery] = deque(maxlen=settings.keep_calls)
        clock.watchers.append(self._wake)

    @property
    def endpoints(self) -> list[WebhookEndpoint]:
        """In the order in which they were added."""
        return [line.endpoint for line in self._lines]

    @property
    def idle(self) -> bool:
        """Whether nothing is to be delivered by now; what comes again later does not count."""
        now = self._clock.now()
        return not any(line.busy or any(one.due <= now for one in line.pending) for line in self._lines)

    def add(self, endpoint: WebhookEndpoint) -> None:
        """Tell another endpoint, of what happens from now on."""
        line = _Line(endpoint)
        self._lines.append(line)
        if self._http is not None:
            self._tasks.append(asyncio.get_running_loop().create_task(self._deliver_all(line)))

    def remove(self, identity: str) -> None:
        """Tell an endpoint nothing more."""
        for line in self._lines:
            if line.endpoint.id == identity:
                line.endpoint.enabled = False
                line.pending.clear()
                line.changed.set()
        self._lines = [line for line in self._lines if line.endpoint.id != identity]

    def publish(self, notice: Notice) -> None:
        """Something has happened."""
        for line in self._lines:
            if not line.endpoint.wants(notice) or not self._lets_in(notice, line.endpoint):
                continue
            rule = next((rule for rule in self.rules if rule.strikes(notice.type)), None)
            if rule is not None and rule.fault is WebhookFault.LOST:
                continue
            late = rule.seconds if rule is not None and rule.fault is WebhookFault.LATE else 0.0
            line.pending.append(_Pending(notice, notice.due + late, fault=rule))
            line.changed.set()

    async def start(self) -> None:
        """Begin to deliver."""
        timeout = aiohttp.ClientTimeout(total=None)
        self._http = aiohttp.ClientSession(timeout=timeout)
        self._tasks = [asyncio.create_task(self._deliver_all(line)) for line in self._lines]

    async def stop(self) -> None:
        """Deliver nothing more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http is not None:
            await self._http.close()
            self._http = None

    def _lets_in(self, notice: Notice, endpoint: WebhookEndpoint) -> bool:
        """Whether the platform may hear of the account in which it happened."""
        mode = notice.livemode or endpoint.livemode
        return notice.owner is None or self._connections.lets_in(notice.owner, mode)

    def _wake(self) -> None:
        for line in self._lines:
            line.changed.set()

    async def _deliver_all(self, line: _Line) -> None:
        while line.endpoint.enabled:
            line.changed.clear()
            now = self._clock.now()
            due = [one for one in line.pending if one.due <= now]
            if not due:
                later = min((one.due - now for one in line.pending), default=None)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(line.changed.wait(), later)
                continue
            shuffled = self._settings.webhook_order == "shuffled"
            one = self._random.choice(due) if shuffled else min(due, key=lambda pending: pending.due)
            line.busy = True
            try:
                line.pending.remove(one)
                await self._deliver(line, one)
            finally:
                line.busy = False

    async def _deliver(self, line: _Line, one: _Pending) -> None:
        assert self._http is not None
        endpoint, rule = line.endpoint, one.fault
        fault = rule.fault if rule is not None and one.attempt == 1 else None
        now = self._clock.now()
        body = json.dumps(one.notice.render(), indent=2).encode()
        moment = int(now - (rule.seconds if rule is not None and fault is WebhookFault.OLD_TIMESTAMP else 0))
        signed = signature(
            body, moment, [new_secret()] if fault is WebhookFault.WRONG_SIGNATURE else endpoint.secrets
        )
        sent = body.replace(b'"id": "', b'"id": "x', 1) if fault is WebhookFault.CHANGED_BODY else body
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "Stripe-Signature": signed,
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
        }
        status = await self._post(endpoint.url, sent, headers)
        notice = one.notice
        self.deliveries.append(
            Delivery(endpoint.url, notice.id, notice.type, one.attempt, status, now, sent, signed, fault)
        )
        taken = 200 <= status < 300 and fault not in _BADLY_SIGNED
        if taken and fault is not WebhookFault.DUPLICATED:
            return
        if taken or one.attempt < ATTEMPTS[endpoint.livemode]:
            # What was signed badly on purpose, and what is sent twice, has not failed: it comes again at once.
            delay = self._settings.webhook_retry_delay * 2 ** (one.attempt - 1)
            again = now if fault is not None and fault is not WebhookFault.LATE else self._clock.now() + delay
            line.pending.append(_Pending(notice, again, one.attempt + 1, rule))

    async def _post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        assert self._http is not None
        try:
            async with (
                asyncio.timeout(self._settings.webhook_timeout),
                self._http.post(url, data=body, headers=headers, allow_redirects=False) as answer,
            ):
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0
