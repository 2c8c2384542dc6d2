"""The guard: decides which targets this service visits, by address and not by spelling.

It stands before every capture, redirect, sub-resource and webhook. Whoever opens the connection
must dial one of the addresses that ``check`` returned: a second look-up may answer differently.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from thumbnailer.addresses import Address, Network, is_public, parse_address
from thumbnailer.bounded_calls import BoundedCalls
from thumbnailer.errors import InvalidTarget, TargetForbidden, TargetUnreachable
from thumbnailer.hostnames import is_public_name
from thumbnailer.lookup import Resolver, resolve_with_system
from thumbnailer.model import Deadline
from thumbnailer.target import DEFAULT_PORTS, Target, parse_authority, parse_target

#: What hangs in the system keeps its place.
LOOKUPS_AT_ONCE = 16

_NOT_PUBLIC = "The target is not a public web address."
_WRONG_PORT = "The target's port is none that this service visits."
_HAS_PORT = re.compile(r"(?:[^:]+|\[[^\]]*\]):[0-9]+")


@dataclass(frozen=True, slots=True)
class OpenAddresses:
    """Addresses that the operator opens, on one port, or on every port where ``port`` is None."""

    network: Network
    port: int | None = None

    def opens_port(self, port: int) -> bool:
        return self.port in (None, port)

    def opens(self, address: Address, port: int) -> bool:
        return self.opens_port(port) and address in self.network


@dataclass(frozen=True, slots=True)
class OpenName:
    """One host name and port that the operator opens, whatever the name resolves to."""

    host: str
    port: int


PrivateException = OpenAddresses | OpenName


def parse_private_exceptions(text: str) -> tuple[PrivateException, ...]:
    """Read ``ALLOWED_PRIVATE_TARGETS``: networks, addresses, ``host:port`` and ``[IPv6]:port``, by commas.

    A network or address opens all its ports, the other two forms exactly one.

    Raises:
        ValueError: an item is none of these; the message names it.
    """
    return tuple(_parse_exception(item.strip()) for item in text.split(",") if item.strip())


def _parse_exception(item: str) -> PrivateException:
    try:
        if _HAS_PORT.fullmatch(item) is None and "%" not in item:
            return OpenAddresses(ip_network(item))
        host, port = parse_authority(item, default_port=0)
    except (ValueError, InvalidTarget, TargetForbidden) as error:
        problem = "is neither a network (10.0.0.0/8), an address, host:port nor [IPv6]:port"
        raise ValueError(f"{item!r} {problem}") from error
    return OpenName(host, port) if parse_address(host) is None else OpenAddresses(ip_network(host), port)


class Guard:
    """Tells targets on the public web from all others; safe to use from many threads.

    ``ports`` are those that public hosts may be visited on; ``exceptions`` open private targets
    besides; ``lookup_seconds`` bounds one look-up.
    """

    def __init__(
        self,
        *,
        resolver: Resolver = resolve_with_system,
        ports: frozenset[int] = frozenset(DEFAULT_PORTS.values()),
        exceptions: Sequence[PrivateException] = (),
        lookup_seconds: float = 5.0,
    ) -> None:
        self._resolver = resolver
        self._lookups = BoundedCalls(LOOKUPS_AT_ONCE)
        self._ports = ports
        self._open_addresses = tuple(one for one in exceptions if isinstance(one, OpenAddresses))
        self._open_names = frozenset(one for one in exceptions if isinstance(one, OpenName))
        self._lookup_seconds = lookup_seconds

    def parse(self, url: str) -> Target:
        """Normalise ``url`` and judge it as far as that goes without a look-up.

        What passes here still needs ``check`` before anybody connects.

        Raises:
            InvalidTarget: it is too long, malformed or ambiguous.
            TargetForbidden: its scheme, port, address or name is not one that is visited.
        """
        target = parse_target(url)
        address = parse_address(target.host)
        if address is not None:
            allowed = self._allows(address, target.port)
        else:
            # A name may yet turn out to be one of the addresses that the operator opened.
            may_be_open = any(one.opens_port(target.port) for one in self._open_addresses)
            allowed = may_be_open or self._is_open_name(target) or self._is_ordinary(target)
        if not allowed:
            raise self._refusal(target)
        return target

    def check(self, target: Target, deadline: Deadline | None = None) -> tuple[str, ...]:
        """The addresses that may be dialled for ``target``, from one look-up; all of them are allowed.

        One forbidden answer among good ones forbids the target: a client that tries them in turn
        would come to it. Waits no longer than ``deadline`` and the guard's own limit.

        Raises:
            TargetForbidden: it is not on the public web.
            TargetUnreachable: its name has no address, or the look-up took too long.
        """
        literal = parse_address(target.host)
        if literal is not None:
            return self._only_allowed((target.host,), target)
        if self._is_open_name(target):
            return self._resolve(target, deadline)
        if self._is_ordinary(target):
            return self._only_allowed(self._resolve(target, deadline), target)
        return self._only_opened(target, deadline)

    def is_allowed_address(self, address: str, port: int) -> bool:
        """Whether a connection to ``address`` and ``port`` may be made, for a name or by itself.

        Knows no names: where an exception opens a name, ask ``check``.
        """
        parsed = parse_address(address)
        return parsed is not None and self._allows(parsed, port)

    def _allows(self, address: Address, port: int) -> bool:
        return self._is_open(address, port) or (port in self._ports and is_public(address))

    def _is_open(self, address: Address, port: int) -> bool:
        return any(one.opens(address, port) for one in self._open_addresses)

    def _is_open_name(self, target: Target) -> bool:
        return OpenName(target.host, target.port) in self._open_names

    def _is_ordinary(self, target: Target) -> bool:
        return target.port in self._ports and is_public_name(target.host)

    def _only_allowed(self, answers: tuple[str, ...], target: Target) -> tuple[str, ...]:
        if not all(self.is_allowed_address(answer, target.port) for answer in answers):
            raise self._refusal(target)
        return answers

    def _refusal(self, target: Target) -> TargetForbidden:
        """Says what is wrong as far as the URL itself shows it, whatever its name resolves to."""
        address = parse_address(target.host)
        looks_public = is_public_name(target.host) if address is None else is_public(address)
        return TargetForbidden(
            _WRONG_PORT if looks_public and target.port not in self._ports else _NOT_PUBLIC
        )

    def _only_opened(self, target: Target, deadline: Deadline | None) -> tuple[str, ...]:
        """Check a name or port that is only visited where the operator opened every answer.

        Fails alike whether the name exists or not, so that private names cannot be probed.
        """
        if not any(one.opens_port(target.port) for one in self._open_addresses):
            raise self._refusal(target)
        try:
            answers = self._resolve(target, deadline)
        except TargetUnreachable as error:
            raise self._refusal(target) from error
        parsed = [parse_address(answer) for answer in answers]
        if not all(address is not None and self._is_open(address, target.port) for address in parsed):
            raise self._refusal(target)
        return answers

    def _resolve(self, target: Target, deadline: Deadline | None) -> tuple[str, ...]:
        seconds = self._lookup_seconds
        if deadline is not None:
            seconds = min(seconds, deadline.remaining_seconds())
        try:
            answers = self._lookups.run(lambda: tuple(self._resolver(target.host, target.port)), seconds)
        except TimeoutError as error:
            raise TargetUnreachable("The target's host was not found in time.") from error
        except OSError as error:
            raise TargetUnreachable("The target's host does not exist.") from error
        if not answers:
            raise TargetUnreachable("The target's host does not exist.")
        return answers
