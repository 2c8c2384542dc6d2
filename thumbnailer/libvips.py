"""libvips, set up for pictures from strangers. Import it from here and from nowhere else.

Set up at import, which starts no thread, so that a process may import this module and fork afterwards.
*Using* libvips starts threads that a forked child does not have, and waits for ever there: ``claim``
makes an error of that.

- One thread of work for each picture: the doors work in parallel already, and libvips' own threads
  cost 15 % more processor time for the same picture.
- No cache of operations: pictures are not asked for twice, and a cache would hold their pixels.
- Loaders for the three kinds of file that captures are, and for nothing else: what the file says it is
  does not choose among forty parsers.
"""

from __future__ import annotations

import os

import pyvips

LOADERS = ("VipsForeignLoadPng", "VipsForeignLoadJpeg", "VipsForeignLoadWebp")

pyvips.concurrency_set(1)
pyvips.cache_set_max(0)
pyvips.operation_block_set("VipsForeignLoad", True)  # noqa: FBT003  the name of the function says what is true
for _loader in LOADERS:
    pyvips.operation_block_set(_loader, False)  # noqa: FBT003  the same


class UsedBeforeFork(RuntimeError):
    """The parent of this process had used libvips already; here it would wait for ever."""


class _Owner:
    """The process that uses libvips: the first one that claimed it."""

    def __init__(self) -> None:
        self._process_id: int | None = None

    def claim(self) -> None:
        process_id = os.getpid()
        if self._process_id is None:
            self._process_id = process_id
        elif self._process_id != process_id:
            raise UsedBeforeFork("Pictures were rendered before this process was forked.")


_owner = _Owner()


def claim() -> None:
    """Say that this process is about to use libvips.

    Raises:
        UsedBeforeFork: its parent did so before the fork.
    """
    _owner.claim()
