"""What the value of a setting may be: the parsers that settings are declared with.

A parser raises ValueError whose text says what the value should have been. It never repeats the
value of a secret or of a URL, because either may hold a password.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit

from limits import parse_many

from thumbnailer.addresses import Network

PROJECT_FOLDER = Path(__file__).resolve().parent.parent

T = TypeVar("T")

PRESET_NAME = r"[a-z][a-z0-9_-]{0,31}"

_SIZE = re.compile(r"(\d+)\s*(|KiB|MiB|GiB|TiB)", re.ASCII)
_SIZE_UNITS = {"": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_TRUE_WORDS = frozenset({"true", "yes", "on", "1"})
_FALSE_WORDS = frozenset({"false", "no", "off", "0"})


def sequence(convert: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """A comma-separated list of what ``convert`` makes of each part."""

    def parse(text: str) -> tuple[T, ...]:
        return tuple(convert(part.strip()) for part in text.split(",") if part.strip())

    return parse


def listed(convert: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """The same, doubles dropped."""
    parse = sequence(convert)
    return lambda text: tuple(dict.fromkeys(parse(text)))


def integer(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        if (
            not re.fullmatch(r"\d[\d_]{0,15}", text, re.ASCII)
            or not low <= int(text.replace("_", "")) <= high
        ):
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text.replace("_", ""))

    return parse


def seconds(low: float, high: float) -> Callable[[str], float]:
    """A number of seconds from ``low`` to ``high``, fractions allowed."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) or not low <= float(text) <= high:
            raise ValueError(f"must be a number of seconds from {low:g} to {high:g}")
        return float(text)

    return parse


def flag(text: str) -> bool:
    """true or false, and the usual other words for them."""
    word = text.casefold()
    if word not in _TRUE_WORDS | _FALSE_WORDS:
        raise ValueError("must be true or false")
    return word in _TRUE_WORDS


def choice(*words: str) -> Callable[[str], str]:
    """One of ``words``, in any case; the word as it is written there."""
    by_folded = {word.casefold(): word for word in words}

    def parse(text: str) -> str:
        if text.casefold() not in by_folded:
            raise ValueError(f"must be {'one of ' if len(words) > 1 else ''}{', '.join(words)}")
        return by_folded[text.casefold()]

    return parse


def matching(pattern: str, description: str) -> Callable[[str], str]:
    """Text of a fixed form; the fault says ``description``."""

    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text, re.ASCII):
            raise ValueError(f"must be {description}")
        return text

    return parse


def size_of(text: str) -> int:
    """Bytes, with or without a binary unit: ``1048576`` or ``1 MiB``."""
    match = _SIZE.fullmatch(text)
    if match is None or (size := int(match[1]) * _SIZE_UNITS[match[2]]) == 0:
        raise ValueError("must be a number of bytes above 0, such as 1048576 or 20 MiB")
    return size


def token_of(text: str) -> str:
    """A key that can stand in an HTTP header (RFC 9110, section 5.5): visible ASCII."""
    if not re.fullmatch(r"[\x21-\x7e]+", text):
        raise ValueError("holds a space, a control character or a letter outside ASCII")
    return text


