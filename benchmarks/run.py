"""Measures what the service promises: ``make bench``.

Names of parts measure these alone, ``--quick`` in short rounds, ``--save FILE`` says where the figures go.
Ends with status 1 where a goal is missed. What each figure means: ``docs/benchmarks.md``.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # Python puts only this folder there

from benchmarks.suite import main

if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # a deployment's code is compiled once, not at each start
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exit stops all servers
    sys.exit(main())
