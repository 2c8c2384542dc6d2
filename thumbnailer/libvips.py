"""libvips, set up for pictures from strangers. Take it from here, as ``vips()``, and from nowhere else.

Loaded and set up at its first use: it takes some 8 MiB, and many deployments pass captures on as they are.
Using it starts threads that a forked child does not have, and waits for ever there: ``claim`` makes an
error of that.

- One thread of work for each picture: the doors work in parallel already, and libvips' own threads
  cost 15 % more processor time for the same picture.
- No cache of operations: pictures are not asked for twice, and a cache would hold their pixels.
- Loaders for the three kinds of file that captures are, and for nothing else: what the file says it is
  does not choose among forty parsers.
"""

from __future__ import annotations

import os
import threading
from typing import Any

LOADERS = ("VipsForeignLoadPng", "VipsForeignLoadJpeg", "VipsForeignLoadWebp")


class _Library:
    """pyvips, loaded and set up once, whichever thread comes first."""

    def __init__(self) -> None:
        self._loading = threading.Lock()
        self._loaded: Any = None

    def __call__(self) -> Any:
        if self._loaded is None:
            with self._loading:
                self._loaded = self._loaded or _load()
        return self._loaded


def _load() -> Any:
    import pyvips

    pyvips.concurrency_set(1)
    pyvips.cache_set_max(0)
    pyvips.operation_block_set("VipsForeignLoad", True)  # noqa: FBT003  the name of the function says what is true
    for loader in LOADERS:
        pyvips.operation_block_set(loader, False)  # noqa: FBT003  the same
    return pyvips


vips = _Library()


class UsedBeforeFork(RuntimeError):
    """The parent of this process had used libvips already; here it would wait for ever."""


class _Owner:
    """The process that uses libvips: the first one that claimed it."""

    def __init__(self) -> None:
        self._process_id: int | None = None

    def claim(self) -> None:
        """Say that this process is about to use libvips.

        Raises:
            UsedBeforeFork: its parent did so before the fork.
        """
        process_id = os.getpid()
        if self._process_id is None:
            self._process_id = process_id
        elif self._process_id != process_id:
            raise UsedBeforeFork("Pictures were rendered before this process was forked.")


claim = _Owner().claim
