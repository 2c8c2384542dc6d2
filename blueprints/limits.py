"""How much one caller may have: captures are counted, answers from the cache only loosely."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import flask
from flask import Response, g
from flask_limiter import Limiter, RateLimitExceeded, RequestLimit
from limits import parse_many
from limits.errors import StorageError

from blueprints.callers import caller, caller_so_far
from blueprints.credits import Credits
from thumbnailer.errors import CallerLimited, InvalidParameters
from thumbnailer.quotas import Quota, quota_headers

#: In the WSGI environment, which the threads of one request share: what is left of what was charged.
ENVIRON_NAME = "thumbnailer.quotas"


#: What each limit counts, by its name.
COUNTED = {
    "thumb": "captures by /thumb",
    "screenshot": "captures by /screenshot and its like",
    "persist": "captures by /persist",
    "jobs": "jobs and pages",
    "answers": "answers",
    "purge": "purges",
}


@dataclass(frozen=True, slots=True)
class LimitTexts:
    """Limits as Flask-Limiter writes them, e.g. ``30 per minute``, one for each kind of answer.

    These are the usual ones; a caller's key may have others.
    """

    thumb: str
    screenshot: str
    persist: str
    jobs: str
    cached: str
    purge: str


class Allowance:
    """Charges callers for what they get; all routes of a kind share one allowance.

    ``thumb``, ``screenshot`` and ``persist`` are called when a capture is taken on a caller's
    account, ``jobs`` for the jobs that are accepted, ``answer`` for every answer, ``purge`` for every
    purge. Each raises ``CallerLimited``. Answers are counted in batches that each process takes for itself.
    ``answers`` counts answers and ``limiter`` everything else;
    ``charge_capture`` takes a capture from an account's budget and tells what is left of it.
    """

    def __init__(
        self,
        limiter: Limiter,
        answers: Limiter,
        texts: LimitTexts,
        charge_capture: Callable[[str], Sequence[Quota]],
    ) -> None:
        self._charge_capture = charge_capture
        self.thumb = partial(self._take_capture, _Limit(limiter, "thumb", texts.thumb))
        self.screenshot = partial(self._take_capture, _Limit(limiter, "screenshot", texts.screenshot))
        self.persist = partial(self._take_capture, _Limit(limiter, "persist", texts.persist))
        self._jobs = _Limit(limiter, "jobs", texts.jobs, cost=_size_of_order)
        self.purge = partial(_take, _Limit(limiter, "purge", texts.purge))
        self._answers = _Limit(answers, "cached", texts.cached, name="answers", cost=_size_of_batch)
        self._usual_answers = texts.cached
        self._credits: dict[str, Credits] = {}

    def jobs(self, count: int = 1) -> None:
        """Charge the current caller for so many jobs, by one look at the counter.

        Raises InvalidParameters where they are more at once than the caller may ever have, CallerLimited.
        """
        most = min(window.amount for window in parse_many(self._jobs.text()))
        if count > max(1, most) and self._jobs.is_enabled:
            raise InvalidParameters({"urls": [f"More than {most} at once are beyond your limit of jobs."]})
        g.jobs_ordered = count
        _take(self._jobs)

    def answer(self) -> None:
        """Charge the current caller for one answer; raises ``CallerLimited``."""
        identity, limit = caller().identity, self._answers.text()
        if self._spend(identity, limit):
            return
        held = self._credits_of(limit)
        g.answers_batch = batch = held.next_batch(identity)
        self._answers.charge()
        held.grant(identity, batch, self._answers.remaining())

    def spend_answer(self, identity: str) -> bool:
        """Charge a caller without a key for one answer; False where ``answer`` has to ask the counter."""
        return self._spend(identity, self._usual_answers)

    def _spend(self, identity: str, limit: str) -> bool:
        return not self._answers.is_enabled or self._credits_of(limit).spend(identity)

    def _credits_of(self, limit: str) -> Credits:
        """The batches of all callers with this limit: as many kinds of them as there are plans, about."""
        if limit not in self._credits:
            windows = parse_many(limit)
            amount = min(window.amount for window in windows)
            self._credits[limit] = Credits(amount, min(window.get_expiry() for window in windows))
        return self._credits[limit]

    def _take_capture(self, limit: _Limit) -> None:
        """Charge the limit, then the budget of the day: who asks too fast spends nothing of that."""
        limit.charge()
        left = limit.left()
        _tell((*left, *self._charge_capture(caller().account)))


class _Limit:
    """The limit of one kind of answer, for each caller; ``name`` is what answers call it."""

    def __init__(
        self,
        limiter: Limiter,
        kind: str,
        usual: str,
        *,
        name: str | None = None,
        cost: Callable[[], int] | int = 1,
    ) -> None:
        self._limiter = limiter
        self._name = name or kind

        self._kind = kind
        self._usual = usual

        def charge() -> None:
            """Flask-Limiter counts the calls of this function."""

        charge.__qualname__ = f"charge_{self._name}"  # Flask-Limiter tells limited functions apart by it
        self._count: Callable[[], None] = limiter.shared_limit(self.text, scope=self._name, cost=cost)(charge)

    @property
    def is_enabled(self) -> bool:
        return bool(self._limiter.enabled)

    def text(self) -> str:
        """The current caller's limit; Flask-Limiter asks before the gate, too, and counts nothing then."""
        found = caller_so_far()
        return found.key.terms.limits.get(self._kind, self._usual) if found and found.key else self._usual

    def charge(self) -> None:
        """Raises ``CallerLimited``."""
        try:
            self._count_again_in_memory()
        except RateLimitExceeded:
            raise self._limited() from None

    def left(self) -> tuple[Quota, ...]:
        """What was charged just now, and what is left of it; nothing where the store does not tell."""
        try:
            return tuple(map(self._quota, self._limiter.current_limits))
        except StorageError:
            return ()

    def remaining(self) -> int:
        """What is left of the narrowest window, as far as the store can tell."""
        return min((quota.remaining for quota in self.left()), default=0)

    def _count_again_in_memory(self) -> None:
        """Count, be it in memory.

        When its store dies, Flask-Limiter counts in memory for the first request that meets the error
        and raises it to all others that meet it at the same time.
        """
        try:
            self._count()
        except StorageError:
            self._count()

    def _limited(self) -> CallerLimited:
        reached = self._limiter.current_limit
        assert reached is not None, "Flask-Limiter has just said so"
        quota = self._quota(reached)
        return CallerLimited(
            f"No more than {quota.amount} {COUNTED[self._name]} in {quota.window_seconds} seconds. "
            f"Try again in {quota.reset_seconds} seconds.",
            retry_after_seconds=quota.reset_seconds,
            headers=quota_headers([quota]),
        )

    def _quota(self, counted: RequestLimit) -> Quota:
        window_seconds = counted.limit.get_expiry()
        is_alone = len(self._limiter.current_limits) < 2
        # Flask-Limiter rounds the end of the window up to the next whole second, and past it.
        seconds = min(window_seconds, max(1, math.ceil(counted.reset_at - time.time())))
        return Quota(
            name=self._name if is_alone else f"{self._name}-{window_seconds}",
            amount=counted.limit.amount,
            window_seconds=window_seconds,
            remaining=counted.remaining,
            reset_seconds=seconds,
        )


def register_quota_headers(app: flask.Flask) -> None:
    """Let answers say what is left to the caller, where something was taken: cached ones cost nothing."""
    app.after_request(_say_what_is_left)


def _say_what_is_left(response: Response) -> Response:
    for name, text in quota_headers(flask.request.environ.get(ENVIRON_NAME, ())).items():
        response.headers.setdefault(name, text)
    return response


def _size_of_batch() -> int:
    return int(g.get("answers_batch", 1))


def _size_of_order() -> int:
    return int(g.get("jobs_ordered", 1))


def _take(limit: _Limit) -> None:
    limit.charge()
    _tell(limit.left())


def _tell(quotas: Sequence[Quota]) -> None:
    flask.request.environ[ENVIRON_NAME] = tuple(quotas)
