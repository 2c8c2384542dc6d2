"""How many captures a day may bring, for one account and for the whole service.

Days are those of UTC. What is counted is counted for all processes that share the store; while that
does not answer, each process goes on from what it knew last. A store that has lost its counters is told
what was taken by then, as far as usage was written down.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from limits.errors import StorageError
from limits.storage import Storage

from thumbnailer.cooldown import CoolDown
from thumbnailer.errors import BudgetSpent
from thumbnailer.quotas import Quota, quota_headers

DAY_SECONDS = 86_400

#: The whole service's name among the accounts, and those of the two budgets in answers.
EVERYBODY = "service"
OWN_NAME, TOTAL_NAME = "day", "service-day"


class CaptureBudgets:
    """Spends the captures of a day; safe to use from many threads.

    ``quota_of`` tells how many an account may have, ``total`` how many there are for all; None: no
    bound. Without a bound nothing is counted. ``store`` must raise ``StorageError`` where it fails.
    ``taken_today`` tells how many captures an account has had on this day, as far as that is known elsewhere.
    ``clock`` is Unix time in seconds.
    """

    def __init__(
        self,
        store: Storage,
        *,
        total: int | None,
        quota_of: Callable[[str], int | None],
        prefix: str,
        taken_today: Callable[[str], int] = lambda _account: 0,
        cool_down: CoolDown | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._total = total
        self._quota_of = quota_of
        self._prefix = prefix
        self._taken_today = taken_today
        self._cool_down = cool_down or CoolDown("The store of budgets")
        self._clock = clock
        self._guard = threading.Lock()
        self._known_day = ""
        self._known: dict[str, int] = {}

    def spend(self, account: str) -> tuple[Quota, ...]:
        """Take one capture from the budgets; tells what is left of the account's own.

        Raises:
            BudgetSpent: the account's budget is used up, or that of the whole service.
        """
        own = self._take(account, OWN_NAME, self._quota_of(account))
        # The service's second: who is refused anyhow takes nothing from the others.
        self._take(EVERYBODY, TOTAL_NAME, self._total)
        return (own,) if own else ()

    def own_quota(self, account: str) -> Quota | None:
        """What is left today of an account's budget; None: no bound of its own."""
        return self._left(account, OWN_NAME, self._quota_of(account))

    def total_quota(self) -> Quota | None:
        """What is left today of the whole service's budget; None: no bound."""
        return self._left(EVERYBODY, TOTAL_NAME, self._total)

    def _left(self, account: str, name: str, amount: int | None) -> Quota | None:
        if amount is None:
            return None
        day, seconds = self._today()
        return _quota(name, amount, self._spent(day, account), seconds)

    def _take(self, account: str, name: str, amount: int | None) -> Quota | None:
        if amount is None:
            return None
        day, seconds = self._today()
        spent = self._add(day, account, seconds) if amount else 1
        quota = _quota(name, amount, spent, seconds)
        if spent > amount:
            whose = "service" if account == EVERYBODY else "key"
            raise BudgetSpent(
                f"All {amount} captures of this {whose} for today are taken. Try again in {seconds} seconds.",
                retry_after_seconds=seconds,
                headers=quota_headers([quota]),
            )
        return quota

    def _today(self) -> tuple[str, int]:
        """Today, and how many seconds are left of it."""
        now = self._clock()
        day = datetime.fromtimestamp(now, UTC).date().isoformat()
        return day, DAY_SECONDS - int(now) % DAY_SECONDS

    def _key(self, day: str, account: str) -> str:
        return f"{self._prefix}budget:{day}:{account}"

    def _spent(self, day: str, account: str) -> int:
        count = self._cool_down.call(lambda: self._store.get(self._key(day, account)), StorageError)
        if count is not None:
            return count
        with self._guard:
            return self._known.get(account, 0) if day == self._known_day else 0

    def _add(self, day: str, account: str, seconds: int) -> int:
        """One more, and how many there are then."""
        count = self._cool_down.call(lambda: self._count(day, account, seconds), StorageError)
        return self._know(day, account, count)

    def _count(self, day: str, account: str, seconds: int) -> int:
        """The same, as the store has it; raises ``StorageError``."""
        name = self._key(day, account)
        count = self._store.incr(name, seconds)
        if count > 1:
            return count
        # The first of the day, as far as the store knows.
        known = self._known.get(account, 0) if day == self._known_day else 0
        before = max(known, self._taken_today(account))
        return self._store.incr(name, seconds, before) if before else count

    def _know(self, day: str, account: str, count: int | None) -> int:
        """Remember a count for when the store does not answer; without one, count on from there."""
        with self._guard:
            if day != self._known_day:
                self._known_day, self._known = day, {}
            known = self._known.get(account, 0)
            self._known[account] = known + 1 if count is None else max(count, known)
            return self._known[account] if count is None else count


def _quota(name: str, amount: int, spent: int, reset_seconds: int) -> Quota:
    return Quota(
        name=name,
        amount=amount,
        window_seconds=DAY_SECONDS,
        remaining=max(0, amount - spent),
        reset_seconds=reset_seconds,
    )
