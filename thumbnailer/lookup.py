"""Looking up host names, never for longer than somebody waits."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from thumbnailer.errors import Overloaded

RETRY_AFTER_SECONDS = 5.0


class Resolver(Protocol):
    """Finds the addresses of a name."""

    def __call__(self, host: str, port: int) -> Sequence[str]:
        """The addresses of ``host``, an ASCII name; raises OSError where it has none."""


def resolve_with_system(host: str, port: int) -> tuple[str, ...]:
    """Ask the operating system once; returns the addresses in its order of preference.

    Raises:
        OSError: the name has no address, or no name server answered.
    """
    # As bytes, or the codec of IDNA 2003 would look at the name again.
    answers = socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))


class BoundedLookup:
    """Runs a resolver that knows no timeout of its own, in at most ``places`` threads at a time.

    A look-up that nobody waits for any more goes on in its daemon thread and keeps its place until
    the resolver gives up, so that a dead name server cannot pile up threads. Threads are started
    one by one, none before the first look-up, which keeps this safe to create before a fork.
    """

    def __init__(self, resolver: Resolver, *, places: int = 16) -> None:
        self._resolver = resolver
        self._places = threading.BoundedSemaphore(places)

    def __call__(self, host: str, port: int, seconds: float) -> tuple[str, ...]:
        """The addresses of ``host``, after at most ``seconds``.

        Raises:
            Overloaded: no place became free; that is nothing the host can help.
            TimeoutError: no answer came in time.
            OSError: the name has no address.
        """
        give_up_at = time.monotonic() + seconds
        if not self._places.acquire(timeout=seconds):
            raise Overloaded("Too many names are being looked up.", retry_after_seconds=RETRY_AFTER_SECONDS)
        answer: Future[tuple[str, ...]] = Future()
        try:
            threading.Thread(target=self._answer, args=(answer, host, port), daemon=True).start()
        except RuntimeError as error:
            self._places.release()
            message = "No name can be looked up at present."
            raise Overloaded(message, retry_after_seconds=RETRY_AFTER_SECONDS) from error
        return answer.result(timeout=max(0.0, give_up_at - time.monotonic()))

    def _answer(self, answer: Future[tuple[str, ...]], host: str, port: int) -> None:
        try:
            answer.set_result(tuple(self._resolver(host, port)))
        except BaseException as error:  # noqa: BLE001  # whatever it is, it belongs to the one who waits
            answer.set_exception(error)
        finally:
            self._places.release()
