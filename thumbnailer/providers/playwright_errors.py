"""Playwright's errors, from the small module that they are made in.

All the rest of Playwright takes some 7 MiB and 80 ms, and is loaded where there is a browser to steer.
"""

from __future__ import annotations

from playwright._impl._errors import Error as PlaywrightError
from playwright._impl._errors import TimeoutError as PlaywrightTimeout

__all__ = ["PlaywrightError", "PlaywrightTimeout"]