def _parts_of(url: str, problem: str) -> SplitResult:
    """A URL in parts, the port among them. Raises ValueError with this text where they cannot be told."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        if parts.port != 0:
            return parts
    raise ValueError(problem)


def web_url_of(text: str) -> str:
    """An http or https URL without credentials, query and fragment; no slash at its end."""
    problem = "must be a URL such as https://example.com, without credentials, query or fragment"
    parts = _parts_of(text, problem)
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc or re.search(r"[\s\\]", text))
    if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain:
        raise ValueError(problem)
    return text.rstrip("/")


def redis_url_of(text: str) -> str:
    """A URL that redis-py understands."""
    problem = "must be a URL such as redis://host:6379/0, rediss://… or unix:///path/of/the.sock"
    parts = _parts_of(text, problem)
    where = parts.hostname if parts.scheme in ("redis", "rediss") else parts.path
    if parts.scheme not in ("redis", "rediss", "unix") or not where:
        raise ValueError(problem)
    return text


def database_url_of(text: str) -> str:
    """A database in SQLAlchemy's words, driver included; a relative SQLite file lies in the project's folder.

    ``sqlite://`` alone is a database in this process's memory.
    """
    problem = (
        "must be a URL such as sqlite:///var/thumbnailer.sqlite3 or postgresql://user:password@host/name"
    )
    scheme, _, rest = text.partition("://")
    if scheme == "sqlite" and not rest:
        return text
    if scheme == "sqlite" and rest.startswith("/") and rest != "/" and "?" not in rest:
        return f"sqlite:///{PROJECT_FOLDER / Path(rest[1:]).expanduser()}"
    is_named = _parts_of(text, problem).path.strip("/")
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg") or not is_named:
        raise ValueError(problem)
    return f"postgresql+psycopg://{rest}"


def network_of(text: str) -> Network:
    """An address or a network, IPv4 or IPv6."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"{text[:60]!r} is no address and no network such as 10.0.0.0/8 (host bits zero)"
        ) from None


def port_of(text: str) -> int:
    """A TCP port."""
    if not re.fullmatch(r"\d{1,5}", text, re.ASCII) or not 1 <= int(text) <= 65535:
        raise ValueError("must be ports from 1 to 65535, separated by commas")
    return int(text)


def limit_of(text: str) -> str:
    """A rate limit as Flask-Limiter writes it, checked but left as text."""
    try:
        parse_many(text)
    except ValueError:
        raise ValueError("must be a limit such as '30 per minute' or '30/minute;1000/day'") from None
    return text


def pairs_of(text: str) -> Mapping[str, str]:
    """``name=value`` pairs separated by commas; a value may hold commas itself."""
    written = re.split(r",(?=\s*\w+\s*=)", text) if text else []
    pairs = [pair.strip().partition("=") for pair in written]
    names = [name.strip() for name, _, _ in pairs]
    if any(not equals or not re.fullmatch(r"[a-z_]+", name.strip()) for name, equals, _ in pairs):
        raise ValueError("must be options such as thumb_width=400,format=auto")
    if len(set(names)) < len(names):
        raise ValueError("names an option twice")
    return MappingProxyType({name.strip(): value.strip() for name, _, value in pairs})


def presets_of(text: str) -> Mapping[str, Mapping[str, str]]:
    """``name:option=value,…`` groups separated by semicolons."""
    groups = [group.strip().partition(":") for group in text.split(";") if group.strip()]
    names = [name for name, _, _ in groups]
    if not all(re.fullmatch(PRESET_NAME, name) for name in names):
        raise ValueError("must be names and options such as card:thumb_width=400;hero:width=1920")
    if len(set(names)) < len(names):
        raise ValueError("names a preset twice")
    return MappingProxyType({name: pairs_of(options) for name, _, options in groups})


def folder_of(text: str) -> Path:
    """A folder, made when it is needed; a relative one lies in the project's folder."""
    path = PROJECT_FOLDER / Path(text).expanduser()
    try:
        is_something_else = path.exists() and not path.is_dir()
    except OSError:
        raise ValueError("lies in a folder that this user may not enter") from None
    if is_something_else:
        raise ValueError("is there but is no folder")
    return path


def file_of(text: str) -> Path:
    """An existing, readable file; a relative one lies in the project's folder."""
    path = PROJECT_FOLDER / Path(text).expanduser()
    if not os.access(path, os.R_OK) or not path.is_file():  # os.access() first: it raises nothing
        raise ValueError("must name a file that is there and can be read")
    return path


def program_of(text: str) -> Path:
    """An existing file that can be executed."""
    path = file_of(text)
    if not os.access(path, os.X_OK):
        raise ValueError("must name a program that can be executed")
    return path
