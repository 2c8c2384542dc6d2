"""Settings of who may do what."""

# ruff: noqa: RUF009 - setting() makes a new dataclass field each time; nothing is shared

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from settings.reading import setting
from settings.values import PRESET_NAME, file_of, listed, matching
from thumbnailer.host_patterns import HostPattern, parse_host_pattern
from thumbnailer.plans import Plan, parse_plans


@dataclass(frozen=True, kw_only=True)
class AccessSettings:
    """Which keys there are besides those of the database, and what is public."""

    key_file: Path | None = setting(
        "API_KEYS_FILE",
        file_of,
        None,
        "A TOML file of API keys, in addition to those of the database.",
    )
    plans: Mapping[str, Plan] = setting(
        "PLANS",
        parse_plans,
        "",
        "Limits under a name, for keys that are put on that plan, such as "
        "`free:thumb=10 per minute,daily_captures=100;pro:thumb=300 per minute`.",
    )
    public_targets: tuple[HostPattern, ...] = setting(
        "PUBLIC_TARGETS",
        listed(parse_host_pattern),
        "",
        "Hosts of which anybody may have thumbnails by `GET /thumb`, without key and signature.",
    )
    public_presets: tuple[str, ...] = setting(
        "PUBLIC_PRESETS",
        listed(matching(PRESET_NAME, "names of presets, separated by commas")),
        "",
        "Presets that anybody may use on `GET /thumb`, without key and signature.",
    )
