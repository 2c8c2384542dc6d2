"""One capture per key, however many ask: over threads, processes and machines.

Within a process the first to ask leads and the others sleep on a future. The leaders of the
processes queue for one lock; who gets it looks first whether another has made the capture, or
has failed at it, while they waited.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial

from thumbnailer.cooldown import CoolDown
from thumbnailer.errors import ThumbnailerError, UpstreamFailed, UpstreamTimeout
from thumbnailer.failures import FailureBoard, replica
from thumbnailer.locks import Locks
from thumbnailer.model import Capture, Deadline

#: How long after its deadline a leader is still counted on: its failure is on its way.
OVERDUE_SECONDS = 1.0

#: Of a crowd that asks at once, not all have their turn before the failure: threads are fewer than
#: callers. Who comes so soon after a failure that others waited for was one of them.
STRAGGLER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Landing:
    """What a flight brought, and whether the cache has it."""

    capture: Capture
    is_kept: bool


#: What a flight ends with. None: no verdict, those who waited compete for the lead again.
Outcome = Landing | BaseException | None


def is_alone() -> bool:
    """Nobody follows who has not come here."""
    return False


@dataclass(frozen=True, slots=True, eq=False)
class _Seat:
    """The leader of a key in this process: what becomes of it, and until when to count on it.

    ``company`` is set once somebody waits for the leader here, ``is_followed`` says whether somebody does
    elsewhere in this process.
    """

    trusted: Deadline
    is_followed: Callable[[], bool] = is_alone
    outcome: Future[Outcome] = field(default_factory=Future)
    company: threading.Event = field(default_factory=threading.Event)

    def has_company(self) -> bool:
        return self.company.is_set() or self.is_followed()


class Flight:
    """The right and the duty to take one capture: land, crash or abandon it, from any thread.

    Only the first of these calls counts, later ones do nothing. Put the capture into the cache
    before landing: the leaders of other processes look there as soon as the lock is free.
    """

    def __init__(
        self, key: str, board: FailureBoard, release: Callable[[Outcome], None], seat: _Seat
    ) -> None:
        self._key = key
        self._board = board
        self._release = release
        self._seat = seat
        self._ended = threading.Lock()

    def land(self, capture: Capture, *, is_kept: bool = True) -> None:
        """The capture is made, and in the cache if it ``is_kept``; all who wait in this process get it."""
        self._end(Landing(capture, is_kept))

    def crash(self, error: BaseException) -> None:
        """The capture failed; all who wait hear of it once.

        An error with ``shared`` False is the caller's own affair: the others try again. Of an
        error outside of the tree they learn only that the capture failed.
        """
        if not isinstance(error, ThumbnailerError):
            self._end(error)
        elif error.shared:
            self._end(error, pin=True)
        else:
            self.abandon()

    def retell(self, error: ThumbnailerError) -> None:
        """Tell this process of a failure that another has noted already."""
        self._end(error)

    def abandon(self) -> None:
        """No verdict: those who wait compete for the lead again."""
        self._end(None)

    def _end(self, outcome: Outcome, *, pin: bool = False) -> None:
        if not self._ended.acquire(blocking=False):
            return
        try:
            if pin and isinstance(outcome, ThumbnailerError):
                # While the lock is held, or the next would try again.
                echo_seconds = STRAGGLER_SECONDS if self._seat.has_company() else 0.0
                self._board.pin(self._key, outcome, echo_seconds=echo_seconds)
            self._release(outcome)
        finally:
            self._seat.outcome.set_result(outcome)


class Flights:
    """Hands out one ``Flight`` per key at a time. Safe to use from many threads.

    A thread that already has the flight of a key must not join it again: it would wait for itself.
    """

    def __init__(self, locks: Locks, board: FailureBoard) -> None:
        self._locks = locks
        self._board = board
        self._guard = threading.Lock()
        self._seats: dict[str, _Seat] = {}
        self._complaints = CoolDown("Locking", seconds=60)

    def join(
        self,
        key: str,
        look_up: Callable[[], Capture | None],
        deadline: Deadline,
        *,
        is_followed: Callable[[], bool] = is_alone,
    ) -> Landing | Flight:
        """The capture of ``key`` that another makes; or a Flight, for the caller to make it.

        ``look_up`` asks the cache. The flight should end by ``deadline``; soon after it, others no
        longer count on it. ``is_followed`` says whether there are some who wait for the caller and have not
        come here.

        Raises:
            UpstreamTimeout: the deadline passed while waiting.
            ThumbnailerError: the capture failed while waiting; equal to what its taker got.
        """
        while True:
            seat, leads = self._take_seat(key, deadline, is_followed)
            if leads:
                return self._lead(key, seat, look_up, deadline)
            outcome = _wait(seat, deadline)
            if isinstance(outcome, Landing):
                return outcome
            if outcome is not None:
                raise _retold(outcome)

    def _take_seat(self, key: str, deadline: Deadline, is_followed: Callable[[], bool]) -> tuple[_Seat, bool]:
        """The leader's seat, and whether it is now the caller's.

        A leader that is long overdue is lost, such as an answer that was never closed; unless
        somebody took over from it, its key would be dead in this process.
        """
        with self._guard:
            seat = self._seats.get(key)
            if seat is not None and not seat.trusted.has_passed():
                seat.company.set()
                return seat, False
            seat = self._seats[key] = _Seat(Deadline(deadline.at + OVERDUE_SECONDS), is_followed)
            return seat, True

    def _release(self, key: str, seat: _Seat, held: ExitStack, outcome: Outcome) -> None:
        """Give the lock back, then the seat; a note lies on it where stragglers will come."""
        try:
            held.close()
        finally:
            with self._guard:
                if self._seats.get(key) is seat:
                    del self._seats[key]
                    self._clear_seats()
                    if outcome is not None and _has_stragglers(seat, outcome):
                        self._seats[key] = _echo(outcome)

    def _clear_seats(self) -> None:
        """Forget the seats that nobody counts on any more."""
        for key in [key for key, seat in self._seats.items() if seat.trusted.has_passed()]:
            del self._seats[key]

    def _lead(
        self, key: str, seat: _Seat, look_up: Callable[[], Capture | None], deadline: Deadline
    ) -> Landing | Flight:
        held = ExitStack()
        flight = Flight(key, self._board, partial(self._release, key, seat, held), seat)
        try:
            before = self._board.read(key)
            self._lock(held, key, deadline)
            found = look_up()
            noted = None if found else self._board.read(key)
        except UpstreamTimeout:
            flight.abandon()  # late itself; others may have more time
            raise
        except BaseException as error:
            flight.crash(error)
            raise
        if found:
            flight.land(found)
            return Landing(found, is_kept=True)
        if noted and (before is None or noted.id != before.id or noted.echoes):
            # Not pinned anew: with requests always coming in, an old failure would live for ever.
            flight.retell(noted.error)
            raise replica(noted.error)
        return flight

    def _lock(self, held: ExitStack, key: str, deadline: Deadline) -> None:
        try:
            held.enter_context(self._locks.hold(key, deadline))
        except TimeoutError as error:
            raise _late() from error
        except OSError as error:
            # Two processes taking the same capture is better than none taking it.
            self._complaints.complain(error)


def _wait(seat: _Seat, deadline: Deadline) -> Outcome:
    """What became of the leader; None as well when it is overdue."""
    try:
        return seat.outcome.result(min(deadline.remaining_seconds(), seat.trusted.remaining_seconds()))
    except TimeoutError:
        if deadline.has_passed():
            raise _late() from None
        return None


def _retold(failure: BaseException) -> ThumbnailerError:
    """What others hear of a failure, without its traceback, whose frames may hold much."""
    return (
        replica(failure) if isinstance(failure, ThumbnailerError) else UpstreamFailed("The capture failed.")
    )


def _has_stragglers(seat: _Seat, outcome: Landing | BaseException) -> bool:
    """Whether some will still come who asked at once, and would find neither the capture nor the failure."""
    if isinstance(outcome, Landing):
        return not outcome.is_kept and seat.is_followed()
    return seat.has_company()


def _echo(outcome: Landing | BaseException) -> _Seat:
    """A seat that tells stragglers how it went."""
    seat = _Seat(Deadline.after(STRAGGLER_SECONDS))
    seat.outcome.set_result(outcome if isinstance(outcome, Landing) else _retold(outcome))
    return seat


def _late() -> UpstreamTimeout:
    return UpstreamTimeout("The capture was not finished in time.")
