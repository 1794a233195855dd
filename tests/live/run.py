"""`make stripe-live`: the open questions of docs/stripe.md, asked of Stripe in a sandbox, and the service run on it.

It makes meters and customers of its own, with names that nobody else has, and takes them away, after Ctrl-C too.
Each answer is a line `settles: question: answer`. Status 0: all is as it is relied on; 1: something is not.
"""

import asyncio
import signal
import sys

from settings import NotToBeRun, Refused, settings
from stage import stage
from steps_accounts import another_key, connected_account
from steps_later import cancellation, reports, summaries
from steps_now import decimals, duplicates, limits, refusals
from steps_service import the_service
from steps_stream import the_stream

STEPS = (
    duplicates,
    refusals,
    decimals,
    the_service,
    the_stream,
    cancellation,
    summaries,
    reports,
    connected_account,
    another_key,
    limits,
)


async def main() -> int:
    """Run every step; one that breaks off keeps no other from running."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    given = settings()
    try:
        async with stage(given) as running:
            running.say(f"run {running.mark} against {given.api}")
            try:
                for step in STEPS:
                    running.say(f"-- {step.__name__.replace('_', ' ')}")
                    try:
                        await step(running)
                    except Exception as error:  # noqa: BLE001  (told, and the rest is still worth asking)
                        running.check(False, f"{step.__name__} comes to its end", f"{type(error).__name__}: {error}")
            except asyncio.CancelledError:
                running.say("interrupted: what was made is taken away")
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, lambda: None)
                task.uncancel()
                running.failures += 1
        running.say(f"{running.settled} questions settled, {running.failures} failed")
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    return 1 if running.failures else 0


if __name__ == "__main__":
    try:
        status = asyncio.run(main())
    except NotToBeRun as reason:
        sys.stdout.write(f"skipped: {reason}\n")
        status = 0
    except Refused as reason:
        sys.stderr.write(f"refused: {reason}\n")
        status = 1
    sys.exit(status)
