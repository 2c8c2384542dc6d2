"""Pictures that are taken behind the answers: for jobs, for kept pages, and for commands."""

from __future__ import annotations

from dataclasses import dataclass

from thumbnailer.accounts import Accounts
from thumbnailer.model import Deadline
from thumbnailer.telemetry import Timings
from thumbnailer.terms import Delivery, StaleUse, Terms
from thumbnailer.thumbnails import ThumbnailRequest, Thumbnails


@dataclass(frozen=True, slots=True, kw_only=True)
class Photographer:
    """Takes pictures on somebody's account; ``deadline_seconds`` bounds each as it bounds a request."""

    accounts: Accounts
    thumbnails: Thumbnails
    deadline_seconds: float

    def take(self, request: ThumbnailRequest, account: str, max_age_seconds: int) -> Delivery:
        """A picture of at most ``max_age_seconds``; an older one only where a new one cannot be taken.

        No rate limit is charged, as that was done when the order was accepted; the daily budget is.

        Raises:
            Unauthorized: the account's key has been revoked or has expired since the order was accepted.
            ThumbnailerError: any other of the tree but ``StorageError``.
        """
        self.accounts.refuse_ended(account)
        terms = Terms(
            max_age_seconds=max_age_seconds,
            deadline=Deadline.after(self.deadline_seconds),
            admit=lambda: self._charge(account),
            timings=Timings(),
            stale_use=StaleUse.WHERE_A_NEW_ONE_FAILS,
        )
        return self.thumbnails.fetch(request, terms)

    def _charge(self, account: str) -> None:
        self.accounts.charge_capture(account)
