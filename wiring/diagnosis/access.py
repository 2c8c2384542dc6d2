"""Checks of who may come in, where targets may be, and how the service is reached, from the settings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from config import Settings
from thumbnailer.database import Database
from thumbnailer.diagnosis import Check, Verdict, databases, doors
from thumbnailer.key_file import read_key_file
from thumbnailer.key_store import KeyStore
from thumbnailer.model import Deadline
from wiring.access import closing_settings
from wiring.diagnosis.stores import database_probe
from wiring.trip import build_guard

CONFIGURATION = "docs/configuration.md"

#: Addresses to listen on that mean every one of this machine, and where that is reached from itself.
OWN_ADDRESSES = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # nobody listens here


def guard_checks(settings: Settings) -> Iterator[Check]:
    """Whether it refuses what it is there for."""
    look = partial(
        doors.refuses_private_targets,
        guard=build_guard(settings),
        has_exceptions=bool(settings.targets.private_exceptions),
        is_production=settings.is_production,
    )
    page = f"{CONFIGURATION}#allowed_private_targets"
    yield Check(
        part="guard", name="targets", tried="judge addresses that nobody may visit", look=look, page=page
    )


def access_checks(settings: Settings) -> Iterator[Check]:
    """Keys, signatures, and whose word is taken on where a request comes from."""
    check, base = partial(Check, part="access"), settings.doors.public_base_url
    yield check(
        name="API keys",
        tried="count them",
        look=partial(_keys_are_there, settings=settings),
        page="docs/access.md#api-keys",
        advice=databases.ASK_THE_DATABASE,
    )
    yield check(
        name="signing keys",
        tried="count and measure them",
        look=partial(doors.signs_well, keys=settings.signing.keys),
        page=f"{CONFIGURATION}#signing_keys",
    )
    yield check(
        name="webhooks",
        tried="count their secrets",
        look=partial(doors.signs_webhooks, count=len(settings.webhooks.secrets)),
        page=f"{CONFIGURATION}#webhook_secret",
    )
    yield check(
        name="proxies",
        tried="judge who is trusted",
        look=partial(
            doors.trusts_few,
            proxies=settings.doors.trusted_proxies,
            is_behind_proxy=base is not None and base.startswith("https:"),
        ),
        page=f"{CONFIGURATION}#trusted_proxies",
    )


def _keys_are_there(deadline: Deadline, *, settings: Settings) -> Verdict:
    judge = partial(
        doors.is_closed,
        deadline,
        filed=read_key_file(settings.access.key_file) if settings.access.key_file else (),
        others=closing_settings(settings),
        is_production=settings.is_production,
        allows_anonymous=settings.doors.allow_anonymous,
        now=time.time(),
    )

    def with_stored(database: Database) -> Verdict:
        return judge(stored=KeyStore(database).load())

    return databases.asked(
        deadline, probe=database_probe(settings), look=with_stored, without=judge(stored=())
    )


def service_checks(settings: Settings) -> Iterator[Check]:
    """How the running service does, from here and from where callers are."""
    check = partial(Check, part="service")
    host = OWN_ADDRESSES.get(settings.server.host, settings.server.host)
    base = f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"
    yield check(
        name="ready",
        tried=f"ask for {base}/ready",
        look=partial(doors.is_ready, base=base),
        page="docs/monitoring.md#probes",
    )
    public = settings.doors.public_base_url
    yield check(
        name="public address",
        tried=f"ask for {public}/health" if public else "look at the setting",
        look=partial(doors.is_reached, base=public, is_production=settings.is_production),
        page=f"{CONFIGURATION}#public_base_url",
    )
