"""HTTP screenshot services: the machinery that their adapters share.

An adapter is a ``Vendor``: a table from our option names to the wire, the way its key is sent and the
way its errors are read. ``RemoteProvider`` makes a provider of it.

==============================  =======================================================
the upstream says               becomes
==============================  =======================================================
400, 422, TARGET_FORBIDDEN      CaptureRefused, with the upstream's message
401, 403                        UpstreamAuth, logged as the operator's fault
402, or a quota code            UpstreamQuota, with the time of its renewal where given
404, 410, TARGET_UNREACHABLE    TargetUnreachable
429                             UpstreamBusy, with the pause that it asks for
408, 504                        TargetTooSlow: it lives, the page did not come in time
nothing in time                 UpstreamTimeout
200 with a Content-Encoding     NotAnImage: none was accepted, and nothing is unpacked
anything else but 200           UpstreamFailed (redirects are never followed)
==============================  =======================================================

The two codes about the target are those of another thumbnailer.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlencode

import requests
import structlog

from thumbnailer.addresses import is_public, parse_address
from thumbnailer.errors import (
    CaptureRefused,
    NotAnImage,
    TargetTooSlow,
    TargetUnreachable,
    ThumbnailerError,
    UpstreamAuth,
    UpstreamBusy,
    UpstreamError,
    UpstreamFailed,
    UpstreamQuota,
)
from thumbnailer.model import NEUTRAL_OPTIONS, POWERFUL, CaptureRequest, Deadline, wanted_options
from thumbnailer.providers import UpstreamBody
from thumbnailer.providers.exchange import Exchange, UpstreamSession, begin_exchange
from thumbnailer.providers.vendor import Fault, Option, Vendor

MAX_ERROR_BYTES = 65536
MAX_MESSAGE_CHARACTERS = 200

#: How programs begin to tell where they broke. This and the next meet each letter a few times at most: a
#: long message would stop the whole process otherwise.
TRACEBACK = re.compile(r"Traceback \(most recent|^[ \t]*at \S.*:\d|File \"[^\"]+\", line \d", re.MULTILINE)
#: What may be an address, or a name of the same machine or network.
ADDRESS = re.compile(
    r"(?<![\w.])(?:\d{1,3}(?:\.\d{1,3}){3}|localhost|(?<!-)[\w-]+(?:\.[\w-]+)*\.(?:internal|local|svc))(?![\w-])"
    r"|(?<![\w:.])[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?![\w:])",
    re.IGNORECASE | re.ASCII,
)

MAX_PAUSE_SECONDS = 30 * 86400.0
MAX_UNIX_SECONDS = 1e12

#: Sent on every call, so that a vendor's own defaults never decide what picture comes.
ALWAYS_SENT = frozenset({"width", "height", "format"})

#: What a device preset stands for; sent beside it only where the caller asked for both.
VIEWPORT = frozenset({"width", "height", "device_scale_factor"})

log = structlog.get_logger(__name__)


class RemoteProvider:
    """Takes captures by calling a vendor's HTTP interface.

    ``base_url`` replaces the vendor's own, for a proxy or a self-hosted twin. Raises ValueError for a
    key that is missing where the vendor demands one, or that no header can carry.
    """

    def __init__(
        self,
        vendor: Vendor,
        session: UpstreamSession,
        *,
        key: str | None = None,
        base_url: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if key is None and vendor.is_key_required:
            raise ValueError(f"{vendor.name} needs a key")
        if key is not None and not (key.isascii() and key.isprintable() and key.strip() == key != ""):
            raise ValueError(
                f"the key of {vendor.name} is empty or holds characters that no header can carry"
            )
        self._vendor = vendor
        self._session = session
        self._key = key
        self._url = (base_url or vendor.base_url).rstrip("/") + vendor.path
        self._clock = clock

    @property
    def name(self) -> str:
        return self._vendor.name

    def unsupported_option(self, request: CaptureRequest) -> str | None:
        return next(
            (
                name
                for name, value in self._wishes(request).items()
                if name in request.asked and self._option_for(name, value) is None
            ),
            None,
        )

    def capture(self, request: CaptureRequest, deadline: Deadline) -> UpstreamBody:
        exchange = begin_exchange(self._session, self._call(request), deadline, self.name)
        if exchange.status != requests.codes.ok:
            raise self._error(exchange, request)
        if exchange.headers.get("Content-Encoding", "").lower() not in ("", "identity"):
            exchange.close()
            raise NotAnImage(f"The provider {self.name} sent an encoded body.", provider=self.name)
        return exchange

    def is_ready(self) -> bool:
        return True

    def close(self) -> None:
        """Close the idle connections of the session, which opens new ones when called again."""
        self._session.close()

    def _wishes(self, request: CaptureRequest) -> dict[str, object]:
        names = wanted_options(request).keys() | ALWAYS_SENT | self._vendor.also_always
        if request.device is not None and "device" in self._vendor.options:
            names = (names - VIEWPORT) | (VIEWPORT & request.asked)
        return {name: getattr(request, name) for name in NEUTRAL_OPTIONS if name in names}

    def _option_for(self, name: str, value: object) -> Option | None:
        option = self._vendor.options.get(name)
        return option if option is not None and option.accepts(value) else None

    def _call(self, request: CaptureRequest) -> requests.Request:
        parameters: dict[str, object] = {"url": request.url}
        for name, value in self._wishes(request).items():
            if option := self._option_for(name, value):
                parameters.update(option.write(value))
        headers = dict(self._vendor.key_headers(self._key)) if self._key is not None else {}
        if self._vendor.sends_json(parameters):
            return requests.Request("POST", self._url, headers=headers, json=parameters)
        # Spaces as %20 rather than +: every parser of queries reads that alike.
        query = urlencode(
            {name: _scalar(value) for name, value in parameters.items()}, quote_via=quote, safe=""
        )
        return requests.Request("GET", f"{self._url}?{query}", headers=headers)

    def _error(self, exchange: Exchange, request: CaptureRequest) -> ThumbnailerError:
        fault = self._vendor.read_fault(_read_object(exchange))
        # It may quote what was sent, and that is not for the log.
        is_quotable = POWERFUL.isdisjoint(wanted_options(request))
        message = self._presentable(fault.message) if is_quotable else ""
        status = exchange.status
        pause = self._pause(exchange, fault)
        provider, code = self.name, fault.code.upper().replace("-", "_")
        if status == 402 or code == "QUOTA_EXCEEDED":
            return UpstreamQuota(
                f"The quota at the provider {provider} is used up.",
                provider=provider,
                retry_after_seconds=pause,
            )
        if status in (404, 410) or code == "TARGET_UNREACHABLE":
            return TargetUnreachable("The target could not be reached.")
        if status in (400, 422) or code == "TARGET_FORBIDDEN":
            return CaptureRefused(message or f"The provider {provider} refuses the target or an option.")
        if status in (401, 403):
            log.error("upstream_refuses_key_or_plan", provider=provider, status=status, reason=message)
            return UpstreamAuth(f"The provider {provider} refuses this service.", provider=provider)
        kinds: dict[int, type[UpstreamError]] = {
            408: TargetTooSlow,
            429: UpstreamBusy,
            504: TargetTooSlow,
        }
        kind = kinds.get(status, UpstreamFailed)
        return kind(
            f"The provider {provider} answered with status {status}.",
            provider=provider,
            retry_after_seconds=pause,
        )

    def _presentable(self, message: str) -> str:
        """A vendor's message, fit for a caller: one printable, short line that tells of nobody's inside.

        Our key and addresses that are not public are left out of it, and all of it where it is a traceback.
        """
        if TRACEBACK.search(message):
            return ""
        line = " ".join("".join(sign if sign.isprintable() else " " for sign in message).split())
        if self._key is not None:
            line = line.replace(self._key, "[key]")
        line = ADDRESS.sub(_public_or_hidden, line)
        return line if len(line) <= MAX_MESSAGE_CHARACTERS else line[: MAX_MESSAGE_CHARACTERS - 1] + "…"

    def _pause(self, exchange: Exchange, fault: Fault) -> float | None:
        now = self._clock()
        pause = parse_retry_after(exchange.headers.get("Retry-After"), now)
        if pause is None:
            pause = parse_retry_after(fault.retry_after, now)
        if pause is None and (header := self._vendor.reset_headers.get(exchange.status)):
            reset_in = (_number(exchange.headers.get(header)) or 0) - now
            pause = min(reset_in, MAX_PAUSE_SECONDS) if reset_in > 0 else None
        return pause


def _public_or_hidden(found: re.Match[str]) -> str:
    address = parse_address(found[0])
    is_name = found[0][-1].isalpha() and ":" not in found[0]
    is_told = is_public(address) if address is not None else not is_name
    return found[0] if is_told else "[address]"


def parse_retry_after(value: object, now: float) -> float | None:
    """Seconds until a retry is welcome, None where ``value`` does not say.

    Takes seconds or an HTTP-date (RFC 9110, section 10.2.3), as text or as a number of JSON;
    ``now`` is Unix time. Never negative, never above 30 days.
    """
    seconds = _number(value)
    if seconds is None and isinstance(value, str):
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now
    return None if seconds is None else min(max(seconds, 0.0), MAX_PAUSE_SECONDS)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        text = value.strip()
        return float(text) if text.isascii() and text.isdecimal() else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(min(value, MAX_UNIX_SECONDS)) if value >= 0 else None


def _scalar(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_object(exchange: Exchange) -> Mapping[str, object]:
    """The JSON object of an error answer; empty where it is something else, too long or broken."""
    body = bytearray()
    try:
        for chunk in exchange:
            body += chunk
            if len(body) > MAX_ERROR_BYTES:
                return {}
        content = json.loads(body)
    except (UpstreamError, ValueError, RecursionError):
        return {}
    finally:
        exchange.close()
    return content if isinstance(content, dict) else {}
