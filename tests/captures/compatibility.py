"""Starts every stack, sends it the traffic, bills its spans, and writes docs/compatibility.md from what came of it.

    make compatibility          or  .venv/bin/python tests/captures/compatibility.py

Needs every environment (environments.py) and otel_usageflow itself.
"""

import io
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from columns import COLUMNS, NO_POLICY, cells, lettered, remedies
from environments import ENVIRONMENTS
from live import run
from oracle import bill
from provenance import Provenance, provenance_of
from stacks import CAPTURES, HERE, Capture

from otel_usageflow.cli import main as command_line

PAGE = HERE.parents[1] / "docs/compatibility.md"
LANGUAGES: Mapping[str, str] = {"python": "Python", "nodejs": "Node", "go": "Go", "java": "Java"}
"""`telemetry.sdk.language` -> heading, in the order of the page."""


@dataclass(frozen=True)
class Result:
    """What a run says about one capture."""

    capture: Capture
    bill: Mapping[str, Any]
    provenance: Provenance

    @property
    def row(self) -> str:
        """Its line in the table."""
        texts = cells(self.bill, self.capture.name)
        return f"| {self.capture.stack} | {self.capture.conventions} | {' | '.join(texts)} |"


def result_of(capture: Capture, spans: bytes) -> Result:
    """Bill what a server's exporter has sent."""
    return Result(capture, preview(capture, spans), provenance_of(spans, capture.json))


def preview(capture: Capture, spans: bytes) -> Mapping[str, Any]:
    """What `otel-usageflow preview --format json` prints under policies.yaml, without the number of spans.

    Raises:
        RuntimeError: the command failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / capture.file.name
        file.write_bytes(spans)
        sets = [argument for each in capture.sets for argument in ("--set", each)]
        options = ["--config", str(HERE / "policies.yaml"), *sets, "--input", str(file), "--format", "json"]
        with redirect_stdout(io.StringIO()) as output, redirect_stderr(io.StringIO()) as errors:
            status = command_line(["preview", *options])
    if status != 0:
        raise RuntimeError(errors.getvalue())
    printed: dict[str, Any] = json.loads(output.getvalue())
    del printed["spans"]
    return printed


def page(results: Iterable[Result]) -> str:
    """docs/compatibility.md."""
    results = list(results)
    head = f"| stack | names | {' | '.join([*COLUMNS, NO_POLICY])} |"
    rule = f"| --- | --- |{' --- |' * (len(COLUMNS) + 1)}"
    tables = []
    for language, title in LANGUAGES.items():
        rows = [result.row for result in results if result.provenance.language == language]
        if rows:
            tables.append("\n".join([f"## {title}", "", head, rule, *rows]))
    used = {heading for result in results for heading in remedies(result.capture.name)}
    parts = [_part("intro.md"), *tables, "## What to do about it", *_sections(used), _run_with(results)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def sections() -> Mapping[str, str]:
    """page/remedies.md: heading -> text."""
    pieces = ("\n" + _part("remedies.md")).split("\n## ")[1:]
    return {heading.strip(): text.strip() for heading, _, text in (piece.partition("\n") for piece in pieces)}


def _sections(used: Iterable[str]) -> list[str]:
    told = sections()
    letters = lettered()
    return [
        f"### {heading}\n\n**{letters[heading]}**: {told[heading]}" for heading in letters if heading in set(used)
    ]


def _run_with(results: Iterable[Result]) -> str:
    groups: dict[tuple[str, Provenance], list[str]] = {}
    for result in results:
        groups.setdefault((result.capture.stack, result.provenance), []).append(result.capture.conventions)
    rows = [
        f"| {stack} | {', '.join(names)} | {provenance.sdk} | {', '.join(provenance.scopes)} |"
        for (stack, provenance), names in groups.items()
    ]
    return "\n".join(
        [
            "## Run with",
            "",
            _part("run-with.md").strip(),
            "",
            "| stack | names | SDK | instrumentations |",
            "| --- | --- | --- | --- |",
            *rows,
        ]
    )


def _part(name: str) -> str:
    return (HERE / "page" / name).read_text(encoding="utf-8")


def main() -> int:
    """Write the page; 1 if a stack cannot be run here, or costs what nothing explains."""
    lacking = {name: reason for name, one in ENVIRONMENTS.items() if (reason := one.missing())}
    if lacking:
        print(*lacking.values(), sep="\n", file=sys.stderr)
        return 1
    results, failed = [], 0
    for capture, spans in zip(CAPTURES, run(CAPTURES).values(), strict=True):
        if isinstance(spans, Exception):
            print(f"{capture.name}: {spans!r}", file=sys.stderr)
            failed += 1
            continue
        result = result_of(capture, spans)
        if result.bill != bill(capture.name):
            print(f"{capture.name} costs what differences.py does not explain", file=sys.stderr)
            failed += 1
        results.append(result)
    if not failed:
        PAGE.write_text(page(results), encoding="utf-8")
        print(f"{PAGE.name}: {len(results)} stacks and conventions")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
