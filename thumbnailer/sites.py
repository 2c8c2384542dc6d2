"""Where a target belongs: to a page, a host, and its domains. What is purged and tagged goes by these.

Whatever the cache keeps of a page has an address that tells the page::

    target|com.example.www|<page>/capture:<capture key>
           └ the host, its labels from the right   └ what it is

so that all of a page, a host or a domain is found by the beginning of its addresses, and no index
has to be kept in step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

ROOT = "target|"
MAX_TAGGED_DOTS = 9


class Kind(StrEnum):
    """What the cache keeps of a page."""

    CAPTURE = "capture"
    RENDITION = "rendition"
    CHUNK = "chunk"
    SETBACK = "setback"


KINDS = {kind.value: kind for kind in Kind}


class Extent(StrEnum):
    """How much one purge covers."""

    EVERYTHING = "everything"
    DOMAIN = "domain"
    HOST = "host"
    PAGE = "page"


@dataclass(frozen=True, slots=True)
class Scope:
    """A part of all targets.

    ``name`` is empty for everything, a host for a host, and for a domain the host that it begins
    with, itself included. For a page it is ``host/digest``.
    """

    extent: Extent
    name: str = ""

    @property
    def text(self) -> str:
        """The scope as one word; equal for equal scopes."""
        return f"{self.extent}:{self.name}"

    @property
    def tag(self) -> str:
        """What answers are tagged with, for caches downstream: short, and of letters that all of them take.

        Hashed, as an answer may be the picture of a page whose address is nobody's business.
        """
        if self.extent is Extent.EVERYTHING:
            return "thumbnailer"
        return f"{self.extent[0]}-{hashlib.sha256(self.name.encode()).hexdigest()[:16]}"

    @property
    def prefixes(self) -> tuple[str, ...]:
        """What the addresses of all that belongs here begin with, and no others."""
        host, _, page = self.name.partition("/")
        place = f"{ROOT}{_from_the_right(host)}"
        match self.extent:
            case Extent.EVERYTHING:
                return (ROOT,)
            case Extent.DOMAIN:
                return (f"{place}|", f"{place}.")
            case Extent.HOST:
                return (f"{place}|",)
            case Extent.PAGE:
                return (f"{place}|{page}/",)


EVERYTHING = Scope(Extent.EVERYTHING)


@dataclass(frozen=True, slots=True)
class Site:
    """The place of one page; ``page`` is a hexadecimal digest of its URL without the fragment."""

    host: str
    page: str

    @classmethod
    def of(cls, url: str) -> Site:
        """The site of a normalised target."""
        digest = hashlib.sha256(url.partition("#")[0].encode()).hexdigest()[:32]
        return cls(urlsplit(url).hostname or "", digest)

    def address(self, kind: Kind, name: str) -> str:
        """Where the cache keeps something of this page."""
        return f"{ROOT}{_from_the_right(self.host)}|{self.page}/{kind}:{name}"

    @property
    def scope(self) -> Scope:
        """The page alone."""
        return Scope(Extent.PAGE, f"{self.host}/{self.page}")

    def scopes(self) -> Iterator[Scope]:
        """All scopes that hold this page, the widest first."""
        yield EVERYTHING
        if not _is_address(self.host):
            labels = self.host.split(".")
            yield from (
                Scope(Extent.DOMAIN, ".".join(labels[start:])) for start in reversed(range(len(labels)))
            )
        yield Scope(Extent.HOST, self.host)
        yield self.scope

    def tags(self) -> Iterator[str]:
        """The tags of all scopes that anybody would purge, the widest first.

        Top-level domains are none of them, nor domains that go deeper than any real one: a header has to
        stay short.
        """
        for scope in self.scopes():
            if scope.extent is not Extent.DOMAIN or 1 <= scope.name.count(".") <= MAX_TAGGED_DOTS:
                yield scope.tag


@dataclass(frozen=True, slots=True)
class PictureKey:
    """Names one picture in the cache: ``name`` tells it from all others of its site and kind."""

    site: Site
    kind: Kind
    name: str

    @property
    def address(self) -> str:
        return self.site.address(self.kind, self.name)


def kind_of(address: str) -> Kind | None:
    """What an address names; None where it is no address."""
    word = address.rpartition("/")[2].partition(":")[0]
    return KINDS.get(word)


def _from_the_right(host: str) -> str:
    return host if _is_address(host) else ".".join(reversed(host.split(".")))


def _is_address(host: str) -> bool:
    """Whether a normalised host is an IP address: no name ends in a number (WHATWG URL, 3.5)."""
    return ":" in host or host.rpartition(".")[2].isdigit()
