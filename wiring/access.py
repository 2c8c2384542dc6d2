"""The gate and the keys, from the settings."""

from __future__ import annotations

import contextlib
import time
from contextlib import closing
from functools import partial

import click

from blueprints.access import Gate, PublicThumbs
from blueprints.callers import caller_address
from config import Settings
from settings.reading import ConfigurationError, Fault
from thumbnailer.database import Database
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.guard import Guard
from thumbnailer.key_file import read_key_file
from thumbnailer.key_store import KeyStore
from thumbnailer.keyring import Keyring
from thumbnailer.signing import UrlSigner
from wiring.databases import build_database

OPENNESS_UNMEANT = (
    "has to be true, or there has to be an API key, because without one everyone may use the service "
    "and that must be meant; flask keys create makes a key"
)


def build_keyring(settings: Settings, database: Database) -> Keyring:
    """All keys there are, with the terms of their plans."""
    return Keyring(KeyStore(database), settings.access.key_file, plans=settings.access.plans)


def build_gate(
    settings: Settings,
    *,
    keyring: Keyring,
    signer: UrlSigner | None,
    guard: Guard,
) -> Gate:
    """What stands before the doors."""
    access = settings.access
    return Gate(
        keyring=keyring,
        signer=signer,
        public=PublicThumbs(access.public_targets, frozenset(access.public_presets)),
        guard=guard,
        may_be_open=not settings.is_production or settings.doors.allow_anonymous,
        address=partial(caller_address, settings.doors.trusted_proxies),
        clock=time.time,
    )


def check_key_file(settings: Settings) -> None:
    """Raises ``ConfigurationError`` where the file of keys has a fault."""
    path = settings.access.key_file
    if path is None:
        return
    try:
        read_key_file(path)
    except ValueError as error:
        raise ConfigurationError([Fault("API_KEYS_FILE", str(error))]) from None


def closing_settings(settings: Settings) -> list[str]:
    """The settings in use that close the service, even without a key in the database."""
    closing_values = {
        "API_KEYS_FILE": settings.access.key_file,
        "PUBLIC_TARGETS": settings.access.public_targets,
        "PUBLIC_PRESETS": settings.access.public_presets,
        "SIGNING_KEYS": settings.signing.keys,
    }
    return [name for name, value in closing_values.items() if value]


def refuse_unmeant_openness(settings: Settings) -> None:
    """Refuse to serve everybody in production unless that is said. Raises ``ConfigurationError``.

    Where the database cannot say whether there are keys, the gate stays closed until it can.
    """
    if not settings.is_production or settings.doors.allow_anonymous or closing_settings(settings):
        return
    with closing(build_database(settings)) as database, contextlib.suppress(DatabaseUnavailable):
        if not KeyStore(database).load():
            raise ConfigurationError([Fault("ALLOW_ANONYMOUS", OPENNESS_UNMEANT)])


def is_to_serve() -> bool:
    """Whether this process is started to answer requests.

    A command of ``flask`` is not, unless it is ``flask run``; the first key has to be made somehow.
    """
    context = click.get_current_context(silent=True)
    return context is None or context.info_name == "run"
