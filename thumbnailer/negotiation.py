"""Picks a format that the caller can show, by the ``Accept`` header: RFC 9110, section 12.5.1."""

from __future__ import annotations

import re
from collections.abc import Iterator

from thumbnailer.renditions import RenditionFormat

#: One member of a list; commas within quoted strings are part of it: RFC 9110, sections 5.6.1 and 5.6.4.
_MEMBER = re.compile(r'(?:"(?:\\.|[^"\\])*(?:"|\Z)|[^,"])+')
_WEIGHT = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\Z", re.ASCII)

#: Formats that came after browsers began to send wildcards: they have to be named.
_NAMED_ONLY = frozenset({RenditionFormat.AVIF, RenditionFormat.WEBP})

MAX_ACCEPT_CHARACTERS = 4096


def choose_format(accept: str | None, *, has_alpha: bool) -> RenditionFormat:
    """The format with the highest weight; among equals AVIF, WebP, then JPEG or PNG.

    ``image/*`` and ``*/*`` speak for JPEG and PNG only, since clients that send them may be older than
    the other two. Of those, JPEG goes first, and PNG where ``has_alpha``. One of them is also the
    answer where nothing acceptable is left (RFC 9110, section 12.4.1, allows to disregard the field).
    """
    plain = [RenditionFormat.JPEG, RenditionFormat.PNG]
    if has_alpha:
        plain.reverse()
    weights = dict(_weights((accept or "")[:MAX_ACCEPT_CHARACTERS]))
    best, best_weight = plain[0], 0.0
    for candidate in (RenditionFormat.AVIF, RenditionFormat.WEBP, *plain):
        weight = _weight_of(candidate, weights)
        if weight > best_weight:
            best, best_weight = candidate, weight
    return best


def _weight_of(candidate: RenditionFormat, weights: dict[str, float]) -> float:
    """The weight by the most specific range that speaks of it."""
    ranges = [candidate.content_type]
    if candidate not in _NAMED_ONLY:
        ranges += ["image/*", "*/*"]
    return next((weights[one] for one in ranges if one in weights), 0.0)


def _weights(accept: str) -> Iterator[tuple[str, float]]:
    """Media ranges without parameters and their weights; malformed ones are left out."""
    for member in _MEMBER.findall(accept):
        media_range, *parameters = (part.strip().lower() for part in member.split(";"))
        if not parameters:
            yield media_range, 1.0
        elif parameters[0].startswith("q=") and _WEIGHT.match(parameters[0][2:]):
            yield media_range, float(parameters[0][2:])
