"""SnapSharp: snake_case, GET where every value is a scalar, else POST with the same names as JSON.

Programs go as JSON too. A device scale factor can only be 1 or 2 (``retina``). Several selectors to hide
go as one CSS selector list, which is a scalar. It photographs error pages as any other page, whatever
their status.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from thumbnailer.providers.vendor import Option, Vendor, between, named, written_cookie

#: Program texts, which it takes in a body only.
PROGRAMS = frozenset({"css", "js"})


def _needs_body(parameters: Mapping[str, object]) -> bool:
    has_structure = any(isinstance(value, dict | list) for value in parameters.values())
    return has_structure or not PROGRAMS.isdisjoint(parameters)


SNAPSHARP = Vendor(
    name="snapsharp",
    base_url="https://api.snapsharp.dev",
    path="/v1/screenshot",
    usage_path="/v1/usage",
    key_headers=lambda key: {"Authorization": f"Bearer {key}"},
    sends_json=_needs_body,
    options={
        "width": named("width", accepts=between(320, 3840)),
        "height": named("height", accepts=between(240, 2160)),
        "device_scale_factor": Option(
            lambda factor: {"retina": factor == 2}, accepts=lambda factor: factor in (1, 2)
        ),
        "device": named("device"),
        "format": named("format"),
        "quality": named("quality", accepts=between(1, 100)),
        "full_page": named("full_page"),
        "clip": Option(lambda clip: {"clip": asdict(clip)}),
        "delay": named("delay", accepts=between(0, 10_000)),
        "wait_until": named("wait_until"),
        "wait_for": named("wait_for"),
        "dark_mode": named("dark_mode"),
        "block_ads": named("block_ads"),
        "hide_selectors": Option(lambda selectors: {"hide_selectors": ",".join(selectors)}),
        "user_agent": named("user_agent"),
        "css": named("css"),
        "js": named("js"),
        "headers": Option(lambda headers: {"headers": dict(headers)}),
        "cookies": Option(lambda cookies: {"cookies": [written_cookie(cookie) for cookie in cookies]}),
    },
)
