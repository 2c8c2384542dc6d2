"""Who the browser says it is: by its user agent, by client hints, and by the languages it reads.

The headless shell says there that it is headless, at which many sites send something else, and that it reads
no language at all.
"""

from __future__ import annotations

from typing import Any

from thumbnailer.devices import CHROME_MAJOR, DEVICES
from thumbnailer.model import CaptureRequest

USER_AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    f"Chrome/{CHROME_MAJOR}.0.0.0 Safari/537.36"
)

LANGUAGES = "en-US,en"

#: Brands as the hints tell them: one of them means nothing, so that nobody counts on the list.
BRANDS = [{"brand": "Not;A=Brand", "version": "8"}, {"brand": "Chromium", "version": f"{CHROME_MAJOR}"}]

#: The word of the hints for a system, by a word that its user agents have.
PLATFORMS = {
    "Android": "Android",
    "iPhone": "iOS",
    "iPad": "iOS",
    "Windows": "Windows",
    "Macintosh": "macOS",
}


def user_agent_of(request: CaptureRequest) -> str:
    """What the browser is to call itself."""
    device = DEVICES.get(request.device) if request.device is not None else None
    return request.user_agent or (device.user_agent if device is not None else USER_AGENT)


def introduction(request: CaptureRequest) -> dict[str, Any]:
    """The same and all that has to fit it, for the DevTools protocol's ``Emulation.setUserAgentOverride``."""
    user_agent = user_agent_of(request)
    device = DEVICES.get(request.device) if request.device is not None else None
    hints = {
        "brands": BRANDS,
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
