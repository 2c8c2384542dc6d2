"""Lists of pages: sitemaps, and texts with one URL on each line (sitemaps.org, protocol 0.9)."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from xml.parsers import expat

from thumbnailer.egress import GuardedSession
from thumbnailer.model import Deadline

#: Of one sitemap, unfolded; the protocol allows no more.
MAX_BYTES = 52_428_800
#: Of one list with all the sitemaps that it names.
MAX_PAGES = 100_000

#: That one index names; the protocol allows no more.
MAX_SITEMAPS = 50_000
#: Levels of a document; a sitemap has three, and its extensions a few more.
MAX_DEPTH = 32

GZIP = b"\x1f\x8b"
BYTE_ORDER_MARKS = b"\xef\xbb\xbf\xff\xfe"


@dataclass(frozen=True, slots=True)
class Listing:
    """What one list names: pages, or, where it is a sitemap index, further sitemaps."""

    pages: tuple[str, ...] = ()
    sitemaps: tuple[str, ...] = ()


def read_listing(content: bytes) -> Listing:
    """Read a sitemap, a sitemap index or lines of URLs, plain or in gzip.

    Empty lines, and those that begin with #, are left out. Raises ValueError: it is none of these.
    """
    if content.startswith(GZIP):
        content = _unfolded(content)
    if content.lstrip(BYTE_ORDER_MARKS + b"\0 \t\r\n").startswith(b"<"):
        return _read_xml(content)
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ValueError("The list is neither a sitemap nor text in UTF-8.") from None
    return Listing(pages=tuple(line for line in lines if line and not line.startswith("#")))


def fetch_listing(session: GuardedSession, url: str, *, timeout_seconds: float) -> Listing:
    """Fetch a list of pages.

    Raises:
        ValueError: what is there is none.
        InvalidTarget, TargetForbidden, TargetUnreachable: it is not fetched.
    """
    deadline = Deadline.after(timeout_seconds)
    answer = session.fetch("GET", url, deadline=deadline, max_bytes=MAX_BYTES)
    if answer.status != 200:
        raise ValueError(f"{url} answers with status {answer.status}.")
    return read_listing(answer.body)


def gather_pages(listing: Listing, fetch: Callable[[str], Listing]) -> list[str]:
    """All pages that a list and the sitemaps in it name, each once and in their order.

    Raises ValueError where an index names another index, or where there are too many pages or sitemaps; and
    what ``fetch`` raises.
    """
    pages, sitemaps = dict.fromkeys(listing.pages), dict.fromkeys(listing.sitemaps)
    if len(sitemaps) > MAX_SITEMAPS:
        raise ValueError(f"The list names more than {MAX_SITEMAPS} sitemaps.")
    for url in sitemaps:
        nested = fetch(url)
        if nested.sitemaps:
            raise ValueError(f"{url} is a sitemap index within another one.")
        pages |= dict.fromkeys(nested.pages)
        if len(pages) > MAX_PAGES:
            break
    if len(pages) > MAX_PAGES:
        raise ValueError(f"The list names more than {MAX_PAGES} pages.")
    return list(pages)


def _unfolded(content: bytes) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as folded:
            unfolded = folded.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error):
        raise ValueError("The list is damaged: it is no whole gzip file.") from None
    if len(unfolded) > MAX_BYTES:
        raise ValueError(f"The list is longer than {MAX_BYTES} bytes.")
    return unfolded


def _read_xml(content: bytes) -> Listing:
    reader = _SitemapReader()
    try:
        reader.parser.Parse(content, True)  # noqa: FBT003  takes no keywords
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(f"The sitemap is no well-formed XML: {error}.") from None
    return Listing(pages=tuple(reader.pages), sitemaps=tuple(reader.sitemaps))


class _SitemapReader:
    """Collects locations; those of images and videos lie deeper and are left out.

    A document type is refused: with it come entities, and a few lines that unfold to any size.
    """

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.sitemaps: list[str] = []
        self._lists = {
            ("urlset", "url", "loc"): self.pages,
            ("sitemapindex", "sitemap", "loc"): self.sitemaps,
        }
        self._path: tuple[str, ...] = ()
        self._text = ""
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._begin
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._add
        self.parser.buffer_text = True

    def _refuse(self, *_declaration: object) -> None:
        raise ValueError("The list is no sitemap: it declares a document type.")

    def _begin(self, name: str, _attributes: dict[str, str]) -> None:
        self._path += (name.rpartition(" ")[2],)
        self._text = ""
        if self._path[0] not in ("urlset", "sitemapindex"):
            raise ValueError(f"The list is no sitemap: it is a document of {self._path[0][:50]}.")
        if len(self._path) > MAX_DEPTH:
            raise ValueError(f"The list is no sitemap: it is more than {MAX_DEPTH} levels deep.")

    def _add(self, text: str) -> None:
        if self._path in self._lists:
            self._text += text

    def _end(self, _name: str) -> None:
        location = self._text.strip()
        if self._path in self._lists and location:
            self._lists[self._path].append(location)
        self._path = self._path[:-1]
