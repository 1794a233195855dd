"""Makes the ledger of a point, as a process of its own, whose memory is gone then: `build CURVE SIZE DIRECTORY`."""

import sys
from pathlib import Path

import structlog

from growth.all_curves import CURVES

if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    CURVES[sys.argv[1]].prepare(Path(sys.argv[3]), int(sys.argv[2]))
