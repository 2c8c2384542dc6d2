"""What all captures of a provider share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thumbnailer.providers.ads import AdFilter
from thumbnailer.providers.challenges import Challenges
from thumbnailer.providers.picture import PictureBounds

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True, slots=True)
class Equipment:
    """What all captures of a provider share."""

    ads: AdFilter
    consent_script: str
    banner_selectors: tuple[str, ...]
    challenges: Challenges
    bounds: PictureBounds


def read_consent_script() -> str:
    """autoconsent's script that needs no counterpart; see the notes beside it."""
    return (ASSETS / "autoconsent" / "autoconsent.standalone.js").read_text(encoding="utf-8")


def read_banner_selectors() -> tuple[str, ...]:
    lines = (ASSETS / "cookie_banners.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("# "))
