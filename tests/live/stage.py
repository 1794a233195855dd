"""What a run makes in Stripe and takes away again, the calls it makes, and the lines it prints."""

import asyncio
import itertools
import json
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import stripe
from settings import Settings

from otel_usageflow.exporters.stripe_meter.config import StripeMeterConfig
from otel_usageflow.exporters.stripe_meter.wire import opened

FIELD = "uf_live_account"


@dataclass(frozen=True)
class Answer:
    """One answer of Stripe."""

    status: int
    data: dict[str, Any]
    headers: dict[str, str]

    @property
    def short(self) -> str:
        """For a line: status, code, type and text of a refusal, or the status alone."""
        error = self.data.get("error")
        if not isinstance(error, dict):
            return str(self.status)
        retry = self.headers.get("stripe-should-retry")
        return (
            f"{self.status} code={error.get('code')} type={error.get('type')} param={error.get('param')} "
            f"should-retry={retry} message={json.dumps(error.get('message'))}"
        )


@dataclass
class Stage:
    """One run. Names in it are of this run only."""

    settings: Settings
    client: stripe.StripeClient
    mark: str = field(default_factory=lambda: secrets.token_hex(4))
    meters: list[tuple[str, str]] = field(default_factory=list)
    """(account, id) of those to deactivate."""
    customers: list[tuple[str, str]] = field(default_factory=list)
    """(account, id) of those to delete."""
    failures: int = 0
    settled: int = 0
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    def identifier(self) -> str:
        """One that nobody has used."""
        return f"uf_live_{self.mark}_{next(self._numbers)}"

    def say(self, text: str) -> None:
        """Print a line."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def settles(self, question: str, answer: object) -> None:
        """An open question of docs/stripe.md has its answer."""
        self.settled += 1
        self.say(f"settles: {question}: {answer}")

    def check(self, holds: object, text: str, seen: object = "") -> None:
        """What must be so; a run with one that is not ends with status 1."""
        if holds:
            self.say(f"ok:      {text}")
        else:
            self.failures += 1
            self.say(f"FAILED:  {text}; seen: {seen}")

    async def call(
        self,
        method: str,
        path: str,
        params: dict[str, Any] | None = None,
        *,
        account: str = "",
        key: str = "",
        patient: bool = True,
        **more: Any,
    ) -> Answer:
        """One call; a refusal is an answer too, but for a 429, which passes. `key`: the idempotency key."""
        options: dict[str, Any] = {**(params or {}), **more}
        if key:
            options["idempotency_key"] = key
        if account:
            options["stripe_context" if path.startswith("/v2/") else "stripe_account"] = account
        answer = await self._once(method, path, options)
        for _ in range(30):
            if answer.status != 429 or not patient:
                break
            await asyncio.sleep(1)
            answer = await self._once(method, path, options)
        return answer

    async def _once(self, method: str, path: str, options: dict[str, Any]) -> Answer:
        try:
            answer = await self.client.raw_request_async(method, path, **options)
        except stripe.APIConnectionError:
            raise
        except stripe.StripeError as error:
            return Answer(error.http_status or 0, _facts(error.json_body), _lower(error.headers or {}))
        return Answer(answer.code, _facts(answer.data), _lower(answer.headers))

    async def meter(self, name: str, formula: str = "sum", *, account: str = "") -> tuple[str, str]:
        """Make a meter; (event name, id)."""
        event_name = f"uf_live_{self.mark}_{name}"
        made = await self.call(
            "post",
            "/v1/billing/meters",
            {
                "display_name": f"otel_usageflow live test {self.mark}",
                "event_name": event_name,
                "default_aggregation": {"formula": formula},
            },
            account=account,
        )
        if made.status != 200:
            raise RuntimeError(f"no meter could be made: {made.short}; the key needs billing_meter_write")
        self.meters.append((account, made.data["id"]))
        return event_name, made.data["id"]

    async def customer(self, name: str, *, account: str = "") -> str:
        """Make a customer whose metadata names it; its id."""
        made = await self.call(
            "post",
            "/v1/customers",
            {"name": f"otel_usageflow live test {self.mark}", "metadata": {FIELD: f"{name}-{self.mark}"}},
            account=account,
        )
        if made.status != 200:
            raise RuntimeError(f"no customer could be made: {made.short}; the key needs customer_write")
        self.customers.append((account, made.data["id"]))
        return str(made.data["id"])

    async def event(self, event_name: str, customer: str, value: str = "1", **more: Any) -> Answer:
        """Send one meter event in v1. `more`: identifier, key, timestamp, payload, account."""
        identifier = more.get("identifier") or self.identifier()
        return await self.call(
            "post",
            "/v1/billing/meter_events",
            {
                "event_name": event_name,
                "payload": {"stripe_customer_id": customer, "value": value, **more.get("payload", {})},
                "identifier": identifier,
                "timestamp": int(more.get("timestamp") or time.time()),
            },
            account=more.get("account", ""),
            key=more.get("key") or identifier,
        )

    async def total(self, meter: str, customer: str, *, account: str = "") -> float:
        """What the summaries say of the last two hours."""
        now = int(time.time()) // 60 * 60
        answer = await self.call(
            "get",
            f"/v1/billing/meters/{meter}/event_summaries",
            {"customer": customer, "start_time": now - 7_200, "end_time": now + 60},
            account=account,
        )
        if answer.status not in (200, 429):
            raise RuntimeError(f"a summary cannot be read: {answer.short}")
        return sum(float(one["aggregated_value"]) for one in answer.data.get("data", ()))

    async def until(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask until the answer is one, or patience ends; then None."""
        end = time.monotonic() + self.settings.patience
        pause = 0.2 if not self.settings.real else 5.0
        while True:
            if found := await ask():
                return found
            if time.monotonic() >= end:
                return None
            await asyncio.sleep(pause)

    async def clean_up(self) -> None:
        """Take away what was made; say what could not be."""
        for path, verb, made in (("billing/meters", "deactivate", self.meters), ("customers", "", self.customers)):
            while made:
                account, name = made.pop()
                where = f"/v1/{path}/{name}"
                try:
                    answer = await (
                        self.call("post", f"{where}/{verb}", account=account)
                        if verb
                        else self.call("delete", where, account=account)
                    )
                    gone = answer.status == 200
                    if verb and not gone:  # it may have been inactive before
                        gone = (await self.call("get", where, account=account)).data.get("status") == "inactive"
                    seen = answer.short
                except stripe.StripeError as error:
                    gone, seen = False, str(error)
                self.check(gone, f"{name} is {'deactivated' if verb else 'deleted'}", seen)


@asynccontextmanager
async def stage(settings: Settings) -> AsyncIterator[Stage]:
    """A run; whatever ends it, what it made is taken away."""
    config = StripeMeterConfig.model_validate(
        {
            "api_key": settings.key,
            "endpoints": {"api": settings.api, "meter_events": settings.stream, "connect": settings.api},
            "sending_queue": {"storage": "none"},
        }
    )
    async with opened(config) as client:
        running = Stage(settings, client)
        try:
            yield running
        finally:
            await running.clean_up()


def _facts(data: object) -> dict[str, Any]:
    return data if isinstance(data, dict) else {}


def _lower(headers: Any) -> dict[str, str]:
    return {str(name).lower(): str(value) for name, value in headers.items()}
