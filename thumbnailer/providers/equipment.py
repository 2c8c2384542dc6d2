"""What a visit brings along: what to block and to hide, what to refuse, how large a picture may get."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thumbnailer.providers.ads import AdFilter
from thumbnailer.providers.challenges import Challenges
from thumbnailer.providers.launch import ChromiumSettings
from thumbnailer.providers.picture import PictureBounds

ASSETS = Path(__file__).parent / "assets"


@dataclass(frozen=True, slots=True)
class Equipment:
    """What all captures of a provider share, read once."""

    ads: AdFilter
    consent_script: str
    banner_selectors: tuple[str, ...]
    challenges: Challenges
    bounds: PictureBounds
    load_timeout_seconds: float

    @classmethod
    def of(cls, settings: ChromiumSettings) -> Equipment:
        """Raises OSError where the filter list cannot be read."""
        return cls(
            ads=AdFilter.from_file(settings.ad_filter_list),
            consent_script=_read_consent_script(),
            banner_selectors=_read_banner_selectors(),
            challenges=Challenges(settings.challenge_markers),
            bounds=PictureBounds(
                settings.max_image_pixels, settings.max_pdf_bytes, settings.max_full_page_height
            ),
            load_timeout_seconds=settings.load_timeout_seconds,
        )


def _read_consent_script() -> str:
    """autoconsent's script that needs no counterpart; see the notes beside it."""
    return (ASSETS / "autoconsent" / "autoconsent.standalone.js").read_text(encoding="utf-8")


def _read_banner_selectors() -> tuple[str, ...]:
    lines = (ASSETS / "cookie_banners.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("# "))
