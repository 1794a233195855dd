"""Ends the demo's processes when the demo itself is gone, however it went: `python -m otel_usageflow.demo.leash`.

Standard input is a pipe whose other end only the demo holds. Lines `+PID` and `-PID` say which processes there are;
the end of the pipe means that nobody looks after them any more.
"""

import contextlib
import os
import signal
import sys


def main() -> None:
    """Follow the list until the pipe ends, then kill what is still on it."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    alive: set[int] = set()
    for line in sys.stdin:
        sign, pid = line[0], int(line[1:])
        (alive.add if sign == "+" else alive.discard)(pid)
    for pid in alive:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
