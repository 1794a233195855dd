"""A real OpenTelemetry Collector in front of the running service: what it has accepted is billed exactly once."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import grpc
import pytest
from billed import USERS, api, stripe_and_service, until_billed
from foreign_programs import collector, need
from load import EXPORT, request
from prepare import COLLECTOR
from processes import CONFIG, free_port

IN_FRONT = """
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{listen}"}}}}}}
exporters:
  {exporter}:
    endpoint: "{endpoint}"
    tls: {{insecure: true}}
    retry_on_failure: {{initial_interval: 100ms, max_interval: 500ms, max_elapsed_time: 0}}
    sending_queue:
      storage: file_storage
      num_consumers: 4
      batch: {{flush_timeout: 200ms, min_size: 50, max_size: 70}}
extensions:
  file_storage: {{directory: "{directory}", create_directory: true}}
service:
  extensions: [file_storage]
  pipelines:
    traces: {{receivers: [otlp], exporters: [{exporter}]}}
"""


@pytest.fixture(autouse=True)
def _can_run() -> None:
    need(COLLECTOR)


@pytest.mark.parametrize("exporter", ["otlp_grpc/billing", "otlp_http/billing"])
async def test_what_a_collector_accepted_is_billed_once(tmp_path: Path, exporter: str) -> None:
    """Service and Collector are killed in turn, batches are cut anew and sent again: lost 0, doubled 0."""
    async with stripe_and_service(tmp_path) as (stripe, running):
        listen = free_port()
        endpoint = f"127.0.0.1:{running.grpc}" if "grpc" in exporter else f"http://127.0.0.1:{running.http}"
        config = IN_FRONT.format(listen=listen, exporter=exporter, endpoint=endpoint, directory=tmp_path / "queue")
        async with collector(tmp_path, config, listen) as front:
            async with api(listen) as first:
                await first.requests(300)
                await running.kill()
                await first.requests(300)
                await front.says("Will retry the request after interval")
            await front.kill()
            await front.start()
            async with api(listen) as second:
                await second.requests(100)
                await running.start()
                await asyncio.gather(second.requests(300), running.kill())
                await running.start()
            assert (first.books.lost, second.books.lost) == (0, 0)
            taken = first.books.taken + second.books.taken
            assert taken.total() == sum(
                number % 7 + 1 for api in (first, second) for number in range(1, api.sent + 1)
            )
            await until_billed(stripe, taken)


@pytest.mark.parametrize("form", ["json", "proto"])
async def test_preview_reads_what_the_file_exporter_writes(tmp_path: Path, form: str) -> None:
    """A recording by a Collector is billed to the users that sent the requests, in either format of the exporter."""
    listen, recorded = free_port(), tmp_path / "recorded"
    config = f"""
receivers:
  otlp: {{protocols: {{grpc: {{endpoint: "127.0.0.1:{listen}"}}}}}}
exporters:
  file: {{path: "{recorded}", format: {form}}}
service:
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
"""
    async with collector(tmp_path, config, listen) as front:
        async with api(listen) as program:
            await program.requests(150)
        await front.stop()
    bill = await preview(tmp_path, recorded)
    assert (bill["spans"], bill["requests"]) == (2 * 150, 150)
    assert {line["user"]: int(line["quantity"]) for line in bill["usage"]} == dict(program.books.taken)


async def preview(directory: Path, recorded: Path) -> dict[str, object]:
    """What the installed command makes of a recording."""
    config = directory / "preview.yaml"
    config.write_text(
        CONFIG.format(grpc=1, http=2, health=3, stripe="http://127.0.0.1:4", directory="none", window="1s")
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "otel_usageflow", "preview", "--config", str(config)),
        *("--input", str(recorded), "--format", "json"),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return json.loads(printed)


@pytest.mark.parametrize("exporter", ["otlp_grpc", "otlp_http"])
async def test_broken_text_in_a_span_costs_nothing(tmp_path: Path, exporter: str) -> None:
    """A Collector passes on text that is no UTF-8: that request is billed like those beside it in the batch."""
    async with stripe_and_service(tmp_path) as (stripe, running):
        listen = free_port()
        endpoint = f"127.0.0.1:{running.grpc}" if exporter == "otlp_grpc" else f"http://127.0.0.1:{running.http}"
        config = IN_FRONT.format(listen=listen, exporter=exporter, endpoint=endpoint, directory=tmp_path / "queue")
        whole = request([(bytes([number]) * 16, USERS[number], number) for number in range(1, 4)])
        broken = whole.replace(b"POST /v1/chat", b"POST\xff/v1/chat", 1)
        async with (
            collector(tmp_path, config, listen),
            grpc.aio.insecure_channel(f"127.0.0.1:{listen}") as channel,
        ):
            assert broken != whole
            await channel.unary_unary(EXPORT)(broken, timeout=10)
            await until_billed(stripe, Counter({USERS[number]: number for number in range(1, 4)}))
