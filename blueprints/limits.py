"""How much one caller may have: captures are counted, answers from the cache only loosely."""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flask
from flask_limiter import Limiter, RateLimitExceeded
from limits.errors import StorageError

from thumbnailer.errors import CallerLimited

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class LimitTexts:
    """Limits as Flask-Limiter writes them, e.g. ``30 per minute``, one for each kind of answer."""

    thumb: str
    screenshot: str
    persist: str
    jobs: str
    cached: str
    purge: str


#: Every IPv6 site has at least so many addresses to itself (RFC 6177): counted one by one, they would
#: give each caller as many allowances as they like.
IPV6_SITE_BITS = 64


def caller_address(trusted_proxies: Sequence[Network]) -> str:
    """The address a request really comes from, in one spelling; of IPv6 the network.

    ``X-Forwarded-For`` is read from its end, and only as far as every hop is one of
    ``trusted_proxies``: what stands before that is anybody's claim.
    """
    address = _parsed(flask.request.remote_addr or "")
    hops = flask.request.headers.get("X-Forwarded-For", "").split(",")
    while address and hops and any(address in network for network in trusted_proxies):
        claimed = _parsed(hops.pop().strip())
        if claimed is None:
            break
        address = claimed
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_SITE_BITS), strict=False))
    return str(address) if address else "unknown"


def _parsed(text: str) -> Address | None:
    """An address; an IPv4 one that IPv6 carries (RFC 4291, section 2.5.5.2) as what it is."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


class Allowance:
    """Charges callers for what they get; all routes of a kind share one allowance.

    ``thumb``, ``screenshot`` and ``persist`` are called when a capture is taken on a caller's
    account, ``jobs`` for every job that is accepted, ``answer`` for every answer, ``purge`` for every
    purge. Each raises ``CallerLimited``.
    """

    def __init__(self, limiter: Limiter, texts: LimitTexts) -> None:
        self.thumb = _charge(limiter, texts.thumb, "thumb")
        self.screenshot = _charge(limiter, texts.screenshot, "screenshot")
        self.persist = _charge(limiter, texts.persist, "persist")
        self.jobs = _charge(limiter, texts.jobs, "jobs")
        self.answer = _charge(limiter, texts.cached, "answers")
        self.purge = _charge(limiter, texts.purge, "purge")


def _charge(limiter: Limiter, text: str, scope: str) -> Callable[[], None]:
    def charge() -> None:
        """Flask-Limiter counts the calls of this function."""

    charge.__qualname__ = f"charge_{scope}"  # Flask-Limiter tells limited functions apart by this name
    counted = limiter.shared_limit(text, scope=scope)(charge)

    def charge_or_refuse() -> None:
        try:
            _call_again_in_memory(counted)
        except RateLimitExceeded:
            raise _limited(limiter, scope) from None

    return charge_or_refuse


def _call_again_in_memory(counted: Callable[[], None]) -> None:
    """Count, be it in memory.

    When its Redis dies, Flask-Limiter counts in memory for the first request that meets the error
    and raises it to all others that meet it at the same time.
    """
    try:
        counted()
    except StorageError:
        counted()


def _limited(limiter: Limiter, scope: str) -> CallerLimited:
    """The error for a caller who reached a limit; its headers: draft-ietf-httpapi-ratelimit-headers."""
    reached = limiter.current_limit
    assert reached is not None, "Flask-Limiter has just said so"
    quota, window_seconds = reached.limit.amount, reached.limit.get_expiry()
    # Flask-Limiter rounds the end of the window up to the next whole second, and past it.
    seconds = min(window_seconds, max(1, math.ceil(reached.reset_at - time.time())))
    return CallerLimited(
        f"No more than {quota} in {window_seconds} seconds. Try again in {seconds} seconds.",
        retry_after_seconds=seconds,
        headers={
            "RateLimit-Policy": f'"{scope}";q={quota};w={window_seconds}',
            "RateLimit": f'"{scope}";r={reached.remaining};t={seconds}',
        },
    )
