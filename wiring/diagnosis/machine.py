"""Checks of the machine, from the settings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from config import Settings
from settings.rules import usable_cores
from thumbnailer.diagnosis import Check
from thumbnailer.diagnosis.machine import (
    encodes_every_format,
    has_memory,
    has_processors,
    has_room_for_drafts,
    is_nobody_special,
    may_open_files,
    names_its_python,
)

DEPLOYMENT = "docs/deployment.md"


def machine_checks(settings: Settings) -> Iterator[Check]:
    """What does not depend on what is configured."""
    check = partial(Check, part="machine")
    user = partial(is_nobody_special, is_production=settings.is_production)
    yield check(
        name="Python", tried="ask for its version", look=names_its_python, page=f"{DEPLOYMENT}#a-bare-machine"
    )
    yield check(
        name="libvips",
        tried="write a picture in every format",
        look=encodes_every_format,
        page=f"{DEPLOYMENT}#a-bare-machine",
        advice="Install the packages of requirements.lock, which bring libvips.",
    )
    yield check(name="user", tried="ask who runs this", look=user, page=f"{DEPLOYMENT}#gunicorn-behind-nginx")
    yield check(
        name="temporary",
        tried="write a file to the temporary folder",
        look=has_room_for_drafts,
        page=f"{DEPLOYMENT}#containers",
        advice="Let TMPDIR name a folder that can be written to.",
    )


def room_checks(settings: Settings) -> Iterator[Check]:
    """What the web workers need of it."""
    has_browser = "chromium" in settings.providers.names
    yield Check(
        part="machine",
        name="memory",
        tried="compare the limit with what the workers take up",
        look=partial(has_memory, workers=settings.server.workers, has_browser=has_browser),
        page=f"{DEPLOYMENT}#memory",
    )
    yield Check(
        part="machine",
        name="processors",
        tried="compare the workers with the cores",
        look=partial(has_processors, workers=settings.server.workers, cores=usable_cores()),
        page="docs/configuration.md#web_concurrency",
    )
    yield Check(
        part="machine",
        name="open files",
        tried="compare the limit with what a worker may need",
        look=partial(may_open_files, threads=settings.server.threads, has_browser=has_browser),
        page=f"{DEPLOYMENT}#open-files",
    )
