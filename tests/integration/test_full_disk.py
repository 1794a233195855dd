"""A disk without room at every kind of write: nothing half written, everybody told, and back to work by itself."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from full_ledger import fill

from otel_usageflow.errors import StorageError
from otel_usageflow.extensions.sqlite_storage.file import open_for_writing

SUPPORT = Path(__file__).parents[1] / "support"

# The system refuses every byte that a file would grow by; sockets and pipes go on.
_BEGIN = """
import asyncio, contextlib, resource, signal, sys, time
from pathlib import Path

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

def full(yes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (0 if yes else hard, hard))
"""

_SENDING = (
    _BEGIN
    + """
from billing import billing, record, total
from otel_usageflow.errors import Unavailable
from otel_usageflow.testing.stripe import Fault, StripeDouble

async def main():
    async with StripeDouble() as stripe:
        stripe.add_meter("api_request")
        customer = stripe.add_customer({"account_id": "acme"})
        async with billing(Path(sys.argv[1]), stripe) as running:
            await running.bill(record(quantity=1))
            await stripe.wait_until(lambda: total(stripe, customer) == 1)
            # While answers cannot be written down: an attempt is under way when the disk fills.
            slow = stripe.fault("/v1/billing/meter_events", Fault.SLOW_AFTER, times=1)
            await running.bill(record(quantity=10))
            await stripe.wait_until(lambda: slow.fired == 1)
            full(True)
            for _ in range(3):
                with contextlib.suppress(Unavailable):
                    await running.bill(record(quantity=100))
                    raise AssertionError("taken on a full disk")
            last = int(time.time())  # windows of that second end, and nothing can be frozen or begun
            await stripe.wait_until(lambda: time.time() > last + 1.5)
            full(False)
            await running.bill(record(quantity=1_000))
            await stripe.wait_until(lambda: total(stripe, customer) == 1_011)
        assert stripe.violations == []
    print("billed", total(stripe, customer))

asyncio.run(main())
"""
)

_COMMANDS = (
    _BEGIN
    + """
from otel_usageflow.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (33_000, hard))  # SQLite's index of the log, in the ledger's folder, fits
print("status", main(sys.argv[1:]), file=sys.stderr)
"""
)

_START = (
    _BEGIN
    + """
from ledgers import book

async def main():
    full(True)
    try:
        async with book(Path(sys.argv[1])):
            print("started")
    except Exception as error:
        print(type(error).__name__, error)
    full(False)
    async with book(Path(sys.argv[1])):
        print("started later")

asyncio.run(main())
"""
)


def run(program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in a process of its own, because the limit is the process's."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env={"PYTHONPATH": str(SUPPORT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_the_sender_goes_on_when_there_is_room(tmp_path: Path) -> None:
    """Freezing, beginning and settling wait for the disk; then everything is billed, once."""
    process = run(_SENDING, str(tmp_path))
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == "billed 1011"


CONFIG = """
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:0"}}}}
processors:
  usage_policy:
    policies:
      - {name: chat, endpoint: POST /chat, user: {header: x-id}, customer: {metadata_field: id}, event_name: e}
exporters: {stripe_meter: {api_key: k, sending_queue: {storage: sqlite_storage}}}
extensions: {sqlite_storage: {directory: DIRECTORY}}
service:
  extensions: [sqlite_storage]
  pipelines: {traces: {receivers: [otlp], processors: [usage_policy], exporters: [stripe_meter]}}
"""

COMMANDS = {
    "backup": ["backup", "OUT"],
    "json": ["export", "--what", "usage", "--output", "OUT"],
    "parquet": ["export", "--what", "usage", "--format", "parquet", "--output", "OUT"],
    "recover": ["recover", "LEDGER", "--output", "OUT"],
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS.keys())
async def test_copies_and_exports_leave_no_half_file(tmp_path: Path, command: list[str]) -> None:
    """They say that there is no room, in one line, with status 2, and nothing is left of the file."""
    await fill(tmp_path / "ledger", users=300, events=5)
    (tmp_path / "usageflow.yaml").write_text(CONFIG.replace("DIRECTORY", str(tmp_path / "ledger")))
    output = tmp_path / "out"
    output.mkdir()
    places = {"OUT": str(output / "file"), "LEDGER": str(tmp_path / "ledger" / "ledger.db")}
    arguments = [places.get(word, word) for word in command]
    config = [] if command[0] == "recover" else ["--config", str(tmp_path / "usageflow.yaml")]
    process = await asyncio.to_thread(run, _COMMANDS, "ledger", *arguments, *config)
    assert process.stderr.splitlines()[-1] == "status 2", process.stderr
    assert "cannot be written" in process.stderr
    assert "Traceback" not in process.stderr
    assert list(output.iterdir()) == []


@pytest.mark.parametrize("there", [True, False], ids=["a ledger", "no ledger"])
async def test_a_start_leaves_nothing_half_made(tmp_path: Path, there: bool) -> None:
    """A start on a full disk is an error that says so, or a start that refuses usage; later it starts."""
    if there:
        await fill(tmp_path)
    process = await asyncio.to_thread(run, _START, str(tmp_path))
    assert process.returncode == 0, process.stderr
    first, *_, last = [line for line in process.stdout.splitlines() if not line.startswith("2")]
    assert last == "started later"
    assert first.startswith(("StorageError", "started"))
    assert "Traceback" not in process.stdout


def test_a_migration_on_a_full_disk_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the schema that does not fit is rolled back, with the version."""
    from otel_usageflow.extensions.sqlite_storage import migration

    monkeypatch.setattr(migration, "MIGRATIONS", migration.MIGRATIONS[:1])
    open_for_writing(tmp_path).close()
    monkeypatch.undo()
    before = (tmp_path / "ledger.db").read_bytes()
    program = _BEGIN + (
        "from otel_usageflow.extensions.sqlite_storage.file import open_for_writing\n"
        "full(True)\nopen_for_writing(Path(sys.argv[1]))\n"
    )
    process = run(program, str(tmp_path))
    assert process.returncode == 1
    assert StorageError.__name__ in process.stderr
    assert (tmp_path / "ledger.db").read_bytes() == before
    open_for_writing(tmp_path).close()
