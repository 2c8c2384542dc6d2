"""The service's settings: every environment variable, declared once, typed and checked together.

``load_settings`` reads them from the environment and a ``.env`` file and returns a frozen
``Settings``, or raises one ``ConfigurationError`` that names every fault. The declarations in
``settings/`` are the only place that knows a setting's name, default and meaning;
docs/configuration.md and .env.example are held against them by a test.
"""

# ruff: noqa: RUF009 - setting() makes a new dataclass field each time; nothing is shared

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

from settings.access import AccessSettings
from settings.captures import ChromiumSettings, PictureSettings, ProviderSettings, TargetSettings
from settings.jobs import JobSettings, PageSettings, WebhookSettings
from settings.keeping import CacheSettings, DatabaseSettings, S3Settings, StorageSettings
from settings.reading import ConfigurationError, Fault, Setting, open_environment, read_setting, setting
from settings.rules import computed_defaults, cross_faults, doubts, usable_cores
from settings.serving import DoorSettings, LimitSettings, LogSettings, ServerSettings, SigningSettings
from settings.values import PROJECT_FOLDER, choice

__all__ = [
    "ConfigurationError",
    "Reading",
    "Settings",
    "documented_settings",
    "groups_with",
    "load_settings",
    "read_settings",
    "secret_values",
]

Profile = Literal["development", "testing", "production"]
PROFILES: tuple[str, ...] = get_args(Profile)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that is configured; ``warnings`` are for the log at the start."""

    profile: Profile = setting(
        "APP_ENV",
        choice(*PROFILES),
        "production",
        "The profile: `development`, `testing` or `production`.",
    )
    providers: ProviderSettings
    chromium: ChromiumSettings
    pictures: PictureSettings
    targets: TargetSettings
    cache: CacheSettings
    limits: LimitSettings
    database: DatabaseSettings
    storage: StorageSettings
    jobs: JobSettings
    pages: PageSettings
    webhooks: WebhookSettings
    s3: S3Settings
    doors: DoorSettings
    access: AccessSettings
    signing: SigningSettings
    logs: LogSettings
    server: ServerSettings
    warnings: tuple[str, ...]

    @property
    def is_production(self) -> bool:
        """Whether this deployment serves others, so that nothing may be open that nobody meant to open."""
        return self.profile == "production"

    @property
    def chromium_concurrency(self) -> int:
        """Captures that one worker's browser takes at once: more than its share of cores gains nothing."""
        return min(self.providers.concurrency, max(1, usable_cores() // self.server.workers))


GROUPS: Mapping[str, type[Any]] = {
    name: group
    for name, group in get_type_hints(Settings).items()
    if isinstance(group, type) and is_dataclass(group)
}


def documented_settings() -> tuple[Setting, ...]:
    """Every setting there is, in the order in which they are declared."""
    groups: tuple[type[Any], ...] = (Settings, *GROUPS.values())
    return tuple(declared for group in groups for declared in _settings_of(group).values())


def groups_with(names: Collection[str]) -> frozenset[str]:
    """The groups of ``Settings`` that one of these settings is in, by whichever of its spellings."""
    return frozenset(
        name
        for name, group in GROUPS.items()
        if any(set(declared.spellings) & set(names) for declared in _settings_of(group).values())
    )


def secret_values(settings: Settings) -> tuple[Any, ...]:
    """The values of all secrets that are set."""
    found = (
        getattr(getattr(settings, name), part)
        for name, group in GROUPS.items()
        for part, declared in _settings_of(group).items()
        if declared.secret
    )
    return tuple(value for value in found if value)


def _settings_of(group: type[Any]) -> dict[str, Setting]:
    return {part.name: part.metadata["setting"] for part in fields(group) if "setting" in part.metadata}


@dataclass(frozen=True, slots=True)
class Reading:
    """What could be read: ``settings`` hold the default in place of each value that has a fault."""

    settings: Settings
    faults: tuple[Fault, ...]


def load_settings(
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    dotenv: Path | None = None,
) -> Settings:
    """Read and check all settings.

    ``profile`` goes before ``APP_ENV``; ``environ`` stands in for the process's variables;
    ``dotenv`` for the ``.env`` file beside this module, which the testing profile leaves unread.
    A variable of the environment goes before the same one in the file.

    Raises:
        ConfigurationError: with every fault there is, not the first alone.
    """
    reading = read_settings(profile, environ, dotenv)
    if reading.faults:
        raise ConfigurationError(list(reading.faults))
    return reading.settings


def read_settings(
    profile: str | None = None,
    environ: Mapping[str, str] | None = None,
    dotenv: Path | None = None,
) -> Reading:
    """The same for who has to go on with what is right: nothing that is configured makes it raise."""
    variables = dict(os.environ if environ is None else environ)
    if profile:
        variables["APP_ENV"] = profile
    if dotenv is None and variables.get("APP_ENV") != "testing":
        dotenv = PROJECT_FOLDER / ".env"
    faults: list[Fault] = []
    try:
        environment = open_environment(variables, dotenv)
    except ConfigurationError as error:
        faults += error.faults
        environment = open_environment(variables, None)
    values: dict[str, Any] = {}
    for declared in documented_settings():
        try:
            values[declared.name] = read_setting(environment, declared, values.get("APP_ENV", "production"))
        except ValueError as error:
            faults.append(Fault(declared.name, str(error)))
    faults += cross_faults(values)
    if faults:
        values |= _defaults_for_missing(values)
    values |= computed_defaults(values)
    doubted = doubts(values, environment, documented_settings())
    settings = _assemble(values, _beside(faults, doubted))
    return Reading(settings, tuple(sorted(faults)))


def _beside(faults: Sequence[Fault], doubts: Sequence[str]) -> tuple[str, ...]:
    """Those doubts that are not about a setting with a fault: they take it for one that is not set."""
    at_fault = {fault.name for fault in faults}
    return tuple(doubt for doubt in doubts if at_fault.isdisjoint(re.findall(r"\w+", doubt)))


def _defaults_for_missing(values: Mapping[str, Any]) -> dict[str, Any]:
    nobody = open_environment({}, None)
    found: dict[str, Any] = {}
    for declared in documented_settings():
        if declared.name not in values:
            found[declared.name] = None
            with contextlib.suppress(ValueError):  # this machine may have no place for the default either
                found[declared.name] = read_setting(nobody, declared, values.get("APP_ENV", "production"))
    return found


def _assemble(values: Mapping[str, Any], warnings: tuple[str, ...]) -> Settings:
    groups = {
        name: group(**{part: values[declared.name] for part, declared in _settings_of(group).items()})
        for name, group in GROUPS.items()
    }
    return Settings(profile=values["APP_ENV"], warnings=warnings, **groups)
