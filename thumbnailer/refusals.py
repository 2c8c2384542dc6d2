"""Why the browser did not reach a host: what the proxy knows and the browser's own errors do not say."""

from __future__ import annotations

from collections import OrderedDict
from urllib.parse import urlsplit

from thumbnailer.errors import ThumbnailerError
from thumbnailer.target import DEFAULT_PORTS

REMEMBERED = 4096


class Refusals:
    """The latest failure to reach each host and port; used on one event loop only.

    Hosts are told apart as the browser spells them, which spells each in one way. The oldest of
    ``remembered`` failures is forgotten first.
    """

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._errors: OrderedDict[tuple[str, int], ThumbnailerError] = OrderedDict()
        self._remembered = remembered

    def note(self, authority: str, default_port: int, error: ThumbnailerError) -> None:
        """Remember that ``authority``, a host with or without a port, was not reached."""
        key = _key(authority, default_port)
        self._errors[key] = error
        self._errors.move_to_end(key)
        if len(self._errors) > self._remembered:
            self._errors.popitem(last=False)

    def forget(self, authority: str, default_port: int) -> None:
        """It was reached after all."""
        self._errors.pop(_key(authority, default_port), None)

    def of_url(self, url: str) -> ThumbnailerError | None:
        """Why the host of an http or https URL was not reached; None where it was, or nobody tried."""
        parts = urlsplit(url)
        if parts.scheme not in DEFAULT_PORTS:
            return None
        return self._errors.get(_key(parts.netloc.rpartition("@")[2], DEFAULT_PORTS[parts.scheme]))


def _key(authority: str, default_port: int) -> tuple[str, int]:
    host, colon, port = authority.lower().rpartition(":")
    # A colon within brackets is an IPv6 address's.
    if not colon or not port.isdecimal() or host.count("[") != host.count("]"):
        return authority.lower(), default_port
    return host, int(port)
