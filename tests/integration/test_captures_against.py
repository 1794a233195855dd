"""`preview --against` on spans that real servers really sent: what a change of policies changes, stack by stack."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from outside import command

CAPTURES = Path(__file__).parents[1] / "captures"
FILES = sorted([*CAPTURES.glob("*.pb"), *CAPTURES.glob("*.jsonl")])
NOBODY = {"fastapi-native", "fastapi-with-remedies-native", "otelhttp-current"}
"""The policies leave the scope of these captures out, or their spans have no headers."""
BILLED = [file for file in FILES if file.stem not in NOBODY]
POLICIES = CAPTURES / "policies.yaml"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_policies_that_are_only_moved_bill_the_same(file: Path, tmp_path: Path) -> None:
    """The same policies in the opposite order, but for one that takes another's requests: one line, status 0."""
    tree = yaml.safe_load(POLICIES.read_text())
    policies = tree["processors"]["usage_policy"]["policies"]
    policies.sort(key=lambda policy: policy["name"] == "lines")  # last, and so, turned round, still before `lookup`
    policies.reverse()
    moved = tmp_path / "moved.yaml"
    moved.write_text(yaml.safe_dump(tree))
    result = command("preview", "--config", moved, "--against", POLICIES, "--input", file)
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith("no difference: ")
    assert result.out.count("\n") == 1


@pytest.mark.parametrize("file", BILLED, ids=lambda file: file.stem)
def test_a_change_is_told_as_both_bills_tell_it(file: Path, tmp_path: Path) -> None:
    """The difference is that of the two previews, line by line, and nothing else; status 3."""
    tree = yaml.safe_load(POLICIES.read_text())
    for policy in tree["processors"]["usage_policy"]["policies"]:
        if policy["name"] == "lookup":
            policy["status"] = "2xx"
        if policy["name"] == "chat":
            policy["quantity"] = 2.5
    new = tmp_path / "new.yaml"
    new.write_text(yaml.safe_dump(tree))
    result = command("preview", "--config", new, "--against", POLICIES, "--input", file, "--format", "json")
    assert (result.status, result.err) == (3, "")
    told = json.loads(result.out)
    before, after = (
        json.loads(command("preview", "--config", one, "--input", file, "--format", "json").out)
        for one in (POLICIES, new)
    )
    assert {line["policy"] for line in told["usage"]} == {"lookup", "chat"}
    for side, bill in (("before", before), ("after", after)):
        quantities = {key(line): line["quantity"] for line in bill["usage"]}
        for line in told["usage"]:
            assert line["quantity"][side] == quantities.pop(key(line), "0")
        assert not {policy for policy, _ in quantities} & {"chat"}
    assert [(one["policy"], one["requests"]["difference"]) for one in told["unbilled"]] == [("lookup", 1)]
    assert told["quarantined"] == []


def key(line: dict[str, Any]) -> tuple[str, str]:
    return line["policy"], line["user"]


def test_the_installed_command(tmp_path: Path) -> None:
    """From a shell, as CI runs it: 0, 3 and 1 are told apart, and an error names its file."""
    base = ["-m", "otel_usageflow", "preview", "--config", str(POLICIES), "--input", str(CAPTURES / "flask-http.pb")]

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *base, *more], capture_output=True, text=True, timeout=60, check=False, cwd=tmp_path
        )

    broken = tmp_path / "broken.yaml"
    broken.write_text(POLICIES.read_text().replace("event_name: lookup", "event_nam: lookup"))
    assert run("--against", str(POLICIES)).returncode == 0
    changed = run("--against", str(POLICIES), "--set", "processors::usage_policy::placeholders=[acme]")
    assert (changed.returncode, "acme" in changed.stdout) == (3, True)
    failed = run("--against", str(broken))
    assert (failed.returncode, failed.stdout) == (1, "")
    assert f"{broken}: processors::usage_policy::policies::" in failed.stderr
