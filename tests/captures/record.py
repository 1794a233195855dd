"""Records the captures: starts each server, sends it the traffic, keeps what its exporter sends.

    python tests/captures/record.py             all of them
    python tests/captures/record.py flask-old   only those whose names start so

Needs what docs/capturing.md says for each language, and package registries. Also writes expected.json.
"""

import sys

from environments import ENVIRONMENTS
from live import spans_of
from oracle import expected_text
from stacks import CAPTURES, HERE, Capture


def record(capture: Capture) -> None:
    """Write one capture; raises what `spans_of` raises."""
    ENVIRONMENTS[capture.environment].prepare()
    spans = spans_of(capture)
    capture.file.write_bytes(spans)
    print(f"{capture.file.name}: {len(spans)} bytes")


def main(prefixes: list[str]) -> None:
    """Record the captures that are asked for, and write down what they must cost."""
    for capture in CAPTURES:
        if not prefixes or capture.name.startswith(tuple(prefixes)):
            record(capture)
    text = expected_text(capture.name for capture in CAPTURES)
    (HERE / "expected.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
