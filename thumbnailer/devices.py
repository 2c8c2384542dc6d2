"""Well-known devices as a browser imitates them. Pure data.

Sizes are CSS pixels of the area a page gets, without the browser's own bars. Everything stays within what a
caller may ask for by hand: 320-3840 x 240-2160 CSS pixels, scale factor 1-3. Chrome's user agents
are in the reduced form that it sends since version 101 (model ``K``, minor versions zero).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

#: Stands in these user agents for the version of the browser that imitates the device.
CHROME_MAJOR = 156

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_MAC_SAFARI = (
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/18.5 Safari/605.1.15"
)
_WINDOWS_CHROME = (
    f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {_WEBKIT} Chrome/{CHROME_MAJOR}.0.0.0 Safari/537.36"
)
_ANDROID_CHROME = f"Mozilla/5.0 (Linux; Android 10; K) {_WEBKIT} Chrome/{CHROME_MAJOR}.0.0.0"


def _iphone(version: str) -> str:
    return (
        f"Mozilla/5.0 (iPhone; CPU iPhone OS {version.replace('.', '_')} like Mac OS X) "
        f"AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{version} Mobile/15E148 Safari/604.1"
    )


def _ipad(version: str) -> str:
    return _iphone(version).replace("(iPhone; CPU iPhone OS", "(iPad; CPU OS")


@dataclass(frozen=True, slots=True)
class Device:
    """What a page can tell of the device it is shown on; sizes in CSS pixels."""

    width: int
    height: int
    device_scale_factor: float
    is_mobile: bool
    has_touch: bool
    user_agent: str


def device_named(name: str | None) -> Device | None:
    """The preset of that name; None where there is no name, or no such device."""
    return None if name is None else DEVICES.get(name)


def _phone(width: int, height: int, scale: float, user_agent: str) -> Device:
    return Device(width, height, scale, is_mobile=True, has_touch=True, user_agent=user_agent)


def _desktop(scale: float, user_agent: str) -> Device:
    return Device(1280, 720, scale, is_mobile=False, has_touch=False, user_agent=user_agent)


_ANDROID_PHONE = f"{_ANDROID_CHROME} Mobile Safari/537.36"
_ANDROID_TABLET = f"{_ANDROID_CHROME} Safari/537.36"

DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        "iPhone SE": _phone(375, 667, 2.0, _iphone("16.6")),
        "iPhone 12": _phone(390, 664, 3.0, _iphone("16.6")),
        "iPhone 13": _phone(390, 664, 3.0, _iphone("16.6")),
        "iPhone 14": _phone(390, 664, 3.0, _iphone("17.5")),
        "iPhone 14 Pro Max": _phone(430, 740, 3.0, _iphone("17.5")),
        "iPhone 15": _phone(393, 659, 3.0, _iphone("18.5")),
        "iPhone 15 Pro": _phone(393, 659, 3.0, _iphone("18.5")),
        "iPad": _phone(810, 1080, 2.0, _ipad("17.5")),
        "iPad Mini": _phone(768, 1024, 2.0, _ipad("17.5")),
        "iPad Pro 11": _phone(834, 1194, 2.0, _ipad("17.5")),
        "Pixel 5": _phone(393, 727, 2.75, _ANDROID_PHONE),
        "Pixel 7": _phone(412, 839, 2.625, _ANDROID_PHONE),
        "Galaxy S9+": _phone(360, 658, 3.0, _ANDROID_PHONE),
        "Galaxy S24": _phone(360, 780, 3.0, _ANDROID_PHONE),
        "Galaxy Tab S4": _phone(712, 1138, 2.25, _ANDROID_TABLET),
        "Desktop Chrome": _desktop(1.0, _WINDOWS_CHROME),
        "Desktop Edge": _desktop(1.0, f"{_WINDOWS_CHROME} Edg/{CHROME_MAJOR}.0.0.0"),
        "Desktop Safari": _desktop(2.0, _MAC_SAFARI),
    }
)
