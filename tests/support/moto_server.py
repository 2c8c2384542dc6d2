"""moto's server, one request after the other; takes the arguments of ``moto.server``."""

from __future__ import annotations

import threading
from typing import Any

from moto import server
from moto.moto_server.werkzeug_app import DomainDispatcherApplication

_turn = threading.Lock()


class OneAtATime(DomainDispatcherApplication):
    """A write closes the object that it replaces, also before that one's own write has computed its ETag."""

    def __call__(self, environ: Any, start_response: Any) -> Any:
        with _turn:
            return super().__call__(environ, start_response)


if __name__ == "__main__":
    server.DomainDispatcherApplication = OneAtATime  # type: ignore[attr-defined]  # main looks it up there
    server.main()
