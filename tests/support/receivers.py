"""Programs that listen for webhooks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.support.small_web import Reply, Seen, Site


def accept(_seen: Seen) -> Reply:
    """A receiver that takes every message."""
    return Reply(204, body=b"")


@contextmanager
def running_receiver(reply: Callable[[Seen], Reply] = accept) -> Iterator[Site]:
    """A receiver on a free port of 127.0.0.1; what it was sent is in ``seen``."""
    site = Site(reply)
    thread = threading.Thread(target=site.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.shutdown()
        site.server_close()
        thread.join(10)


def url_of(site: Site, path: str = "/hook") -> str:
    """Where a receiver listens."""
    return f"http://127.0.0.1:{site.server_address[1]}{path}"
