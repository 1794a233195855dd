"""How often Python looks for garbage in cycles.

By default it looks after every 700 objects, which here is more than once for each batch of spans, and finds nothing:
usage is made of tuples without cycles. With the default that took a fifth of what a commit costs. What does make
cycles, such as errors with their tracebacks, is small and rare, and can wait for some thousand batches.
"""

import gc
from typing import Final

YOUNG: Final = 50_000
"""Objects after which the youngest are looked at: some megabytes."""


def look_less_often() -> None:
    """From now on; what is there already, code and configuration, is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 20, 50)
