"""Makes the ledger of a point, as a process of its own, whose memory is gone then: `build CURVE SIZE DIRECTORY`."""

import sys
from pathlib import Path

import structlog

from growth.all_curves import CURVES
from growth.upkeep import catch_up

if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    directory = Path(sys.argv[3])
    CURVES[sys.argv[1]].prepare(directory, int(sys.argv[2]))
    if directory.exists():
        catch_up(directory)
