"""The way of a request through a pipeline: bytes -> processor -> every exporter -> the receiver's answer."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any

import structlog

from otel_usageflow.component import Consumed, Consumer, Exporter, Judge, Processor, Reloadable
from otel_usageflow.errors import ConsumeError, Unavailable
from otel_usageflow.model.caller import Caller
from otel_usageflow.model.usage import UsageBatch
from otel_usageflow.service.summary import UsageSummary

IN_A_THREAD = 1024 * 1024
"""Requests over this many bytes are processed in a thread, so that the event loop keeps answering meanwhile."""

_ALL = Consumed()
_log = structlog.get_logger(__name__)


class Pipeline:
    """A `Consumer` that returns once every exporter has the usage safe."""

    def __init__(
        self,
        id_: str,
        processor: Processor,
        exporters: Sequence[Exporter],
        summary: UsageSummary,
        *,
        now_ns: Callable[[], int],
    ) -> None:
        self.id = id_
        self._processor = processor
        self._reloadable = processor if isinstance(processor, Reloadable) else None
        self._exporters = tuple(exporters)
        self._summary = summary
        self._now_ns = now_ns

    def judge(self) -> Judge:
        """What decides about a request that begins now, whatever becomes of the policies until it ends."""
        return self._processor.process if self._reloadable is None else self._reloadable.judge()

    def __call__(self, payload: bytes, caller: Caller | None = None) -> Coroutine[Any, Any, Consumed]:
        """Take one request; raises as `take`."""
        return self.take(payload, self.judge(), caller)

    async def take(self, payload: bytes, judge: Judge, caller: Caller | None = None) -> Consumed:
        """Take one request under these policies, of a caller if an authenticator knows one.

        Raises:
            ConsumeError: nothing of it was acknowledged. A failure that nobody foresaw is `Unavailable`, too: it
                must not reach a client as a reason to throw its spans away.
        """
        try:
            decide = judge if caller is None else partial(judge, caller=caller)
            if len(payload) > IN_A_THREAD:
                batch = await asyncio.to_thread(decide, payload, self._now_ns())
            else:
                batch = decide(payload, self._now_ns())
            batch.caller = caller
            for exporter in self._exporters:
                await exporter.export(batch)
        except ConsumeError as error:
            self._summary.refuse(self.id, error)
            raise
        except Exception as error:
            self._summary.refuse(self.id, error)
            _log.exception("request_failed", pipeline=self.id)
            raise Unavailable("an internal error, see the log of otel-usageflow") from error
        self._summary.add(self.id, batch)
        return consumed(batch)


def consumed(batch: UsageBatch) -> Consumed:
    """The answer to a request whose usage is durable."""
    if not batch.malformed:
        return _ALL
    return Consumed(batch.malformed, f"{batch.malformed} spans have no valid trace or span id and cannot be billed")


def fan_out(pipelines: Sequence[Pipeline]) -> Consumer:
    """One consumer for a receiver: success only when all of its pipelines have taken the request.

    When one refuses, the client sends the request again; who has taken it already recognises its charges.
    """
    if len(pipelines) == 1:
        return pipelines[0]

    async def consume(payload: bytes, caller: Caller | None = None) -> Consumed:
        judges = [pipeline.judge() for pipeline in pipelines]  # all of one moment, though they work one by one
        answers = [await each.take(payload, judge, caller) for each, judge in zip(pipelines, judges, strict=True)]
        return max(answers, key=lambda answer: answer.rejected_spans)

    return consume
