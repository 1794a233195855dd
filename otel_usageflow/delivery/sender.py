"""The sender: windows are frozen into meter events, events are sent, answers are written down.

What it keeps to:
1. An event is on the disk, and the attempt is on the disk, before a byte of it is sent.
2. One event of a lane (account, event name, customer) is under way at a time. While a lane is busy its windows stay
   open and merge, so that calls are few when busy and latency is low when quiet.
3. An event is sent unchanged until there is a definite answer. If one attempt may have been processed and the
   first one is nearly 24 hours ago, Stripe may have forgotten the identifier: then it is set aside, not resent.
4. An account that cannot be reached is left alone for longer and longer, and meanwhile nothing more of it is
   frozen.
5. Requests that wait for spans of their trace are settled before windows are frozen, a quarter of a second after the
   first of them is due, so that those which are due next share a commit.
6. Everything in memory can be lost at any instant; the ledger has it.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import structlog

from otel_usageflow.delivery.attempts import Attempts, too_old_to_resend
from otel_usageflow.delivery.batches import Plan, plans
from otel_usageflow.delivery.fairness import fresh_since
from otel_usageflow.delivery.lanes import Lanes
from otel_usageflow.delivery.setting import Delivery
from otel_usageflow.errors import Unavailable
from otel_usageflow.ledger.freeze import Formula, Fresh
from otel_usageflow.ledger.ledger import Ledger
from otel_usageflow.model.meter_event import MeterEvent

_log = structlog.get_logger(__name__)

_MOST_IN_FLIGHT = 512
"""Of all accounts together; how many of each is its pace's to say."""
_MOST_READY = 64
"""Lanes that are ready, above which nothing more is frozen: what need not be frozen yet can still merge."""
_MOST_READY_TOGETHER = 512
"""The same where calls take several events."""
_MOST_IN_MEMORY = 5_000
_MOST_CUT_OFF = 20_000
"""Events held at most, though none of them can be sent now, to look for such as can."""
_MOST_BATCHES = 16
"""The same of one account whose calls take several events, so that not all of memory is in flight."""
_UNFILLED = 2
"""Calls of an account in flight, with which one that is not full waits for more events."""
_FILLING = 0.5
"""Seconds that it waits at most: those in flight may hang."""
_STUMBLED = 5.0
"""Seconds to wait after an error that nobody foresaw."""
_TAKE_UP = 1.0
"""Seconds between two looks for events that somebody made or released."""
_SETTLE_PAUSE = 0.25
"""Seconds between two looks at requests whose wait for spans of their trace is over."""
_SETTLE_REST = 1
"""Times the length of such a look that is rested after it: huge traces take half of the ledger's time at most."""
_FREEZE_PAUSE = 0.1
"""Seconds between two freezes while lanes are busy: long enough for windows to merge."""
_NOTHING_FROZEN = 3
"""Times that pause after a freeze that found all lanes busy: it may have looked at many windows."""
_BUSY_PAUSE = 0.005
"""Seconds that a full place or an empty bucket is waited for at least."""


