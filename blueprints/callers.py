"""Who asks: found once for each request, and known to every door."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, cast

import flask
from werkzeug.exceptions import NotFound

from thumbnailer.accounts import account_of_key
from thumbnailer.addresses import Address, Network
from thumbnailer.errors import ScopeMissing, TargetForbidden
from thumbnailer.keys import ApiKey, Scope
from thumbnailer.signing import Signed
from thumbnailer.usage import ANONYMOUS, SIGNED

#: Every IPv6 site has at least so many addresses to itself (RFC 6177): counted one by one, they would
#: give each caller as many allowances as they like.
IPV6_SITE_BITS = 64

#: In the WSGI environment, which the threads of one request share; Flask's ``g`` they do not.
ENVIRON_NAME = "thumbnailer.caller"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Somebody with a ``key``, somebody with a signed URL, or anybody.

    ``address`` is theirs in one spelling, of IPv6 the network. ``is_free`` says that the service is
    open, so that anybody may do anything.
    """

    address: str
    key: ApiKey | None = None
    signed: Signed | None = None
    is_free: bool = False

    @property
    def identity(self) -> str:
        """Whose allowance and idempotency keys these are: the key's, else the address's."""
        return account_of_key(self.key.id) if self.key else self.address

    @property
    def owner(self) -> str:
        """Whose jobs, pages and messages these are: the key's, else of whoever knows their ids."""
        return account_of_key(self.key.id) if self.key else ""

    @property
    def account(self) -> str:
        """Where what they have is counted: the key's account, or one of those who have none."""
        if self.key is not None:
            return account_of_key(self.key.id)
        return ANONYMOUS if self.signed is None else SIGNED

    @property
    def is_known(self) -> bool:
        """Whether somebody with a key vouches for what is asked, or nobody needs to."""
        return self.is_free or self.key is not None or self.signed is not None

    def may(self, scope: Scope) -> bool:
        return self.is_free or (self.key is not None and self.key.terms.allow(scope))

    def demand(self, scope: Scope, purpose: str) -> None:
        """Raise ``ScopeMissing`` unless the caller has ``scope``; ``purpose`` says what needs it."""
        if not self.may(scope):
            raise ScopeMissing(f"{purpose} needs a key with the scope {scope.value}.")

    def demand_target(self, host: str) -> None:
        """Raise ``TargetForbidden`` where the caller's key is for other hosts only."""
        if self.key is not None and not self.key.terms.allow_target(host):
            raise TargetForbidden("This key is not for targets of that host.")


def caller() -> Caller:
    """The caller of the current request, as the gate has found them."""
    return cast(Caller, flask.request.environ[ENVIRON_NAME])


class Owned(Protocol):
    """What belongs to a caller."""

    @property
    def owner(self) -> str: ...


Thing = TypeVar("Thing", bound=Owned)


def own(found: Thing | None) -> Thing:
    """What was found, where it is the current caller's.

    Raises NotFound for others' as well: nobody learns that they exist.
    """
    if found is None or found.owner != caller().owner:
        raise NotFound
    return found


def caller_so_far() -> Caller | None:
    """The same while the gate may not have let them in: of those without a key it knows nobody then."""
    return cast(Caller | None, flask.request.environ.get(ENVIRON_NAME))


def remember_caller(found: Caller) -> None:
    flask.request.environ[ENVIRON_NAME] = found


def caller_address(trusted_proxies: Sequence[Network]) -> str:
    """The address a request really comes from, in one spelling; of IPv6 the network.

    ``X-Forwarded-For`` is read from its end, and only as far as every hop is one of
    ``trusted_proxies``: what stands before that is anybody's claim.
    """
    peer = flask.request.remote_addr or ""
    return address_of(peer, flask.request.headers.get("X-Forwarded-For", ""), trusted_proxies)


def address_of(peer: str, forwarded_for: str, trusted_proxies: Sequence[Network]) -> str:
    """As ``caller_address``, for a request from ``peer`` with that ``X-Forwarded-For``."""
    address, hops = _parsed(peer), forwarded_for.split(",")
    while address and hops and any(address in network for network in trusted_proxies):
        claimed = _parsed(hops.pop().strip())
        if claimed is None:
            break
        address = claimed
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((address, IPV6_SITE_BITS), strict=False))
    return str(address) if address else "unknown"


def comes_from(networks: Sequence[Network]) -> bool:
    """Whether the peer of the current request's connection is in one of these."""
    peer = _parsed(flask.request.remote_addr or "")
    return peer is not None and any(peer in network for network in networks)


def _parsed(text: str) -> Address | None:
    """An address; an IPv4 one that IPv6 carries (RFC 4291, section 2.5.5.2) as what it is."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address
