"""How much one caller may have: captures are counted, answers from the cache only loosely."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import flask
from flask_limiter import Limiter, RateLimitExceeded

from thumbnailer.errors import CallerLimited

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class LimitTexts:
    """Limits as Flask-Limiter writes them, e.g. ``30 per minute``, one for each kind of answer."""

    thumb: str
    screenshot: str
    persist: str
    cached: str


def caller_address(trusted_proxies: Sequence[Network]) -> str:
    """The address a request really comes from.

    ``X-Forwarded-For`` is read from its end, and only as far as every hop is one of
    ``trusted_proxies``: what stands before that is anybody's claim.
    """
    address = flask.request.remote_addr or "unknown"
    hops = flask.request.headers.get("X-Forwarded-For", "").split(",")
    while hops and _is_trusted(address, trusted_proxies):
        claimed = hops.pop().strip()
        if not _is_address(claimed):
            break
        address = claimed
    return address


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_trusted(address: str, trusted_proxies: Sequence[Network]) -> bool:
    if not _is_address(address):
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in trusted_proxies)


class Allowance:
    """Charges callers for what they get; all routes of a kind share one allowance.

    ``thumb``, ``screenshot`` and ``persist`` are called when a capture is taken on a caller's
    account, ``answer`` for every answer. Each raises ``CallerLimited``.
    """

    def __init__(self, limiter: Limiter, texts: LimitTexts) -> None:
        self.thumb = _charge(limiter, texts.thumb, "thumb")
        self.screenshot = _charge(limiter, texts.screenshot, "screenshot")
        self.persist = _charge(limiter, texts.persist, "persist")
        self.answer = _charge(limiter, texts.cached, "answers")


def _charge(limiter: Limiter, text: str, scope: str) -> Callable[[], None]:
    def charge() -> None:
        """Flask-Limiter counts the calls of this function."""

    charge.__qualname__ = f"charge_{scope}"  # Flask-Limiter tells limited functions apart by this name
    counted = limiter.shared_limit(text, scope=scope)(charge)

    def charge_or_refuse() -> None:
        try:
            counted()
        except RateLimitExceeded:
            raise _limited(limiter, scope) from None

    return charge_or_refuse


def _limited(limiter: Limiter, scope: str) -> CallerLimited:
    """The error for a caller who reached a limit; its headers: draft-ietf-httpapi-ratelimit-headers."""
    reached = limiter.current_limit
    assert reached is not None, "Flask-Limiter has just said so"
    quota, window_seconds = reached.limit.amount, reached.limit.get_expiry()
    seconds = max(1, reached.reset_at - int(time.time()))
    return CallerLimited(
        f"No more than {quota} in {window_seconds} seconds. Try again in {seconds} seconds.",
        retry_after_seconds=seconds,
        headers={
            "RateLimit-Policy": f'"{scope}";q={quota};w={window_seconds}',
            "RateLimit": f'"{scope}";r={reached.remaining};t={seconds}',
        },
    )
