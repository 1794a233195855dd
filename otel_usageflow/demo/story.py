"""What happens when: traffic, a crash, a new customer, the end of the traffic, and the reckoning."""

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass

from otel_usageflow.demo import cast, traffic
from otel_usageflow.demo.books import Books
from otel_usageflow.demo.ledger_view import LedgerView, look
from otel_usageflow.demo.scene import Scene
from otel_usageflow.demo.stage import Stage
from otel_usageflow.demo.verdict import Verdict, judge
from otel_usageflow.errors import StartError

CRASH_AT = 0.35
NEWCOMER_AT = 0.55
"""Parts of the traffic's time."""
SETTLING = 45.0
"""Seconds that the last usage may take from the end of the traffic to Stripe."""
_LOOK = 0.25  # seconds


@dataclass(slots=True)
class Story:
    """One performance.

    Args:
        scene: is kept up to date, for the screen.
        stage: the processes.
        crash: whether the service is killed once.
        stopping: when set, the traffic ends early and the rest follows as usual.
    """

    scene: Scene
    stage: Stage
    crash: bool
    stopping: asyncio.Event

    async def perform(self) -> Verdict:
        """From the first process to the comparison.

        Raises:
            StartError: a process did not start, or died.
        """
        self.scene.tell("Starting a Stripe double, the service, and a sample API")
        await self.stage.start_stripe()
        async with Books(self.stage.stripe_url) as books:
            for customer in cast.AT_START:
                await self._create(books, customer)
            await self.stage.start_service()
            listening = await self.stage.start_api(self._acknowledged)
            watching = asyncio.create_task(self._watch(books))
            try:
                await self._traffic(books)
                self.scene.tell("The traffic has ended; the last meter events are on their way")
                await self.stage.stop_api()
                await listening
                await self._settle(watching)
            finally:
                watching.cancel()
                listening.cancel()
            return await self._reckon(books)

    async def _create(self, books: Books, customer: cast.Customer) -> None:
        await books.create(customer)
        self.scene.customers.append(customer)

    def _acknowledged(self, line: str) -> None:
        batch = json.loads(line)
        self.scene.spans += batch["spans"]
        self.scene.requests += batch["requests"]
        self.scene.again += batch["again"]

    async def _traffic(self, books: Books) -> None:
        over = asyncio.Event()
        self.scene.began = time.monotonic()
        self.scene.tell(f"Traffic for {self.scene.duration:g} seconds")
        sending = asyncio.create_task(traffic.send(self.stage.api_url, self.scene.tally, over))
        incidents = asyncio.create_task(self._incidents(books))
        incidents.add_done_callback(self._stop_after_failure)
        try:
            await self._until(1.0)
            over.set()
            await sending
            self.scene.ended = time.monotonic()
            await incidents
        finally:
            sending.cancel()
            incidents.cancel()

    def _stop_after_failure(self, incidents: "asyncio.Task[None]") -> None:
        if not incidents.cancelled() and incidents.exception() is not None:
            self.stopping.set()

    async def _incidents(self, books: Books) -> None:
        """What happens while the traffic goes on."""
        if self.crash and await self._until(CRASH_AT):
            self.scene.tell("kill -9: the service is gone, the traffic goes on")
            seconds = await self.stage.crash_service()
            self.scene.crashes += 1
            self.scene.tell(f"The service is back after {seconds:.1f} s, with everything it had acknowledged")
        if await self._until(NEWCOMER_AT):
            await self._create(books, cast.STARK)
            self.scene.tell(f"{cast.STARK.name} is a customer at Stripe now: what has waited is billed by itself")

    async def _until(self, part: float) -> bool:
        """Wait for this part of the traffic's time; False when it is stopped before."""
        seconds = self.scene.duration * part - self.scene.elapsed
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), max(seconds, 0.001))
        return not self.stopping.is_set()

    async def _watch(self, books: Books) -> None:
        while True:
            self.scene.accept(await books.news())
            await self._look()
            await asyncio.sleep(_LOOK)

    async def _look(self) -> None:
        seen: LedgerView | None = await asyncio.to_thread(look, self.stage.ledger)
        if seen is not None:
            self.scene.ledger = seen

    async def _settle(self, watching: "asyncio.Task[None]") -> None:
        """Wait until everything has arrived, or ought to have."""
        deadline = time.monotonic() + SETTLING
        while time.monotonic() < deadline and not watching.done():
            verdict = self._judge()
            if verdict.differences == tuple(self.scene.tally.surprises):
                return
            await asyncio.sleep(_LOOK / 2)
        if watching.done():
            await watching

    def _judge(self) -> Verdict:
        scene = self.scene
        return judge(scene.tally, scene.customers, scene.billed, scene.ledger)

    async def _reckon(self, books: Books) -> Verdict:
        """Stop the service first: what is counted after that is final."""
        status = await self.stage.stop_service()
        if status != 0:
            raise StartError(f"the service ended with status {status}; see {self.stage.service_log}")
        self.scene.accept(await books.news())
        self.scene.billed = await books.totals()
        await self._look()
        status, self.scene.reconciled = await self.stage.reconcile()
        await self.stage.stop_stripe()
        verdict = self._judge()
        if status != 0:
            verdict = Verdict((*verdict.differences, f"reconcile: {self.scene.reconciled.strip()}"))
        return verdict
