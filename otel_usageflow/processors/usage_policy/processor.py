"""The processor: holds the compiled policies, and asks them; keeps the keys that verify tokens up to date."""

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType

import structlog

from otel_usageflow.component import Change, Context, Judge, Measurement
from otel_usageflow.errors import StartError
from otel_usageflow.model.caller import Caller
from otel_usageflow.model.usage import Terms, UsageBatch
from otel_usageflow.policy.engine import PolicyEngine
from otel_usageflow.policy.jwt_cause import Cause
from otel_usageflow.policy.jwt_trust import Trust
from otel_usageflow.policy.policy import compile_policy
from otel_usageflow.policy.text import PLACEHOLDERS
from otel_usageflow.processors.usage_policy.arrival_report import ArrivalReport
from otel_usageflow.processors.usage_policy.arrival_watch import ArrivalWatch
from otel_usageflow.processors.usage_policy.config import UsagePolicyConfig
from otel_usageflow.processors.usage_policy.in_force import InForce
from otel_usageflow.processors.usage_policy.key_keeper import KeyKeeper, load_once
from otel_usageflow.processors.usage_policy.key_upkeep import FILE, REMOTE, Timing
from otel_usageflow.processors.usage_policy.measurements import arrivals, keys, refused_tokens

SUMMARY_INTERVAL = 60.0  # seconds

_log = structlog.get_logger(__name__)


def compile_engine(config: UsagePolicyConfig) -> PolicyEngine:
    """Compile a set of policies for a command; keys of tokens are read, and fetched, once.

    Raises:
        StartError: keys cannot be used or fetched.
    """
    trust = Trust(fixed=True)
    engine = _compiled(config, trust)
    load_once(trust.rings, time.time_ns)
    return engine


def _compiled(config: UsagePolicyConfig, trust: Trust) -> PolicyEngine:
    placeholders = PLACEHOLDERS.union(text.strip() for text in config.placeholders)
    try:
        policies = [
            compile_policy(policy, placeholders, trust, config.trace_wait, config.request_id)
            for policy in config.policies
        ]
    except ValueError as error:
        raise StartError(str(error)) from None
    heaviest = config.max_sampling_weight if config.sampling == "adjust" else None
    return PolicyEngine(policies, frozenset(config.exclude_scopes), heaviest)


def _terms(engine: PolicyEngine) -> tuple[Terms, ...]:
    return tuple(policy.terms for policy in engine.policies)


class UsagePolicyProcessor:
    """Turns spans into usage records by policy.

    Args:
        config: the policies.
        context: of the service.
        remote: when keys are fetched from addresses.
        file: when key files are read again.
        summary_interval: seconds between two lines of the log about tokens that were refused, or requests that are
            missing.
    """

    def __init__(
        self,
        config: UsagePolicyConfig,
        context: Context,
        *,
        remote: Timing = REMOTE,
        file: Timing = FILE,
        summary_interval: float = SUMMARY_INTERVAL,
    ) -> None:
        self._trust = Trust()
        self._in_force = InForce(_compiled(config, self._trust))
        self._id = context.id
        self._keeper = KeyKeeper(
            context.clock.ns,
            lambda problem: context.health.report(context.id, problem),
            remote,
            file,
        )
        self._summary_interval = summary_interval
        self._telling: asyncio.Task[None] | None = None
        self._watch = ArrivalWatch()
        self._report = ArrivalReport(
            self._watch, summary_interval, lambda: self._in_force.policies.heaviest is not None
        )
        self.terms = _terms(self._in_force.policies)
        """What the policies bill."""

    async def __aenter__(self) -> "UsagePolicyProcessor":
        """Start to keep keys up to date; ready with or without them."""
        await self._keeper.start(self._trust.rings)
        self._tell_if_needed()
        self._report.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        if self._telling is not None:
            self._telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._telling
        self._in_force.stop()
        await self._keeper.stop()
        await self._report.stop()

    def process(self, payload: bytes, received_ns: int, caller: Caller | None = None) -> UsageBatch:
        """Decide what is billed in one serialized `ExportTraceServiceRequest`; with a caller, under its account.

        Raises:
            InvalidData: the payload is no such message.
            Unavailable: it holds a token that cannot be judged before keys were loaded.
        """
        return self._judged(self._in_force.engine, payload, received_ns, caller)

    def judge(self) -> Judge:
        """What decides by the policies of now, and goes on to do so when they change."""
        return partial(self._judged, self._in_force.engine)

    def _judged(
        self, engine: PolicyEngine, payload: bytes, received_ns: int, caller: Caller | None = None
    ) -> UsageBatch:
        if caller is None:
            batch = engine.evaluate(payload, received_ns)
            self._watch.take(batch.arrivals)
            return batch
        batch = engine.of_account(caller.account).evaluate(payload, received_ns)
        # Two companies may both have a service of this name; what is said of one must not hide the other's.
        whose = caller.account or "own"
        self._watch.take({f"{service} of {whose}": seen for service, seen in batch.arrivals.items()})
        return batch

    async def prepare(self, config: UsagePolicyConfig) -> Change:
        """Compile other policies; keys that are loaded for the same place are taken over.

        Takes as long as new keys and local traces need.

        Raises:
            StartError: keys cannot be used.
            Unavailable: keys of a new place could not be loaded yet.
        """
        trust = Trust(before=self._trust)
        engine = await asyncio.to_thread(_compiled, config, trust)
        await self._keeper.prepare(trust.rings)
        try:
            await self._in_force.prepare(engine)
        except BaseException:
            self._keeper.discard()
            raise

        def apply() -> None:
            self._in_force.change(engine)
            self._trust, self.terms = trust, _terms(engine)
            trust.part()
            self._keeper.use(trust.rings)
            self._tell_if_needed()

        def discard() -> None:
            self._in_force.stay()
            self._keeper.discard()

        return Change(apply, discard, _terms(engine))

    async def measure(self) -> Sequence[Measurement]:
        """Tokens that were refused, the keys, and what tells of requests that are missing."""
        keeper = self._keeper
        await asyncio.to_thread(self._watch.judge)
        return [
            *arrivals(self._id, self._watch),
            *refused_tokens(self._id, self._trust.refused),
            *keys(self._id, keeper.upkeeps, keeper.loads_before),
        ]

    def _tell_if_needed(self) -> None:
        if self._trust.refused and self._telling is None:
            self._telling = asyncio.create_task(self._tell_regularly())

    async def _tell_regularly(self) -> None:
        """Say now and then which tokens were refused, for those who read no metrics."""
        told: Mapping[tuple[str, Cause], int] = {}
        while True:
            await asyncio.sleep(self._summary_interval)
            now = self._trust.refused
            new: dict[str, dict[str, int]] = {}
            for (policy, cause), count in now.items():
                if more := count - told.get((policy, cause), 0):
                    new.setdefault(policy, {})[cause.value] = more
            for policy, causes in new.items():
                _log.info("jwt_rejected", policy=policy, **causes)
            told = now
