"""Those who take captures, from the settings."""

from __future__ import annotations

from config import Settings
from settings.reading import ConfigurationError, Fault
from settings.vendors import HTTP_PROVIDERS
from thumbnailer.guard import Guard
from thumbnailer.providers import Provider
from thumbnailer.providers.challenges import Marker, read_markers
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.remote import RemoteProvider


def build_providers(settings: Settings, guard: Guard) -> list[Provider]:
    """Those that are configured, in their order."""
    session = UpstreamSession()
    return [_build_provider(name, settings, guard, session) for name in settings.providers.names]


def _build_provider(name: str, settings: Settings, guard: Guard, session: UpstreamSession) -> Provider:
    if name == "chromium":
        return build_chromium(settings, guard)
    vendor, upstream = HTTP_PROVIDERS[name].vendor, settings.providers.upstream(name)
    return RemoteProvider(vendor, session, key=upstream.key, base_url=upstream.base)


def build_chromium(settings: Settings, guard: Guard) -> Provider:
    """The local browser; nothing is started before its first capture."""
    from thumbnailer.providers.chromium import ChromiumProvider, ChromiumSettings, find_chromium
    from thumbnailer.providers.memory_watch import MemoryBounds

    return ChromiumProvider(
        ChromiumSettings(
            executable=settings.chromium.path or find_chromium(),
            concurrency=settings.chromium_concurrency,
            recycle_after=settings.chromium.recycle_after,
            has_spare_page=settings.chromium.has_spare_page,
            ad_filter_list=settings.chromium.filter_list,
            challenge_markers=read_challenge_markers(settings),
            max_image_pixels=settings.pictures.max_pixels,
            max_pdf_bytes=settings.pictures.max_bytes,
            is_sandboxed=settings.chromium.sandbox,
            load_timeout_seconds=settings.chromium.load_timeout_seconds,
            memory=MemoryBounds(settings.chromium.page_memory_bytes, settings.chromium.memory_bytes),
        ),
        guard,
    )


def read_challenge_markers(settings: Settings) -> tuple[Marker, ...]:
    """What gives checks for robots away; nothing where they are let pass. Raises ``ConfigurationError``."""
    if not settings.chromium.refuse_challenges:
        return ()
    try:
        return read_markers(settings.chromium.challenge_markers)
    except (OSError, ValueError) as error:
        fault = Fault("CHALLENGE_MARKERS", f"must be a file of markers: {error}")
        raise ConfigurationError([fault]) from None
