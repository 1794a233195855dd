"""Requests that are billed by their trace, from the exporter to Stripe."""

import time
from dataclasses import replace
from pathlib import Path

from billing import CHAT, billing, total
from traces import SECOND, request, span, trace_batch

from otel_usageflow.testing.stripe import StripeDouble

SUMMED = replace(CHAT, quantity=None)


async def test_a_trace_is_billed_about_its_wait_later(tmp_path: Path) -> None:
    """Nobody has to wake the exporter: it sends when the wait and the window are over, and not before."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, (SUMMED,)) as running:
            ended = time.time_ns()
            await running.exporter.export(
                trace_batch(
                    span(1, 90, entry=True, ended_ns=ended),
                    span(2, 1, tokens=3),
                    request(1, terms=SUMMED, wait=1, ended_ns=ended),
                )
            )
            names = {one.name: one.value for one in await running.exporter.measure()}
            assert names["otel_usageflow_trace_requests_waiting"] == 1
            assert 0 < names["otel_usageflow_oldest_unsent_usage_age_seconds"] < 5
            await running.exporter.export(trace_batch(span(3, 1, tokens=4)))
            await stripe.wait_until(lambda: len(stripe.accepted) == 1)
            assert 1 <= time.time() - ended / SECOND < 4
            await running.exporter.export(trace_batch(span(4, 1, tokens=5, ended_ns=time.time_ns())))
            await stripe.wait_until(lambda: total(stripe, customer) == 12)
            names = {one.name: one.value for one in await running.exporter.measure()}
            assert names["otel_usageflow_trace_requests_waiting"] == 0
            assert names["otel_usageflow_trace_spans_late_total"] == 1
        assert stripe.violations == []


async def test_what_waited_is_billed_after_a_restart_without_the_policy(tmp_path: Path) -> None:
    """The terms are kept with what waits, so that a removed policy still bills what it has taken."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        ended = time.time_ns()
        async with billing(tmp_path, stripe, (SUMMED,)) as running:
            await running.exporter.export(
                trace_batch(
                    span(1, 90, entry=True, ended_ns=ended),
                    span(2, 1, tokens=3),
                    request(1, terms=SUMMED, wait=2, ended_ns=ended),
                )
            )
        assert stripe.accepted == []
        async with billing(tmp_path, stripe, ()):
            await stripe.wait_until(lambda: total(stripe, customer) == 3)


async def test_records_of_their_own_are_sent_without_a_window(tmp_path: Path) -> None:
    """With a window of 0 each request is sent by itself when its wait is over."""
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(tmp_path, stripe, (SUMMED,), aggregation={"window": "0s"}) as running:
            for number in range(3):
                trace, ended = (7_000 + number).to_bytes(16, "big"), time.time_ns()
                await running.exporter.export(
                    trace_batch(
                        span(1, 90, entry=True, trace=trace, ended_ns=ended),
                        span(2, 1, tokens=3, trace=trace),
                        request(1, terms=SUMMED, wait=0.5, trace=trace, ended_ns=ended),
                    )
                )
            await stripe.wait_until(lambda: total(stripe, customer) == 9)
            assert len(stripe.accepted) == 3
