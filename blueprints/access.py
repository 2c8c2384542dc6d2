"""The gate: what each route needs of its caller, and whether this caller has it.

It stands before everything else that a request causes: who is refused here has caused no look-up of
a name, no capture and no note in the cache. docs/access.md has the table of all routes and callers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import flask

from blueprints.callers import Caller, remember_caller
from blueprints.request_log import elapsed_seconds
from thumbnailer.errors import (
    InvalidTarget,
    ScopeMissing,
    SignatureRequired,
    TargetForbidden,
    Unauthorized,
)
from thumbnailer.guard import Guard
from thumbnailer.host_patterns import HostPattern
from thumbnailer.hostnames import normalise_host
from thumbnailer.keyring import Keyring
from thumbnailer.keys import ApiKey, Scope
from thumbnailer.signing import UrlSigner, read_parameters

View = TypeVar("View", bound=Callable[..., Any])

CHALLENGE = 'Bearer realm="thumbnailer"'
BEARER = re.compile(r"bearer +([\x21-\x7e]+) *", re.IGNORECASE | re.ASCII)

#: Routes that other packages make: the OpenAPI document, and the files of the pages.
OPEN_ENDPOINTS = frozenset({"api-docs.openapi_json", "static", "swagger_ui_file"})

#: All that an unsigned URL may say where only chosen presets are public.
PUBLIC_PARAMETERS = frozenset({"url", "preset", "on_error"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a route needs of its caller, unless the service is open to everyone.

    A key with ``scope``, or any key where that is None. ``takes_signature``: a signed URL will do as
    well. ``may_be_public``: for some targets or presets nothing is needed. ``is_open``: never anything.
    ``key_parameter`` is the parameter of the query that a vendor's clients give the key in.
    """

    scope: Scope | None = None
    takes_signature: bool = False
    may_be_public: bool = False
    is_open: bool = False
    key_parameter: str | None = None


OPEN = Need(is_open=True)
ANY_KEY = Need()
RENDER = Need(scope=Scope.RENDER)
SIGNABLE = Need(scope=Scope.RENDER, takes_signature=True)
#: The same, and any key, where SnapAPI's clients may give it in the URL.
ACCESS_KEY = "access_key"
RENDER_BY_ACCESS_KEY = Need(scope=Scope.RENDER, key_parameter=ACCESS_KEY)
ANY_ACCESS_KEY = Need(key_parameter=ACCESS_KEY)
EMBEDDABLE = Need(scope=Scope.RENDER, takes_signature=True, may_be_public=True)
PERSIST = Need(scope=Scope.PERSIST)
PURGE = Need(scope=Scope.PURGE)
ADMIN = Need(scope=Scope.ADMIN)


#: How the OpenAPI document calls the ways of saying who one is.
SECURITY_SCHEMES: Mapping[str, Mapping[str, str]] = {
    "apiKey": {
        "type": "apiKey",
        "in": "header",
        "name": "X-API-Key",
        "description": "A key that the operator has made: tn_… An open service needs none.",
    },
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The same key as Authorization: Bearer tn_…",
    },
    "accessKey": {
        "type": "apiKey",
        "in": "query",
        "name": "access_key",
        "description": "As SnapAPI takes it; a header keeps the key out of URLs.",
    },
    "signature": {
        "type": "apiKey",
        "in": "query",
        "name": "sig",
        "description": "HMAC-SHA256 over the path and all other parameters; POST /sign makes such URLs.",
    },
}


def needs(need: Need) -> Callable[[View], View]:
    """Declare what a view needs; stands directly below its route."""

    def declare(view: View) -> View:
        # flask-smorest's own decorator for this would wrap the view, and copy all that is documented of it.
        documented = view.__dict__.setdefault("_apidoc", {})
        documented.setdefault("manual_doc", {})["security"] = _documented(need)
        view.__dict__["need"] = need
        return view

    return declare


def _documented(need: Need) -> list[dict[str, list[str]]]:
    """OpenAPI's security requirement: one of these, or nothing where that may do."""
    if need.is_open:
        return []
    keys: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}]
    parameter: list[dict[str, list[str]]] = [{"accessKey": []}] if need.key_parameter else []
    signature: list[dict[str, list[str]]] = [{"signature": []}] if need.takes_signature else []
    return [*keys, *parameter, *signature, {}]


@dataclass(frozen=True, slots=True)
class PublicThumbs:
    """Which unsigned thumbnails anybody may have: each of the two counts where it is not empty."""

    targets: tuple[HostPattern, ...] = ()
    presets: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.targets or self.presets)

    def admit(self, guard: Guard) -> bool:
        """Whether the current request asks for such a one."""
        given = flask.request.args
        if not self or any(len(values) > 1 for values in given.listvalues()):
            return False
        is_chosen = given.get("preset") in self.presets and given.keys() <= PUBLIC_PARAMETERS
        if self.presets and not is_chosen:
            return False
        try:
            host = guard.parse(given.get("url", "")).host
        except (InvalidTarget, TargetForbidden):
            return False
        return not self.targets or any(pattern.matches(host) for pattern in self.targets)


