"""hermesforge: GET with everything in the query; the key is optional.

Its ``viewport`` presets (mobile, tablet, desktop) are no devices of ours: ``device`` is not offered,
and its sizes are sent as width and height. It knows no quality, selector or waiting condition.
"""

from __future__ import annotations

from thumbnailer.providers.vendor import Vendor, named

HERMESFORGE = Vendor(
    name="hermesforge",
    base_url="https://hermesforge.dev",
    path="/api/screenshot",
    key_headers=lambda key: {"X-API-Key": key},
    is_key_required=False,
    options={
        name: named(name)
        for name in ("width", "height", "format", "full_page", "delay", "dark_mode", "block_ads")
    },
)
