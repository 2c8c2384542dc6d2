"""Why something failed, in a few words: the innermost cause of an error, for that is what can be mended."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

from requests import RequestException
from urllib3.exceptions import HTTPError

from thumbnailer.errors import UpstreamTimeout

MAX_CHARACTERS = 300


def reason_of(error: BaseException) -> str:
    """The system's own word where there is one, else kind and message of what the error was raised from."""
    if isinstance(error, UpstreamTimeout):
        return "no answer in time"
    chain = list(causes_of(error))
    for cause in reversed(chain):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted: {cause.verify_message}"
        if isinstance(cause, OSError) and not isinstance(cause, RequestException) and _told(cause):
            return _told(cause)
    *_, origin = causes_of(error, has_context=False)
    return _worded(origin)


def causes_of(error: BaseException, *, has_context: bool = True) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on; urllib3 and requests keep it in other places.

    ``has_context`` says whether what was being handled when an error was raised counts as its cause, too.
    """
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or _inside(current) or (current.__context__ if has_context else None)


def _inside(error: BaseException) -> BaseException | None:
    if not isinstance(error, RequestException | HTTPError):
        return None
    reason = getattr(error, "reason", None)
    candidates = (reason, *error.args)
    return next((one for one in candidates if isinstance(one, BaseException)), None)


def _told(error: OSError) -> str:
    if isinstance(error, ssl.SSLError):  # its errno is OpenSSL's
        reason = (error.reason or "no reason given").lower().replace("_", " ")
        return f"no TLS connection comes about: {reason}"
    if isinstance(error, socket.gaierror):
        return "the host name is not known"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return os.strerror(error.errno).lower() if error.errno else ""


def _worded(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text if len(text) <= MAX_CHARACTERS else text[: MAX_CHARACTERS - 1] + "…"