class Gate:
    """Finds the caller of each request and refuses who may not have what they ask for.

    ``may_be_open`` says that nothing is needed as long as nothing is configured; production has to be
    told. ``address`` tells the address of the current request, ``clock`` Unix time in seconds.
    """

    def __init__(
        self,
        *,
        keyring: Keyring,
        signer: UrlSigner | None,
        public: PublicThumbs,
        guard: Guard,
        may_be_open: bool,
        address: Callable[[], str],
        clock: Callable[[], float],
    ) -> None:
        self._keyring = keyring
        self._signer = signer
        self._public = public
        self._guard = guard
        self._may_be_open = may_be_open
        self._address = address
        self._clock = clock

    @property
    def public_presets(self) -> frozenset[str]:
        """Presets that anybody may use."""
        return self._public.presets

    def is_configured(self) -> bool:
        """Whether anybody has said who may do what. Raises ``DatabaseUnavailable`` where none can tell."""
        return self._signer is not None or bool(self._public) or not self._keyring.is_empty()

    def is_open(self) -> bool:
        """Whether anybody may do anything. Raises ``DatabaseUnavailable`` where nobody can tell."""
        return self._may_be_open and not self.is_configured()

    def identify(self, need: Need) -> Caller:
        """The caller of the current request.

        Raises:
            Unauthorized: a key is needed and there is none, or the one given does not count.
            ScopeMissing: the key is for something else.
            SignatureRequired, SignatureInvalid, SignatureExpired: no key, and no good signature.
            DatabaseUnavailable: nobody can say which keys there are.
        """
        address = self._address()
        if need.is_open:
            return Caller(address=address)
        if self.is_open():
            return Caller(address=address, is_free=True)
        token = _given_token(need)
        if token is not None:
            key = self._key(token)
            remember_caller(Caller(address=address, key=key))  # what is refused is counted on their account
            _demand(key, need)
            return Caller(address=address, key=key)
        if need.takes_signature and self._signer is not None and "sig" in flask.request.args:
            parameters = read_parameters(flask.request.query_string)
            came_at = self._clock() - elapsed_seconds()  # it may have been held since then
            signed = self._signer.verify(flask.request.path, parameters, came_at)
            return Caller(address=address, signed=signed)
        if need.may_be_public and self._public.admit(self._guard):
            return Caller(address=address)
        if need.takes_signature and self._signer is not None:
            raise SignatureRequired
        raise Unauthorized("This needs an API key: send X-API-Key.", challenge=CHALLENGE)

    def _key(self, token: str) -> ApiKey:
        key = self._keyring.find(token, self._clock())
        if key is None:
            raise Unauthorized(
                "This API key is unknown, revoked or expired.",
                challenge=f'{CHALLENGE}, error="invalid_token"',
            )
        return key


def _demand(key: ApiKey, need: Need) -> None:
    """Raise ``ScopeMissing`` where a key is for something else, or for other pages."""
    if not key.terms.allow_referrer(_referring_host()):
        raise ScopeMissing("This key is not for requests from that page.")
    if need.scope is not None and not key.terms.allow(need.scope):
        raise ScopeMissing(f"This needs a key with the scope {need.scope.value}.")


def register_gate(app: flask.Flask, gate: Gate) -> None:
    """Put ``gate`` before every route of ``app``; all of them have to be registered by now."""
    needed = {rule.endpoint: _need_of(app, rule.endpoint) for rule in app.url_map.iter_rules()}

    def identify_caller() -> None:
        # Without a route there is nothing to guard: Flask answers 404 or 405.
        need = needed.get(flask.request.endpoint or "", OPEN)
        remember_caller(gate.identify(need))

    app.before_request(identify_caller)


def _need_of(app: flask.Flask, endpoint: str) -> Need:
    if endpoint in OPEN_ENDPOINTS:
        return OPEN
    need = getattr(app.view_functions[endpoint], "need", None)
    if not isinstance(need, Need):
        raise TypeError(f"{endpoint} does not say what it needs: put @needs(…) directly below its route")
    return need


def _given_token(need: Need) -> str | None:
    """The one key that a request gives, however often it does.

    Raises ``Unauthorized`` where it gives two.
    """
    request = flask.request
    given = set(request.headers.getlist("X-API-Key"))
    bearers = [BEARER.fullmatch(credentials) for credentials in request.headers.getlist("Authorization")]
    given.update(match[1] for match in bearers if match)  # a proxy in front may have its own scheme
    if need.key_parameter is not None:
        given.update(request.args.getlist(need.key_parameter))
    if len(given) > 1:
        raise Unauthorized("Two different keys are given.", challenge=f'{CHALLENGE}, error="invalid_request"')
    return given.pop().strip() if given else None


def _referring_host() -> str | None:
    """The host of the page that a request comes from, as browsers tell it; None where they do not."""
    page = flask.request.headers.get("Origin") or flask.request.headers.get("Referer")
    try:
        host = urlsplit(page or "").hostname
        return normalise_host(host) if host else None
    except ValueError:
        return None
