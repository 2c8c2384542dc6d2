"""What a browser's complaint about a page means to a caller."""

from __future__ import annotations

import re

from thumbnailer.errors import (
    CaptureRefused,
    InvalidTarget,
    TargetForbidden,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamFailed,
)
from thumbnailer.providers.playwright_errors import PlaywrightError

PROVIDER = "chromium"

_NET_ERROR = re.compile(r"net::ERR_([A-Z0-9_]+)")

#: Chromium's net error codes are public names (net/base/net_error_list.h); its messages hold addresses.
_UNREACHABLE = {
    "NAME_NOT_RESOLVED": "The target's host does not exist.",
    "ADDRESS_UNREACHABLE": "The target's host cannot be reached.",
    "CONNECTION_REFUSED": "The target's host refuses the connection.",
    "CONNECTION_RESET": "The target's host broke the connection.",
    "CONNECTION_CLOSED": "The target's host broke the connection.",
    "CONNECTION_TIMED_OUT": "The target's host does not answer.",
    "TIMED_OUT": "The target's host does not answer.",
    "EMPTY_RESPONSE": "The target's host sent nothing.",
    "HTTP_RESPONSE_CODE_FAILURE": "The target sent no page.",
    "TOO_MANY_REDIRECTS": "The target redirects without end.",
    "ABORTED": "The target sent no page.",
}
#: Of the browser's and its proxy's; why the proxy did not reach a host, it says itself.
_OURS = frozenset(
    {
        "FAILED",
        "INSUFFICIENT_RESOURCES",
        "INTERNET_DISCONNECTED",
        "OUT_OF_MEMORY",
        "PROXY_AUTH_UNSUPPORTED",
        "PROXY_CONNECTION_FAILED",
        "TUNNEL_CONNECTION_FAILED",
        "UNEXPECTED_PROXY_AUTH",
    }
)


def net_error(error: PlaywrightError) -> str | None:
    """Chromium's name of the network error, without its prefix; None where it is no such error."""
    found = _NET_ERROR.search(error.message)
    return found[1] if found else None


def translate_navigation(error: PlaywrightError) -> ThumbnailerError | None:
    """The error of our own that a failed navigation stands for; None where it is about the browser."""
    name = net_error(error)
    if name is None:
        return (
            CaptureRefused("The target is a file to download, not a page.") if _is_download(error) else None
        )
    if name in _OURS:
        return UpstreamFailed("The browser could not load the page.", provider=PROVIDER)
    if name == "UNSAFE_PORT":
        return TargetForbidden("Browsers do not visit the target's port.")
    if name == "INVALID_URL":
        return InvalidTarget("The target is not a valid URL.")
    if name.startswith(("CERT_", "SSL_", "BAD_SSL")):
        return TargetUnreachable("The target's certificate or encryption is not valid.")
    return TargetUnreachable(_UNREACHABLE.get(name, "The target could not be loaded."))


def _is_download(error: PlaywrightError) -> bool:
    # Playwright has no type for it; the wording is held by a test.
    return "Download is starting" in error.message
