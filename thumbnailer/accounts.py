"""On whose account captures are taken: the budget that they come from, and the count of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from thumbnailer.budgets import CaptureBudgets
from thumbnailer.errors import Unauthorized
from thumbnailer.quotas import Quota
from thumbnailer.usage import ANONYMOUS, Counted, UsageMeter

KEY_PREFIX = "key:"


def account_of_key(key_id: str) -> str:
    return f"{KEY_PREFIX}{key_id}"


def key_id_of(account: str) -> str | None:
    """The key whose account it is; None for those of callers without one."""
    return account.removeprefix(KEY_PREFIX) if account.startswith(KEY_PREFIX) else None


def account_of_owner(owner: str) -> str:
    """The account of whoever a job or page belongs to; without a key, nobody in particular."""
    return owner or ANONYMOUS


@dataclass(frozen=True, slots=True)
class Accounts:
    """What every process has that takes captures.

    ``is_live`` tells whether an account may still have some taken.
    """

    budgets: CaptureBudgets
    meter: UsageMeter
    is_live: Callable[[str], bool]

    def refuse_ended(self, account: str) -> None:
        """Raise Unauthorized where the key, whose account it is, counts no more."""
        if not self.is_live(account):
            raise Unauthorized("The key that this is done for is revoked or expired.", challenge="")

    def charge_capture(self, account: str) -> tuple[Quota, ...]:
        """Spend and count a capture; tells what is left of the account's budget. Raises ``BudgetSpent``."""
        left = self.budgets.spend(account)
        self.meter.count(account, Counted.CAPTURES)
        return left
