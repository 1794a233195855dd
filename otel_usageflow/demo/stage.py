"""The processes of the demo, put together: the Stripe double, the real service, the sample API."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp

from otel_usageflow.demo import config
from otel_usageflow.demo.cast import PRICES, STRIPE_KEY
from otel_usageflow.demo.processes import STARTING, Child, Household, free_port
from otel_usageflow.demo.settings import api_environment
from otel_usageflow.errors import StartError

_TRIES = 3
"""How often another port is tried when somebody else has taken it meanwhile."""


class Stage:
    """Starts each process in the order in which one needs the other.

    Args:
        home: where processes live.
        directory: where their files go.
    """

    def __init__(self, home: Household, directory: Path) -> None:
        self._home = home
        self._directory = directory
        self._health = ""
        self._service: Child | None = None
        self._stripe: Child | None = None
        self._api: Child | None = None
        self.stripe_url = ""
        self.service_url = ""
        self.api_url = ""

    @property
    def config(self) -> Path:
        """The service's configuration file."""
        return self._directory / "usageflow.yaml"

    @property
    def ledger(self) -> Path:
        """The ledger's directory."""
        return self._directory / "ledger"

    @property
    def service_log(self) -> Path:
        """What the service says."""
        return self._directory / "service.log"

    @property
    def spans(self) -> Path:
        """The recorded spans."""
        return self._directory / "spans.pb"

    async def start_stripe(self) -> None:
        """Start the Stripe double with the demo's meters and no customers."""
        meters = [word for name in PRICES for word in ("--meter", name)]
        self._stripe = await self._home.start(
            "the Stripe double",
            "otel_usageflow.testing.stripe",
            ("--port", "0", "--api-key", STRIPE_KEY, "--state", str(self._directory / "stripe.json"), *meters),
            self._directory / "stripe.log",
        )
        self.stripe_url = await self._stripe.first_line()

    async def start_service(self) -> None:
        """Write the configuration and start the service, on other ports if these are taken meanwhile.

        Raises:
            StartError: it does not start.
        """
        for attempt in range(1, _TRIES + 1):
            self._write_config()
            try:
                await self._run_service()
            except StartError as error:
                if attempt == _TRIES or "cannot listen" not in str(error):
                    raise
            else:
                return

    def _write_config(self) -> None:
        otlp, health = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
        self.service_url, self._health = f"http://{otlp}", f"http://{health}/readyz"
        values = {"OTLP": otlp, "HEALTH": health, "STRIPE": self.stripe_url, "LEDGER": str(self.ledger)}
        self.config.write_text(config.filled_in(config.template(), values), encoding="utf-8")

    async def _run_service(self) -> None:
        self._service = await self._home.start(
            "the service", "otel_usageflow", ("--config", str(self.config)), self.service_log
        )
        await self._until_ready(self._service)

    async def _until_ready(self, service: Child) -> None:
        deadline = time.monotonic() + STARTING
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2)) as http:
            while service.running and time.monotonic() < deadline:
                try:
                    async with http.get(self._health) as answer:
                        if answer.status == 200:
                            return
                except (aiohttp.ClientError, TimeoutError):
                    pass
                await asyncio.sleep(0.05)
        raise service.failed_to_start()

    async def start_api(self, told: Callable[[str], None]) -> asyncio.Task[None]:
        """Start the sample API; `told` gets each line that it prints, until the task that is returned ends."""
        self._api = await self._home.start(
            "the sample API",
            "otel_usageflow.demo.api",
            (str(self.spans),),
            self._directory / "api.log",
            api_environment(self.service_url),
        )
        self.api_url = f"http://127.0.0.1:{await self._api.first_line()}"
        return asyncio.create_task(_listen(self._api, told))

    async def crash_service(self) -> float:
        """Kill the service without warning and start it again; seconds until it was ready."""
        assert self._service is not None
        began = time.monotonic()
        await self._home.end(self._service, crash=True)
        await self._run_service()
        return time.monotonic() - began

    async def stop_api(self) -> None:
        """Stop the API; it sends the spans that it still holds."""
        if self._api is not None:
            await self._home.end(self._api)

    async def stop_service(self) -> int:
        """Stop the service as an operator would; its exit status."""
        return 0 if self._service is None else await self._home.end(self._service)

    async def reconcile(self) -> tuple[int, str]:
        """Compare the ledger with the double's summaries, as an operator would; exit status and what was printed."""
        command = await self._home.start(
            "reconcile",
            "otel_usageflow",
            ("reconcile", "--config", str(self.config), "--settled", "0s"),
            self._directory / "reconcile.log",
        )
        return await command.result()

    async def stop_stripe(self) -> None:
        """Stop the double; it writes its state."""
        if self._stripe is not None:
            await self._home.end(self._stripe)


async def _listen(child: Child, told: Callable[[str], None]) -> None:
    while line := await child.line():
        told(line)
