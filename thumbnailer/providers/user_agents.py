"""Who the browser says it is: by its user agent, by client hints, and by the languages it reads.

The headless shell says there that it is headless, at which many sites send something else, and that it reads
no language at all. Its version it says truly: sites compare what a browser says it is with what it can do.
"""

from __future__ import annotations

from typing import Any

from thumbnailer.devices import CHROME_MAJOR, device_named
from thumbnailer.model import CaptureRequest

USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    f"Chrome/{CHROME_MAJOR}.0.0.0 Safari/537.36"
)

LANGUAGES = "en-US,en"

#: The word of the hints for a system, by a word that its user agents have.
PLATFORMS = {
    "Android": "Android",
    "iPhone": "iOS",
    "iPad": "iOS",
    "Windows": "Windows",
    "Macintosh": "macOS",
}


def user_agent_of(request: CaptureRequest, version: str) -> str:
    """What the browser, which is of this ``version``, is to call itself."""
    if request.user_agent is not None:
        return request.user_agent
    device = device_named(request.device)
    imitated = device.user_agent if device is not None else USER_AGENT
    return imitated.replace(f"/{CHROME_MAJOR}.", f"/{_major(version)}.")


def introduction(request: CaptureRequest, version: str) -> dict[str, Any]:
    """The same and all that has to fit it, for the DevTools protocol's ``Emulation.setUserAgentOverride``."""
    user_agent = user_agent_of(request, version)
    device = device_named(request.device)
    hints = {
        "brands": _brands("8", _major(version)),
        "fullVersionList": _brands("8.0.0.0", version),
        "platform": next((name for word, name in PLATFORMS.items() if word in user_agent), "Linux"),
        "platformVersion": "",
        "architecture": "",
        "model": "",
        "mobile": device is not None and device.is_mobile,
    }
    return {
        "userAgent": user_agent,
        "acceptLanguage": request.locale or LANGUAGES,
        "userAgentMetadata": hints,
    }


def _brands(nothing: str, version: str) -> list[dict[str, str]]:
    """As the hints tell them: one of them means nothing, so that nobody counts on the list."""
    return [{"brand": "Not;A=Brand", "version": nothing}, {"brand": "Chromium", "version": version}]


def _major(version: str) -> str:
    return version.partition(".")[0]
