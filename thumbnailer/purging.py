"""Purges: what has been captured within a scope is never served again, and its bytes are deleted."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from thumbnailer.addresses import parse_address
from thumbnailer.backend import UNAVAILABLE
from thumbnailer.cache import CaptureCache
from thumbnailer.catalogue import Catalogue
from thumbnailer.errors import CacheUnavailable, InvalidParameters, InvalidTarget, TargetForbidden
from thumbnailer.hostnames import normalise_host
from thumbnailer.model import Deadline
from thumbnailer.purges import Purges
from thumbnailer.sites import EVERYTHING, Extent, Kind, Scope, Site, kind_of
from thumbnailer.target import parse_target

PICTURES = (Kind.CAPTURE, Kind.RENDITION)

#: What a target or a host is not that cannot be read.
NONE_OF = {"targets": "no URL of a web page", "hosts": "no host, such as example.com or *.example.com"}


@dataclass(frozen=True, slots=True)
class PurgeReport:
    """What a purge deleted: captures, renditions, and failures that were remembered.

    ``before`` is the Unix time in seconds from which on captures count as new. Unless ``is_complete``,
    the time was up before all was found: the rest is never served either, but its bytes remain for now.
    """

    captures: int
    renditions: int
    failures: int
    before: float
    is_complete: bool


def scopes_of(targets: Sequence[str], hosts: Sequence[str], *, is_everything: bool) -> list[Scope]:
    """What a caller means: pages by their URLs, and hosts; ``*.`` before one means all below it as well.

    A URL means the page, whatever its fragment. It is not held against the guard: what is no longer
    visited can still be purged.

    Raises:
        InvalidParameters: nothing is named, or what is named is no URL or no host.
    """
    faults: dict[str, list[str]] = {}
    scopes = [EVERYTHING] if is_everything else []
    for field, texts, read in (("targets", targets, _page), ("hosts", hosts, _host)):
        for text in texts:
            try:
                scopes.append(read(text))
            except (ValueError, InvalidTarget, TargetForbidden):
                faults.setdefault(field, []).append(f"{text[:200]!r} is {NONE_OF[field]}.")
    if faults:
        raise InvalidParameters(faults)
    if not scopes:
        raise InvalidParameters({"targets": ["Name targets, hosts or everything."]})
    return list(dict.fromkeys(scopes))


def _page(url: str) -> Scope:
    return Site.of(parse_target(url).url).scope


def _host(text: str) -> Scope:
    """Raises ValueError for what is no host."""
    if text.startswith("*."):
        host = normalise_host(text[2:])
        if parse_address(host) is not None:
            raise ValueError("an address has nothing below it")
        return Scope(Extent.DOMAIN, host)
    address = parse_address(text.removeprefix("[").removesuffix("]"))
    return Scope(Extent.HOST, str(address) if address else normalise_host(text))


class Purger:
    """Carries purges out, for all who share the cache."""

    def __init__(
        self,
        purges: Purges,
        catalogue: Catalogue,
        cache: CaptureCache,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._purges = purges
        self._catalogue = catalogue
        self._cache = cache
        self._clock = clock

    def purge(
        self, scopes: Sequence[Scope], *, before: float | None = None, deadline: Deadline | None = None
    ) -> PurgeReport:
        """Purge what was captured within ``scopes``: all of it, or what was begun ``before`` a time.

        The failures of these targets are forgotten in any case. First the mark, then the deletion: what is
        stored between the two is found by whoever stores it.

        Raises:
            CacheUnavailable: the cache cannot be asked; nothing or not all is purged.
        """
        now = self._clock()
        at = now if before is None else min(before, now)
        self._purges.mark(scopes, at)
        prefixes = sorted({prefix for scope in scopes for prefix in scope.prefixes})
        counts: Counter[Kind] = Counter()
        try:
            for found in self._catalogue.find(prefixes):
                counts += self._delete(found, None if before is None else at)
                if deadline and deadline.has_passed():
                    return _report(counts, at, is_complete=False)
        except UNAVAILABLE as error:
            raise CacheUnavailable from error
        return _report(counts, at, is_complete=True)

    def _delete(self, addresses: Sequence[str], before: float | None) -> Counter[Kind]:
        by_kind: dict[Kind, list[str]] = {kind: [] for kind in Kind}
        for address in addresses:
            if kind := kind_of(address):
                by_kind[kind].append(address)
        if before is not None:
            return self._delete_older(by_kind, before)
        return Counter({kind: self._catalogue.remove(found) for kind, found in by_kind.items()})

    def _delete_older(self, by_kind: dict[Kind, list[str]], before: float) -> Counter[Kind]:
        counts: Counter[Kind] = Counter({Kind.SETBACK: self._catalogue.remove(by_kind[Kind.SETBACK])})
        for kind in PICTURES:
            for address in by_kind[kind]:
                record = self._cache.record_of(address)
                if record and record.captured_at - record.upstream_seconds < before:
                    self._cache.forget(address)
                    counts[kind] += 1
        return counts


def _report(counts: Counter[Kind], before: float, *, is_complete: bool) -> PurgeReport:
    return PurgeReport(
        captures=counts[Kind.CAPTURE],
        renditions=counts[Kind.RENDITION],
        failures=counts[Kind.SETBACK],
        before=before,
        is_complete=is_complete,
    )