class Sender:
    """Sends what one ledger holds, until it is stopped."""

    def __init__(self, ledger: Ledger, delivery: Delivery) -> None:
        self._ledger = ledger
        self._delivery = delivery
        self._lanes = Lanes()
        self._most_ready = _MOST_READY if delivery.most == 1 else _MOST_READY_TOGETHER
        self._last_begun: dict[str, float] = {}
        self._in_flight: dict[asyncio.Task[None], str] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._loaded_to: int | None = 0
        self._next_freeze = 0.0
        self._next_take_up = 0.0
        self._traces_due: float | None = 0.0
        self._attempts = Attempts(ledger, delivery, self._lanes, lambda: self._stopping)
        self.counts = self._attempts.counts
        """What was done since the start: accepted, duplicate, retried, refused, set_aside."""
        self.calls = self._attempts.calls
        """Calls that were made since the start, by their way."""
        self.traces: Counter[str] = Counter()
        """The same of spans of traces: late, unclaimed."""

    def wake(self) -> None:
        """There may be something to freeze now."""
        self._next_freeze = min(self._next_freeze, self._delivery.clock() + _FREEZE_PAUSE / 5)
        self._wake.set()

    def expect_traces(self, due: float) -> None:
        """Requests wait for spans of their trace until then, unix seconds."""
        if self._traces_due is None or due < self._traces_due:
            self._traces_due = due
            self._wake.set()

    async def run(self) -> None:
        """Send until stopped, then wait for what is under way."""
        while not self._stopping:
            self._wake.clear()
            try:
                await self._load()
                await self._take_up()
                await self._settle_traces()
                await self._freeze()
                await self._dispatch()
            except Unavailable as error:
                _log.warning("ledger_unavailable", error=str(error))
                self._next_freeze = self._delivery.clock() + 1
                await self._pause(1.0)
                continue
            except Exception:  # noqa: BLE001  (logged with its traceback)
                # A mistake of ours must not stop spans from being taken: what waits here is safe.
                _log.exception("sender_stumbled", meaning="usage is taken and kept, but not all of it is sent")
                await self._pause(_STUMBLED)
                continue
            await self._pause(self._idle_time())
        if self._in_flight:
            await asyncio.wait(list(self._in_flight))

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping = True
        self._attempts.stop_waiting()
        self._wake.set()

    async def _pause(self, seconds: float) -> None:
        if self._stopping:
            return
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _idle_time(self) -> float:
        """Seconds until there can be something to do, unless somebody wakes the sender before."""
        now = self._delivery.clock()
        times = [self._next_freeze if self._may_freeze() else now + 1, self._next_take_up]
        if self._traces_due is not None:
            times.append(now + self._traces_due - self._delivery.wall())
        if self._lanes.next_wake is not None:
            times.append(self._lanes.next_wake)
        times.extend(gate.opens_at for gate in self._attempts.gates if gate.failing and gate.opens_at > now)
        under_way = Counter(self._in_flight.values())
        times.extend(
            now + max(self._attempts.pace(account).opens_in(), _BUSY_PAUSE)
            for account in self._lanes.waiting_accounts
            # Where places are short, an answer wakes the sender.
            if not self._attempts.gate(account).failing and under_way[account] < self._places(account)
        )
        return max(min(times) - now, 0.0)

    async def _load(self) -> None:
        """Take up, page by page, what an earlier life left without an answer."""
        # What cannot be sent now must not keep out what can, nor keep new usage from being frozen.
        while self._loaded_to is not None and (
            self._lanes.events < _MOST_IN_MEMORY // 2
            or (self._lanes.events < _MOST_CUT_OFF and not self._sendable(fresh=False))
        ):
            page = await self._ledger.unsettled(self._loaded_to, _MOST_IN_MEMORY // 10)
            for event in page:
                self._lanes.add(event)
            self._loaded_to = page[-1].event_id if page else None

    async def _take_up(self) -> None:
        """Take up events that did not come from freezing: corrections, and what somebody released."""
        now = self._delivery.clock()
        if now < self._next_take_up:
            return
        for event in await self._ledger.take_released(_MOST_IN_MEMORY // 10):
            self._lanes.add(event)
        self._next_take_up = now + _TAKE_UP

    async def _settle_traces(self) -> None:
        """File the requests whose wait is over, in steps; what is left, or due next, has its turn after a rest."""
        wall = self._delivery.wall()
        if self._traces_due is None or wall < self._traces_due:
            return
        due, self._traces_due = self._traces_due, None
        began = self._delivery.clock()
        try:
            settled = await self._ledger.settle_traces(wall)
        except BaseException:
            self._traces_due = due
            raise
        self.traces["late"] += settled.late
        self.traces["unclaimed"] += settled.unclaimed
        if settled.next_due is not None:
            rest = max(
                _SETTLE_REST * (self._delivery.clock() - began), 0.0 if settled.next_due <= wall else _SETTLE_PAUSE
            )
            self.expect_traces(max(settled.next_due, wall + rest))
        if settled.billed and self._delivery.window == 1:
            self.wake()

    async def _freeze(self) -> None:
        now = self._delivery.clock()
        if now < self._next_freeze or not self._may_freeze():
            return
        pause = _FREEZE_PAUSE
        rules = self._delivery.rules(self._lanes.__contains__)
        fresh, backlog = (
            {meter: how for meter, how in rules.meters.items() if meter[0] in accounts}
            for accounts in self._accounts_to_freeze({account for account, _ in rules.meters})
        )
        if fresh or backlog:
            since = fresh_since(rules.now)
            summed = {meter for meter, how in rules.meters.items() if how is not Formula.LAST}
            most = 2 * self._most_ready
            rules = replace(
                rules,
                meters=backlog,
                fresh=Fresh(since, fresh, most * self._short_of(fresh=True), self._lanes.holds_fresh),
            )
            frozen = await self._ledger.freeze(rules, most * self._short_of(fresh=False))
            if not frozen:
                pause *= _NOTHING_FROZEN
            for event in frozen:
                self._lanes.add(event, fresh=event.timestamp >= since and (event.account, event.event_name) in summed)
        self._next_freeze = now + (
            pause
            if self._in_flight or self._sendable(fresh=True) or self._sendable(fresh=False)
            else self._until_due()
        )

    def _may_freeze(self) -> bool:
        """Whether there is room: what need not be frozen yet can still merge."""
        return self._short_of(fresh=True) or self._short_of(fresh=False)

    def _short_of(self, *, fresh: bool) -> bool:
        """Whether there is little left to send of this kind. While old events are loaded there is enough of it."""
        return self._sendable(fresh=fresh) < self._most_ready and (fresh or self._loaded_to is None)

    def _accounts_to_freeze(self, accounts: set[str]) -> tuple[set[str], set[str]]:
        """Those of which more fresh usage may be frozen, and more of the backlog: who has enough of it waits."""
        able = set(filter(self._may_freeze_for, accounts))
        enough = 2 * self._most_ready
        ready = (self._lanes.ready(fresh=True), self._lanes.ready(fresh=False))
        fresh, backlog = ({account for account in able if kind.get(account, 0) < enough} for kind in ready)
        return fresh, backlog

    def _may_freeze_for(self, account: str) -> bool:
        """Nothing more for an account that is cut off, unless nothing is left that could find out whether it is.

        So it is when all that was under way has become too old to be sent again.
        """
        gate = self._attempts.gate(account)
        return not gate.failing or (self._delivery.clock() >= gate.opens_at and not self._lanes.holds(account))

    def _sendable(self, *, fresh: bool) -> int:
        """Lanes that wait for nothing but a free place: an account that is cut off, or slowed, holds up no other."""
        return sum(
            min(lanes, max(1, int(self._attempts.pace(account).rate)))
            for account, lanes in self._lanes.ready(fresh=fresh).items()
            if not self._attempts.gate(account).failing
        )

    def _until_due(self) -> float:
        """Seconds until the next window is due, and a little."""
        window = self._delivery.window
        return window - self._delivery.wall() % 60 % window + 0.01

    async def _dispatch(self) -> None:
        """Begin as many attempts as there is room for; one commit for all of them."""
        self._lanes.wake(self._delivery.clock())
        by_account = Counter(self._in_flight.values())
        now = self._delivery.wall()
        heads: list[MeterEvent] = []
        most = self._delivery.most * (_MOST_IN_FLIGHT - len(self._in_flight))
        for event in list(self._lanes.choose(lambda account: self._room(account, by_account[account]), most, now)):
            if too_old_to_resend(event, now):
                await self._attempts.set_aside(event, now)
            else:
                heads.append(event)
        calls = plans(heads, self._delivery.most, self._attempts.alone)
        if starting := [call for call in calls if self._may_begin(call, by_account)]:
            await self._begin(starting, now)

    def _may_begin(self, call: Plan, by_account: Counter[str]) -> bool:
        """Whether there is a place for this call; counts it if so.

        One that is not full waits a little while others of its account are under way, so that there are few and full
        ones.
        """
        under_way = by_account[call.account]
        unfilled = call.together and len(call.events) < self._delivery.most and under_way >= _UNFILLED
        waits = unfilled and self._delivery.clock() - self._last_begun.get(call.account, 0.0) < _FILLING
        if waits or under_way >= self._places(call.account):
            return False
        if sum(by_account.values()) >= _MOST_IN_FLIGHT or not self._attempts.gate(call.account).allows(under_way):
            return False
        by_account[call.account] += 1
        return True

    async def _begin(self, calls: Sequence[Plan], now: float) -> None:
        """Write down that these calls begin, then begin them."""
        if single := [event for call in calls if not call.together for event in call.events]:
            await self._ledger.begin(single, now)
        together = [call.events for call in calls if call.together]
        keys = iter(await self._ledger.begin_batches(together, now) if together else ())
        for call in calls:
            batch = call.begun(now, next(keys) if call.together else "")
            for event in batch.events:
                self._lanes.start(event)
            self._attempts.pace(batch.account).begin(len(batch.events))
            self._last_begun[batch.account] = self._delivery.clock()
            task = asyncio.create_task(self._attempts.make(batch))
            self._in_flight[task] = batch.account
            task.add_done_callback(self._done)

    def _room(self, account: str, in_flight: int) -> int:
        """How many more events may begin of an account. Of the places that are free it leaves half to others."""
        if not self._attempts.gate(account).allows(in_flight):
            return 0
        probing = self._attempts.gate(account).failing
        most = self._delivery.most
        room = min(self._attempts.pace(account).room(in_flight, most), most * (self._places(account) - in_flight))
        free = _MOST_IN_FLIGHT - len(self._in_flight)
        return min(room, most * (1 if probing else max(free - in_flight, 1)))

    def _places(self, account: str) -> int:
        """How many calls of an account may be in flight."""
        places = self._attempts.pace(account).places
        return places if self._delivery.most == 1 else min(places, _MOST_BATCHES)

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._in_flight[task]
        self._wake.set()
        if not task.cancelled() and task.exception() is not None:
            _log.error("attempt_crashed", exc_info=task.exception())
