"""The entry of a worker that takes captures for jobs: ``celery --app worker worker``."""

from __future__ import annotations

from config import ConfigurationError, load_settings
from wiring.malloc import bound_malloc
from wiring.worker import build_worker

bound_malloc()

try:
    app = build_worker(load_settings())
except ConfigurationError as error:
    raise SystemExit(str(error)) from None
