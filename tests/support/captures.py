"""Captures for tests."""

from __future__ import annotations

import hashlib
from typing import Any

from thumbnailer.model import Capture, CaptureRecord


def capture_of(body: bytes, **changes: Any) -> Capture:
    """A capture with a true record of ``body``."""
    known: dict[str, Any] = {
        "content_type": "image/png",
        "size_bytes": len(body),
        "sha256": hashlib.sha256(body).hexdigest(),
        "width": 1280,
        "height": 720,
        "captured_at": 1_800_000_000.5,
        "provider": "test",
        "upstream_seconds": 0.25,
    }
    return Capture.of_bytes(CaptureRecord(**(known | changes)), body)
