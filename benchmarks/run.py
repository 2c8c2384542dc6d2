"""Measures what the service promises: ``make bench``.

``--only NAME`` measures one part, ``--save FILE`` keeps the figures as JSON. Ends with status 1 where a
goal is missed. What each figure means: ``docs/benchmarks.md``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # Python puts only this folder there

from benchmarks.suite import main

if __name__ == "__main__":
    sys.exit(main())
