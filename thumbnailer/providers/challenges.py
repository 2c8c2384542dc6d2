"""Tells pages that ask visitors to prove that they are no robots from the pages asked for.

What gives them away stands in a file of markers (``assets/challenge_markers.toml``, which says where each is
from), so that an operator can replace it.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from thumbnailer.errors import PageChallenged
from thumbnailer.providers.page_world import PageWorld
from thumbnailer.providers.playwright_errors import PlaywrightError

SHIPPED_MARKERS = Path(__file__).parent / "assets" / "challenge_markers.toml"

#: The index of the first marker whose conditions in the page all hold, -1 for none. The text, which is dear
#: on a large page, is asked for last. A selector that is none matches nothing.
FIND = """
(markers) => {
  const text = () => (document.body?.innerText ?? "").trim();
  const isThere = (selector) => {
    try { return document.querySelector(selector) !== null; } catch { return false; }
  };
  return markers.findIndex((marker) =>
    (marker.title === null || document.title.trim() === marker.title) &&
    (marker.selector === null || isThere(marker.selector)) &&
    (marker.without === null || !isThere(marker.without)) &&
    (marker.max_text === null || text().length <= marker.max_text) &&
    (marker.text === null || text().includes(marker.text)));
}
"""
FIND_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What gives one kind of check away: a header alone, or conditions in the page that all hold.

    ``header`` is a name and its value in lower case; ``title`` the whole title; ``selector`` matches an
    element and ``without`` none; ``text`` is part of the visible text, which has at most ``max_text``
    characters. Raises ValueError for a marker that would match every page or has both kinds.
    """

    name: str
    header: tuple[str, str] | None = None
    title: str | None = None
    selector: str | None = None
    without: str | None = None
    text: str | None = None
    max_text: int | None = None

    def __post_init__(self) -> None:
        if not (self.header or self.title or self.selector or self.text):
            raise ValueError(f"the marker {self.name!r} needs a header, title, selector or text")
        if self.header and any((self.title, self.selector, self.without, self.text, self.max_text)):
            raise ValueError(f"the marker {self.name!r} has a header, which stands alone")


class Challenges:
    """Refuses pages that show any of ``markers``; without markers, none."""

    def __init__(self, markers: Sequence[Marker]) -> None:
        self._by_header = [marker for marker in markers if marker.header]
        self._by_page = [marker for marker in markers if not marker.header]

    def refuse_answer(self, headers: Mapping[str, str]) -> None:
        """Raise ``PageChallenged`` for the headers of a check; their names are in lower case."""
        for marker in self._by_header:
            name, value = marker.header or ("", "")
            if headers.get(name, "").strip().lower() == value:
                raise _challenged(marker)

    async def refuse_page(self, world: PageWorld) -> None:
        """Raise ``PageChallenged`` for a page that is a check. One that cannot be looked at is none."""
        if not self._by_page:
            return
        found = -1
        with suppress(PlaywrightError, TimeoutError):
            async with asyncio.timeout(FIND_SECONDS):
                found = await world.run(FIND, [asdict(marker) for marker in self._by_page])
        if isinstance(found, int) and 0 <= found < len(self._by_page):
            raise _challenged(self._by_page[found])


def read_markers(path: Path | None = None) -> tuple[Marker, ...]:
    """The markers of a file, or those that come with the service.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no file of markers; the text says why.
    """
    content = tomllib.loads((path or SHIPPED_MARKERS).read_text(encoding="utf-8"))
    entries = content.get("marker")
    if content.keys() != {"marker"} or not isinstance(entries, list):
        raise ValueError("must hold [[marker]] tables and nothing else")
    return tuple(_marker(entry) for entry in entries)


def _marker(entry: Mapping[str, Any]) -> Marker:
    kinds = {"header": list, "max_text": int}
    known = {field.name for field in fields(Marker)}
    for name, value in entry.items():
        if name not in known or type(value) is not kinds.get(name, str):
            raise ValueError(f"{name!r} is no condition of a marker, or its value is of the wrong kind")
    header = entry.get("header")
    if header is not None and (len(header) != 2 or not all(isinstance(part, str) for part in header)):
        raise ValueError("a header is a name and a value")
    if "name" not in entry:
        raise ValueError("a marker needs a name")
    given = dict(entry)
    if header is not None:
        given["header"] = (header[0].lower(), header[1].lower())
    return Marker(**given)


def _challenged(marker: Marker) -> PageChallenged:
    return PageChallenged(
        f"The target shows a check for robots ({marker.name}) in place of the page.", provider="chromium"
    )
