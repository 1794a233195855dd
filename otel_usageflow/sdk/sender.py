"""The queue and the thread that empties it: bounded, patient, and never in the way of a request.

`put` appends under a lock and returns; a daemon thread encodes and sends. What the service answers with "again" is
sent again, for as long as the process lives: the service bills a span once, however often it comes. So a dead service
costs memory up to the bounds, and after that the newest requests, which are counted. A forked child begins with an
empty queue: what waits in the parent is sent by the parent.
"""

import atexit
import os
import random
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass

from otel_usageflow.sdk.answer import Answer, Meaning
from otel_usageflow.sdk.connection import Connection
from otel_usageflow.sdk.counts import LOG, Counts, Stats
from otel_usageflow.sdk.encoding import encode
from otel_usageflow.sdk.record import Record


@dataclass(frozen=True, slots=True)
class Limits:
    """How much may wait, and for how long."""

    queue: int = 20_000
    """Requests that may wait."""
    queue_bytes: int = 64 << 20
    """Bytes that they may hold in memory, about."""
    batch: int = 512
    """Requests sent at once."""
    delay: float = 1.0
    """Seconds that a request waits for others, at most."""
    timeout: float = 10.0
    """Seconds for one attempt."""
    first_wait: float = 0.5
    """Seconds before the second attempt; doubled for each further one."""
    longest_wait: float = 30.0
    """Seconds between two attempts, at most, whatever the service asks for."""
    exit: float = 5.0
    """Seconds that sending what is left may take at the exit."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")


def pause(attempt: int, asked: float | None, limits: Limits, chance: float) -> float:
    """Seconds to wait after so many failed attempts; `chance` is from 0 to 1."""
    usual = min(limits.longest_wait, limits.first_wait * 2.0 ** min(attempt - 1, 30))
    return min(limits.longest_wait, max(usual * (0.5 + chance / 2), asked or 0.0))


class Sender:
    """Takes records from any thread."""

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self.limits = limits
        self._connection = connection
        self._begin()
        atexit.register(self.shutdown)
        if hasattr(os, "register_at_fork"):
            in_child = weakref.WeakMethod(self._begin_in_child)
            os.register_at_fork(after_in_child=lambda: (method := in_child()) and method())

    def _begin(self) -> None:
        self.counts = Counts()
        self._process = os.urandom(8).hex()
        self._changed = threading.Condition(threading.RLock())  # a signal handler may put while put runs
        self._queue: deque[Record] = deque()
        self._bytes = 0
        self._entered = self._settled = 0
        self._wanted = 0  # what `flush` asks to be sent at once
        self._stopped_at: float | None = None  # when the last attempt must be over
        self._thread: threading.Thread | None = None

    def _begin_in_child(self) -> None:
        self._connection.close()
        self._begin()
        atexit.unregister(self.shutdown)  # the parent's may be gone, when it was shut down before the fork
        atexit.register(self.shutdown)

    def put(self, record: Record) -> None:
        """Queue a record, or count it as dropped."""
        limits = self.limits
        with self._changed:
            self.counts.add("taken")
            waiting = self._entered - self._settled
            full = waiting >= limits.queue or self._bytes + record.weight > limits.queue_bytes
            if full or self._stopped_at is not None:
                self.counts.add("dropped")
            else:
                self._queue.append(record)
                self._bytes += record.weight
                self._entered += 1
                full = False
                if len(self._queue) in {1, limits.batch}:
                    self._changed.notify_all()
                if self._thread is None:
                    self._start()
        if full:
            self.counts.warn_once(
                "full",
                "requests are not billed: the queue of %d is full, because the service does not take them (%s); "
                "usageflow.stats() has the counts",
                limits.queue,
                self.counts.problem or "no answer yet",
            )

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="otel-usageflow-sdk", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending; `shutdown` sends by itself
            return
        self._thread = thread

    def stats(self) -> Stats:
        """The counts."""
        with self._changed:
            return self.counts.stats(self._entered - self._settled)

    def flush(self, timeout: float) -> bool:
        """Send what waits now, and say whether the service has answered for all of it within so many seconds."""
        with self._changed:
            self._wanted = target = self._entered
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._settled >= target, timeout)

    def shutdown(self, timeout: float | None = None) -> bool:
        """Send what is left within the deadline, then take nothing more; whether all was answered."""
        deadline = time.monotonic() + (self.limits.exit if timeout is None else timeout)
        with self._changed:
            if self._stopped_at is not None:
                return self._entered == self._settled
            self._stopped_at = deadline
            atexit.unregister(self.shutdown)
            self._changed.notify_all()
            thread = self._thread
        if thread is None:
            self._run()
        elif thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
        with self._changed:
            left = self._entered - self._settled
            self._settle(left, dropped=left)
        if left:
            self.counts.warn_once(
                "exit", "%d requests are not billed: the service did not take them before the exit (%s)",
                left, self.counts.problem or "no answer yet",
            )  # fmt: skip
        return not left

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._deliver(batch)
            except Exception:  # noqa: BLE001 - a thread that dies would bill nothing any more
                LOG.debug("sending failed", exc_info=True)
                with self._changed:
                    self._settle(len(batch), dropped=len(batch))
        self._connection.close()

    def _next(self) -> list[Record]:
        """The next batch; empty when the sender is stopped and nothing is left."""
        limits = self.limits
        with self._changed:
            while not self._queue:
                if self._stopped_at is not None:
                    return []
                self._changed.wait()
            self._changed.wait_for(self._is_time, limits.delay)
            number = min(len(self._queue), limits.batch)
            return [self._queue.popleft() for _ in range(number)]

    def _is_time(self) -> bool:
        """Whether a batch goes out before its delay is over."""
        return len(self._queue) >= self.limits.batch or self._stopped_at is not None or self._wanted > self._settled

    def _deliver(self, batch: list[Record]) -> None:
        """Send a batch until there is an answer, or no more time."""
        parts = [batch]
        while parts:
            part = parts.pop()
            answer = self._until_answered(part)
            if answer is None:
                return  # `shutdown` counts what is left
            if answer.meaning is Meaning.SMALLER and len(part) > 1:
                half = len(part) // 2
                parts += [part[half:], part[:half]]
                continue
            self._answered(part, answer)

    def _until_answered(self, part: list[Record]) -> Answer | None:
        body, unwritable = encode(part, self._process, self.counts.lost())
        attempt = 0
        while True:
            left = self._time_left()
            if left is not None and left <= 0:
                return None
            answer = self._connection.post(
                body, self.limits.timeout if left is None else min(left, self.limits.timeout)
            )
            if answer.problem is not None:
                self.counts.problem = answer.problem
            if answer.meaning is not Meaning.AGAIN:
                return answer if not unwritable else _with_rejected(answer, unwritable)
            attempt += 1
            self.counts.add("retries")
            self._wait(attempt, answer.wait)

    def _wait(self, attempt: int, asked: float | None) -> None:
        """Wait for the next attempt; the exit ends the wait, and then allows only short ones."""
        chance = random.random()  # noqa: S311 - spreads the attempts of many processes, hides nothing
        with self._changed:
            if self._stopped_at is None:
                seconds = pause(attempt, asked, self.limits, chance)
                self._changed.wait_for(lambda: self._stopped_at is not None, seconds)
                return
        time.sleep(max(0.0, min(pause(1, None, self.limits, chance), self._time_left() or 0.0)))

    def _time_left(self) -> float | None:
        stopped_at = self._stopped_at
        return None if stopped_at is None else stopped_at - time.monotonic()

    def _answered(self, part: list[Record], answer: Answer) -> None:
        number = len(part)
        rejected = min(number, answer.rejected) if answer.meaning is Meaning.TAKEN else number
        with self._changed:
            if self._stopped_at is not None and self._settled == self._entered:
                return  # the deadline has passed, and these are counted as dropped
            self._bytes -= sum(record.weight for record in part)
            self._settle(number, sent=number - rejected, rejected=rejected)
        if rejected:
            self.counts.warn_once(
                "rejected", "%d requests are not billed: the service refused them (%s); usageflow.stats() counts on",
                rejected, answer.problem or "no reason given",
            )  # fmt: skip

    def _settle(self, number: int, **counts: int) -> None:
        for name, count in counts.items():
            self.counts.add(name, count)
        self._settled += number
        self._changed.notify_all()


def _with_rejected(answer: Answer, unwritable: int) -> Answer:
    return Answer(answer.meaning, answer.problem or "a span that OTLP cannot carry", answer.rejected + unwritable)
