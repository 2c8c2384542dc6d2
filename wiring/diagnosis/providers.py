"""Checks of those who take captures, from the settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from config import Settings
from settings.vendors import HTTP_PROVIDERS
from thumbnailer.diagnosis import Check, browsers, fonts, stores, vendors
from thumbnailer.providers.launch import find_chromium
from wiring.providers import build_chromium
from wiring.trip import redis_circuits

CONFIGURATION, DEPLOYMENT = "docs/configuration.md", "docs/deployment.md"


def provider_checks(settings: Settings) -> Iterator[Check]:
    """Each of PROVIDERS, in their order."""
    for name in settings.providers.names:
        yield from _browser_checks(settings) if name == "chromium" else _vendor_checks(settings, name)


def breaker_checks(settings: Settings) -> Iterator[Check]:
    """Their breakers, where all who take captures share them."""
    if settings.cache.redis_url is None:
        return
    circuits = redis_circuits(settings, stores.UnknownCircuits())
    for name in settings.providers.names:
        yield Check(
            part="providers",
            name=f"{name}: breaker",
            tried="read its state",
            look=partial(stores.is_called, circuits=circuits, provider=name),
            page="docs/architecture.md#retries-failover-breakers",
            advice="See what the check of the cache's Redis says.",
        )


def _browser_checks(settings: Settings) -> Iterator[Check]:
    check = partial(Check, part="providers", page=f"{DEPLOYMENT}#chromium")
    program = settings.chromium.path or find_chromium()
    yield check(
        name="chromium: program",
        tried="look for it, ask for its version",
        look=partial(browsers.is_there, program=program),
        advice="See whether the service's user may execute it.",
    )
    yield check(
        name="chromium: driver",
        tried="start it, ask for its version",
        look=browsers.driver_is_there,
        advice="See whether the service's user may execute it.",
    )
    yield check(
        name="chromium: picture",
        tried="photograph a page of our own",
        look=partial(browsers.takes_a_picture, make=partial(build_chromium, settings)),
    )
    yield check(
        name="chromium: sandbox",
        tried="look at the setting",
        look=partial(browsers.is_in_its_sandbox, is_sandboxed=settings.chromium.sandbox),
        page=browsers.SANDBOX_PAGE,
    )
    yield check(
        name="chromium: fonts",
        tried="ask fontconfig for letters of many scripts",
        look=fonts.are_there,
        page=f"{DEPLOYMENT}#fonts",
    )


def _vendor_checks(settings: Settings, name: str) -> Iterator[Check]:
    upstream, known = settings.providers.upstream(name), HTTP_PROVIDERS[name]
    is_usage_told = upstream.key is not None and known.vendor.usage_path is not None
    yield Check(
        part="providers",
        name=name,
        tried=f"ask for {known.vendor.usage_path} with our key" if is_usage_told else "ask for /",
        look=partial(
            vendors.answers,
            vendor=known.vendor,
            base=upstream.base,
            key=upstream.key,
            key_setting=known.key_setting,
            base_setting=known.base_setting,
        ),
        page=f"{CONFIGURATION}#{known.key_setting.lower()}",
    )
