"""``Idempotency-Key``: who sends a request again, not knowing what came of it, gets the first answer.

The header is that of draft-ietf-httpapi-idempotency-key-header. Only finished successes are kept:
after an error the same key may be tried again at once.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass

import flask
import structlog
from flask import Response

from blueprints.request_log import request_deadline
from thumbnailer.backend import UNREADABLE, ResilientBackend
from thumbnailer.errors import IdempotencyConflict, IdempotencyMismatch, InvalidParameters
from thumbnailer.jobs.order_keys import OrderKey
from thumbnailer.locks import Locks
from thumbnailer.model import Deadline

HEADER = "Idempotency-Key"
KEY_PATTERN = r"^[ -~]{1,255}$"
KEPT_SECONDS = 86_400

#: How long a claim may take, and how long a request may outlast its deadline (while a storage answers
#: slowly) before its claim counts as that of a killed process.
CLAIM_SECONDS = 2.0
GRACE_SECONDS = 60

#: What of an answer comes again; everything else belongs to one request alone.
KEPT_HEADERS = ("Content-Type", "Cache-Control", "Location", "Retry-After")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What the first request with a key was answered."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is noted under a key: the request's body as a digest, and its answer once there is one."""

    body_digest: str
    answer: FirstAnswer | None

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def decode(cls, content: bytes) -> _Entry:
        """Raises ValueError, KeyError or TypeError for anything that ``encode`` has not written."""
        noted = json.loads(content)
        answer = FirstAnswer(**noted["answer"]) if noted["answer"] else None
        return cls(str(noted["body_digest"]), answer)


class Ledger:
    """Remembers for a day which keys were used; all that share the cache share it.

    ``caller`` names the caller of the current request, whose keys are nobody else's, and
    ``charge_replay`` takes an answer from the ledger off their allowance. While the cache is out of
    reach every request is done, as if it had no key.
    """

    def __init__(
        self,
        backend: ResilientBackend,
        locks: Locks,
        *,
        caller: Callable[[], str],
        charge_replay: Callable[[], None],
        deadline_seconds: float,
    ) -> None:
        self._backend = backend
        self._locks = locks
        self._caller = caller
        self._charge_replay = charge_replay
        self._deadline_seconds = deadline_seconds
        self._claimed_seconds = int(deadline_seconds) + GRACE_SECONDS

    def once(
        self, make: Callable[[], Response], *, kept_seconds: int = KEPT_SECONDS, is_order: bool = False
    ) -> Response:
        """What ``make`` answers, or what it answered when the current request came the first time.

        An answer is kept for ``kept_seconds``, a day unless it is good for less. What ``is_order``, and is
        accepted with its ``order_key``, may be made again while no answer is known: it comes to the same.

        Raises:
            InvalidParameters: the key is no key.
            IdempotencyMismatch: it came with another body before.
            IdempotencyConflict: the first request is still being answered.
        """
        key = sent_key()
        if key is None:
            return make()
        name, body_digest = self._name(key), _body_digest()
        first = self._claim(name, body_digest, is_order=is_order)
        if first is not None:
            self._charge_replay()
            return _replayed(first)
        try:
            response = make()
        except BaseException:
            self._backend.delete(name)
            raise
        self._note(name, _Entry(body_digest, _kept(response)), kept_seconds)
        return response

    def order_key(self) -> OrderKey | None:
        """How the current request calls what it orders. Raises InvalidParameters where it does so wrongly."""
        key = sent_key()
        return None if key is None else OrderKey(self._digest(key), _body_digest())

    def _name(self, key: str) -> str:
        return f"idempotency:{self._digest(key)}"

    def _digest(self, key: str) -> str:
        # The host, because an answer may hold URLs of it: nobody gets those of a host that another named.
        request = flask.request
        identity = "\n".join((self._caller(), request.host_url, request.method, request.path, key))
        return hashlib.sha256(identity.encode()).hexdigest()

    def _claim(self, name: str, body_digest: str, *, is_order: bool) -> FirstAnswer | None:
        """The first answer; None where the current request is now the first."""
        with ExitStack() as held:
            try:
                held.enter_context(self._locks.hold(name, self._claim_deadline()))
            except TimeoutError:
                raise _conflict() from None
            except OSError as error:
                log.warning("idempotency_unlocked", error=type(error).__name__)
            entry = self._read(name)
            if entry is None:
                self._note(name, _Entry(body_digest, None), self._claimed_seconds)
                return None
        if entry.body_digest != body_digest:
            raise IdempotencyMismatch("This Idempotency-Key came with another body before. Use a new one.")
        if entry.answer is None and not is_order:
            raise _conflict()
        return entry.answer

    def _claim_deadline(self) -> Deadline:
        return Deadline(min(Deadline.after(CLAIM_SECONDS).at, request_deadline(self._deadline_seconds).at))

    def _read(self, name: str) -> _Entry | None:
        content = self._backend.get(name)
        try:
            return _Entry.decode(content) if content is not None else None
        except UNREADABLE:
            return None

    def _note(self, name: str, entry: _Entry, seconds: int) -> None:
        if not self._backend.set(name, entry.encode(), timeout_seconds=seconds):
            log.warning("idempotency_unavailable", detail="The cache takes no notes: nothing is remembered.")


def sent_key() -> str | None:
    """The key of the current request, if it has one. Raises InvalidParameters where it is no key."""
    key = flask.request.headers.get(HEADER)
    if key is not None and not re.fullmatch(KEY_PATTERN, key):
        raise InvalidParameters({HEADER: ["Must be 1 to 255 printable ASCII characters."]})
    return key


def _body_digest() -> str:
    return hashlib.sha256(flask.request.get_data()).hexdigest()


def _conflict() -> IdempotencyConflict:
    message = "A request with this Idempotency-Key is being answered at this moment."
    return IdempotencyConflict(message, retry_after_seconds=1)


def _kept(response: Response) -> FirstAnswer:
    headers = {name: response.headers[name] for name in KEPT_HEADERS if name in response.headers}
    return FirstAnswer(response.status_code, headers, response.get_data(as_text=True))


def _replayed(first: FirstAnswer) -> Response:
    response = Response(first.body, status=first.status, headers=first.headers)
    response.headers["Idempotency-Replayed"] = "true"
    return response
