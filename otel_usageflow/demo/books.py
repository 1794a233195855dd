"""The demo's view of the Stripe double: makes customers as an operator would, and reads what has been counted."""

import base64
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import aiohttp

from otel_usageflow.demo.cast import STRIPE_KEY, Customer
from otel_usageflow.demo.tally import Totals
from otel_usageflow.errors import StartError


@dataclass(frozen=True, slots=True)
class Accepted:
    """One meter event that was accepted."""

    at: str
    """Local time, as `12:00:05`."""
    customer: str
    event_name: str
    value: Decimal
    identifier: str


class Books:
    """Talks to the double over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._http = aiohttp.ClientSession()
        self._names: dict[str, str] = {}
        self._read = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def create(self, customer: Customer) -> None:
        """Make a customer, as the dashboard would."""
        form = {"name": customer.name}
        form |= {f"metadata[{field}]": value for field, value in customer.metadata.items()}
        credentials = base64.b64encode(f"{STRIPE_KEY}:".encode()).decode()
        made = await self._call("POST", "/v1/customers", form, {"Authorization": f"Basic {credentials}"})
        self._names[made["id"]] = customer.name

    async def news(self) -> list[Accepted]:
        """The meter events that were accepted since the last call."""
        rows = (await self._call("GET", f"/_double/accepted?from={self._read}"))["data"]
        self._read += len(rows)
        return [
            Accepted(
                time.strftime("%H:%M:%S", time.localtime(row["received"])),
                self._names.get(row["customer"], row["customer"]),
                row["event_name"],
                Decimal(row["value"]),
                row["identifier"],
            )
            for row in rows
        ]

    async def totals(self) -> Totals:
        """What has been counted."""
        rows: Iterable[dict[str, Any]] = (await self._call("GET", "/_double/totals"))["data"]
        return {
            (self._names.get(row["customer"], row["customer"]), row["event_name"]): Decimal(row["total"])
            for row in rows
        }

    async def _call(
        self, method: str, path: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """One call.

        Raises:
            StartError: the double is gone, or does not like the call.
        """
        try:
            async with self._http.request(method, self._url + path, data=form, headers=headers) as answer:
                answer.raise_for_status()
                found: dict[str, Any] = await answer.json()
                return found
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StartError(f"the Stripe double of the demo has failed: {type(error).__name__} {error}") from error
