"""Settings for tests: loaded from given variables alone, whatever the machine has set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from config import ConfigurationError, Settings, load_settings

NO_FILE = Path("/dev/null")


def load(environ: Mapping[str, str] | None = None, *, profile: str = "testing") -> Settings:
    """The settings that ``environ`` makes."""
    return load_settings(profile, environ or {}, dotenv=NO_FILE)


def faults_of(environ: Mapping[str, str], *, profile: str = "testing") -> dict[str, str]:
    """The faults of ``environ``, by setting."""
    with pytest.raises(ConfigurationError) as raised:
        load(environ, profile=profile)
    return {fault.name: str(fault) for fault in raised.value.faults}
