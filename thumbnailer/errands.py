"""Pictures that are made to their end, whether or not somebody still waits for them."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from thumbnailer.errors import Overloaded, ThumbnailerError, UpstreamFailed
from thumbnailer.failures import replica
from thumbnailer.terms import Delivery

log = structlog.get_logger(__name__)

#: How much longer somebody waits to hear that the picture is being made at all: whoever may have no
#: more captures learns so instead.
VERDICT_SECONDS = 0.25

Run = Callable[[Callable[[], None]], Delivery]


class Errand:
    """A picture on its way."""

    def __init__(self) -> None:
        self._is_decided = threading.Event()
        self._is_over = threading.Event()
        self._delivery: Delivery | None = None
        self._error: ThumbnailerError | None = None

    def wait(self, seconds: float) -> Delivery | None:
        """The picture, None where it is still being made after ``seconds`` and a moment.

        Raises:
            ThumbnailerError: it cannot be made; an error of the caller's own.
        """
        if not self._is_over.wait(seconds):
            self._is_decided.wait(VERDICT_SECONDS)
        if self._error is not None:
            raise replica(self._error)
        return self._delivery

    def begin(self) -> None:
        """The capture is paid for and will be taken."""
        self._is_decided.set()

    def end(self, delivery: Delivery | None, error: ThumbnailerError | None) -> None:
        self._delivery, self._error = delivery, error
        self._is_over.set()
        self._is_decided.set()


class Errands:
    """Runs errands in threads of its own, one for each key, which start with the first (so after any fork).

    At most ``places`` are under way at once; each of them may have to wait for its turn elsewhere.
    """

    def __init__(self, *, places: int) -> None:
        self._executor = ThreadPoolExecutor(places, thread_name_prefix="errand")
        self._places = places
        self._guard = threading.Lock()
        self._under_way: dict[str, Errand] = {}

    def join(self, key: str, run: Run) -> tuple[Errand, bool]:
        """The errand of ``key``, and whether it is the caller's own.

        ``run`` is called for a new one, in another thread, but in the caller's context; what it is given
        it should call once it is certain that the picture will be made.

        Raises:
            Overloaded: too many are under way.
        """
        with self._guard:
            errand = self._under_way.get(key)
            if errand is not None:
                return errand, False
            if len(self._under_way) >= self._places:
                raise _too_many()
            errand = self._under_way[key] = Errand()
        context = contextvars.copy_context()
        try:
            self._executor.submit(context.run, self._run, key, errand, run)
        except RuntimeError as error:  # closed meanwhile, or no thread to be had
            refusal = _too_many()
            self._end(key, errand, None, refusal)
            raise refusal from error
        return errand, True

    def close(self) -> None:
        """Drop what waits; what runs ends by itself."""
        self._executor.shutdown(wait=False, cancel_futures=True)

    def _run(self, key: str, errand: Errand, run: Run) -> None:
        if self._under_way.get(key) is not errand:
            return  # refused for want of a thread, and yet in the executor's queue
        try:
            delivery = run(errand.begin)
        except ThumbnailerError as error:
            self._end(key, errand, None, error)
        except Exception:
            log.exception("errand_broke")
            self._end(key, errand, None, UpstreamFailed("The picture could not be made."))
        else:
            self._end(key, errand, delivery, None)

    def _end(
        self, key: str, errand: Errand, delivery: Delivery | None, error: ThumbnailerError | None
    ) -> None:
        with self._guard:
            del self._under_way[key]  # before those who wait hear of it: they may want to try again
        errand.end(delivery, error)


def _too_many() -> Overloaded:
    return Overloaded("Too many pictures are being made already.")
