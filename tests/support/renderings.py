"""Formats and limits of the renderings in tests."""

from __future__ import annotations

from thumbnailer.imaging import PictureLimits
from thumbnailer.renditions import RenditionFormat

PNG, JPEG, WEBP, AVIF = RenditionFormat
LIMITS = PictureLimits()
