"""`doctor`: whether the service runs, takes spans, and what it says about them in its own metrics."""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from otel_usageflow.cli.finding import Finding, Level
from otel_usageflow.component import Kind

if TYPE_CHECKING:
    from otel_usageflow.config.model import Config
    from otel_usageflow.config.types import HostPort

_PATIENCE = 5.0


class Sample(NamedTuple):
    """One number of the metrics page."""

    name: str
    labels: dict[str, str]
    value: float


async def examine(config: "Config") -> list[Finding]:
    """Everything that the running service tells, if it runs."""
    findings = [await _listening(name, endpoint) for name, endpoint in _listeners(config)]
    health = await _health(config)
    if health is not None:
        findings.append(health)
    readers = config.service.telemetry.metrics.readers
    if not readers:
        text = "no metrics are configured, so that nothing can be said about the spans that came in"
        findings.append(Finding(Level.NOTE, "service::telemetry::metrics", text, "see docs/metrics.md"))
    for reader in readers[:1]:
        findings.extend(await _metrics(reader.pull.exporter.prometheus.endpoint))
    return findings


def _listeners(config: "Config") -> "Iterator[tuple[str, HostPort]]":
    from otel_usageflow.extensions.admin import AdminConfig
    from otel_usageflow.receivers.otlp.config import OtlpConfig

    for id_ in config.used(Kind.RECEIVER):
        receiver = config.receivers[id_].config
        if isinstance(receiver, OtlpConfig):
            for protocol in ("grpc", "http"):
                part = getattr(receiver.protocols, protocol)
                if part is not None:
                    yield f"receivers::{id_}::protocols::{protocol}", part.endpoint
    for id_ in config.used(Kind.EXTENSION):
        extension = config.extensions[id_].config
        if isinstance(extension, AdminConfig):  # where links to connect accounts and webhooks come back to
            yield f"extensions::{id_}", extension.endpoint


async def _listening(where: str, endpoint: "HostPort") -> Finding:
    host = _reachable(endpoint.host)
    try:
        async with asyncio.timeout(_PATIENCE):
            _, writer = await asyncio.open_connection(host, endpoint.port)
    except (OSError, TimeoutError) as error:
        text = f"nothing can be reached at {host}:{endpoint.port}: {_why(error)}"
        return Finding(Level.WARNING, where, text, "start the service, or run doctor where it runs")
    writer.close()
    note = "" if endpoint.host not in ("127.0.0.1", "localhost", "::1") else ", from this machine only"
    return Finding(Level.OK, where, f"{endpoint} takes connections{note}")


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else "no answer"


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104


async def _health(config: "Config") -> Finding | None:
    from otel_usageflow.extensions.health_check import HealthCheckConfig

    for id_ in config.used(Kind.EXTENSION):
        extension = config.extensions[id_].config
        if isinstance(extension, HealthCheckConfig):
            endpoint = extension.endpoint
            where = f"extensions::{id_}"
            page = await _get(f"http://{_bracketed(_reachable(endpoint.host))}:{endpoint.port}/readyz")
            if page is None:
                return Finding(Level.WARNING, where, "the service does not run here", "start it")
            if page[0] == 200:
                return Finding(Level.OK, where, "the service takes spans")
            try:
                problems = "; ".join(f"{name}: {text}" for name, text in json.loads(page[1])["problems"].items())
            except (ValueError, KeyError, AttributeError):
                problems = f"status {page[0]}"
            return Finding(Level.PROBLEM, where, f"the service refuses spans: {problems}", "see its log")
    return None


async def _metrics(endpoint: "HostPort") -> list[Finding]:
    where = "service::telemetry::metrics"
    page = await _get(f"http://{_bracketed(_reachable(endpoint.host))}:{endpoint.port}/metrics")
    if page is None or page[0] != 200:
        text = f"cannot be read at {endpoint}"
        return [Finding(Level.WARNING, where, text, "start the service, or run doctor where it runs")]
    return list(of_metrics(page[1]))


def of_metrics(text: str) -> Iterator[Finding]:
    """What a page of metrics tells about what comes in."""
    samples = [
        Sample(sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.value
    ]
    for name, labels, value in samples:
        if name == "otel_usageflow_sampled_share":
            yield Finding(
                Level.PROBLEM,
                f"service {labels['service']}",
                f"its requests look sampled: about {value:.0%} of them arrive, and only these are billed",
                "sample nothing before this service: see docs/sampling.md",
            )
        elif name == "otel_usageflow_perhaps_doubled_requests":
            yield Finding(
                Level.WARNING,
                f"service {labels['service']}",
                f"{labels['scopes']} report equally many requests, {value:,.0f} each: if they are the same "
                "ones, each is billed twice",
                "`discover` on recorded spans tells; then name one of the two in exclude_scopes",
            )
        elif (told := _TOLD.get(name)) is not None:
            what = ", ".join(f"{key} {one}" for key, one in sorted(labels.items()) if key != "pipeline")
            yield Finding(told[0], what or "service", told[1].format(count=f"{value:,.0f}"), told[2])
    requests = sum(one.value for one in samples if one.name == "otel_usageflow_requests_total")
    unmatched = sum(one.value for one in samples if one.name == "otel_usageflow_unmatched_requests_total")
    if requests:
        text = f"{unmatched:,.0f} of {requests:,.0f} requests since the service started matched no policy"
        remedy = "`discover` lists endpoints, `preview` those that no policy is about" if unmatched else ""
        yield Finding(Level.NOTE if unmatched else Level.OK, "traffic", text, remedy)
    elif any(one.name.startswith("otel_usageflow_") for one in samples):
        remedy = "does the exporter of the API point here, over the right protocol?"
        yield Finding(Level.WARNING, "traffic", "no request has come in since the service started", remedy)


_TOLD = {
    "otel_usageflow_sdk_lost_requests_total": (
        Level.PROBLEM,
        "{count} requests were given up by otel_usageflow.sdk in the apps",
        "can the apps reach this service, and is their queue large enough? See docs/sdk.md",
    ),
    "otel_usageflow_cut_short_records_total": (
        Level.WARNING,
        "{count} requests without a user come from spans that had attributes dropped",
        "raise OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT in the app, or set fewer attributes",
    ),
    "otel_usageflow_redacted_records_total": (
        Level.WARNING,
        "{count} requests without a user have a placeholder such as [REDACTED] or - in its place",
        "let the instrumentation and the Collector keep that value: see docs/capturing.md",
    ),
    "otel_usageflow_failed_conditions_total": (
        Level.WARNING,
        "{count} requests were left alone because its condition failed on them",
        "see docs/policies.md on conditions: a missing attribute, or types that do not go together",
    ),
    "otel_usageflow_malformed_spans_total": (
        Level.WARNING,
        "{count} spans have no valid ids and cannot be billed",
        "find out who makes them: no SDK should",
    ),
    "otel_usageflow_trace_spans_unclaimed_total": (
        Level.NOTE,
        "{count} spans with a quantity belong to no request",
        "right for work in the background; otherwise see docs/quantities.md",
    ),
}
"""Metric -> how bad it is, what it means, what to do."""


async def _get(url: str) -> tuple[int, str] | None:
    timeout = aiohttp.ClientTimeout(total=_PATIENCE)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as client, client.get(url) as answer:
            return answer.status, await answer.text(errors="replace")
    except (aiohttp.ClientError, OSError, TimeoutError):
        return None


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
