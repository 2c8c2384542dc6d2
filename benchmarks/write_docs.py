"""Writes results into ``docs/benchmarks.md``: those of the file that is named, else the newest."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))  # Python puts only this folder there

from benchmarks.results_page import PAGE, newest, written


def main() -> None:
    """Write the page anew."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else newest()
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), path), encoding="utf-8")
    print(f"{PAGE} tells of {path}")


if __name__ == "__main__":
    main()
