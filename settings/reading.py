"""How a setting is declared, and where its text comes from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from environs import Env

from settings.values import PROJECT_FOLDER

DOCUMENTATION = "docs/configuration.md"
DOTENV = ".env"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One environment variable: its name, how it is read and what it is when nobody says anything.

    ``default`` is the text that the variable would hold; ``profile_defaults`` replaces it by
    profile. ``computed`` describes, for the documentation, a default that depends on other
    settings. A secret may also be named by ``<name>_FILE``. ``alias`` is a second spelling.
    """

    name: str
    parse: Callable[[str], object]
    default: str | None
    explanation: str
    secret: bool
    computed: str | None
    profile_defaults: Mapping[str, str | None]
    alias: str | None

    @property
    def file_name(self) -> str:
        """The variable that names a file holding the value."""
        return f"{self.name}_FILE"

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every variable that this setting is read from, the first that is set winning."""
        aliases = (self.alias,) if self.alias else ()
        return (self.name, *aliases, self.file_name) if self.secret else (self.name, *aliases)

    def default_for(self, profile: str) -> str | None:
        return self.profile_defaults.get(profile, self.default)


def setting(
    name: str,
    parse: Callable[[str], object],
    default: str | None,
    explanation: str,
    *,
    secret: bool = False,
    computed: str | None = None,
    profile_defaults: Mapping[str, str | None] = MappingProxyType({}),
    alias: str | None = None,
) -> Any:
    """Declare the dataclass field that holds the setting ``name``; secrets stay out of its ``repr``."""
    declared = Setting(
        name=name,
        parse=parse,
        default=default,
        explanation=explanation,
        secret=secret,
        computed=computed,
        profile_defaults=profile_defaults,
        alias=alias,
    )
    return field(repr=not secret, metadata={"setting": declared})


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong with one setting, and where the documentation explains it."""

    name: str
    problem: str

    @property
    def page(self) -> str:
        return DOCUMENTATION if self.name == DOTENV else f"{DOCUMENTATION}#{self.name.lower()}"

    def __str__(self) -> str:
        return f"{self.name}: {self.problem} ({self.page})"


class ConfigurationError(Exception):
    """The service cannot start as it is configured; the text has one line for each fault."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = tuple(sorted(faults))
        super().__init__("\n".join(["The configuration has faults:", *map(str, self.faults)]))


class Environment(Env):
    """environs over a mapping instead of the process's own variables, with a ``.env`` file below it.

    A variable that is set but empty counts as not set, and hides the one in the file.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        super().__init__(eager=True)
        self._variables = variables

    def _get_value(self, env_key: str, default: Any) -> Any:
        text = self._variables.get(env_key, self._environ.get(env_key, "")).strip()
        return text or default

    def text(self, name: str) -> str | None:
        """The text of a variable, None where it is not set."""
        value: str | None = self._get_value(name, None)
        return value

    def names(self) -> set[str]:
        """The names of all variables that are set, in the environment and in the file."""
        return {name for name in {*self._variables, *self._environ} if self.text(name)}

    def file_names(self) -> set[str]:
        """The names of the variables in the ``.env`` file."""
        return set(self._environ)

    def names_in_file_alone(self) -> set[str]:
        """The names of those that other programs and libraries in this process do not see."""
        return self.file_names() - set(self._variables)


def open_environment(variables: Mapping[str, str], dotenv: Path | None) -> Environment:
    """The environment with what ``dotenv`` adds to it; a missing file adds nothing.

    Raises ConfigurationError where the file is there and cannot be read.
    """
    environment = Environment(variables)
    try:
        if dotenv is not None:
            environment.read_env(dotenv, recurse=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError([Fault(DOTENV, f"is there but {_trouble(error)}")]) from error
    return environment


def _trouble(error: OSError | ValueError) -> str:
    """Why a file cannot be read, and nothing of what it holds."""
    if isinstance(error, UnicodeDecodeError):
        line = error.object[: error.start].count(b"\n") + 1
        return f"cannot be read as UTF-8 text: see line {line}"
    if isinstance(error, OSError) and error.errno:
        return f"cannot be read: {os.strerror(error.errno).lower()}"
    return "is no file of settings"


def read_setting(environment: Environment, declared: Setting, profile: str) -> object:
    """The typed value of one setting, None where it has neither value nor default.

    Raises ValueError saying what is wrong, never the value itself where that may be secret.
    """
    text = _given_text(environment, declared) or declared.default_for(profile)
    return None if text is None else declared.parse(text)


def _given_text(environment: Environment, declared: Setting) -> str | None:
    given = [name for name in declared.spellings if environment.text(name)]
    if len(given) > 1:
        raise ValueError(f"is given more than once: by {' and by '.join(given)}; keep one of them")
    if not given:
        return None
    text = environment.text(given[0])
    return _file_text(text) if text and given[0] == declared.file_name else text


def _file_text(path: str) -> str:
    try:
        text = (PROJECT_FOLDER / path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, ValueError):
        raise ValueError("the file named by its _FILE variable cannot be read") from None
    if not text.strip():
        raise ValueError("the file named by its _FILE variable is empty")
    return text
