"""Photographing a page anew: capture, storage, version."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from thumbnailer.accounts import Accounts, account_of_owner
from thumbnailer.errors import NotARealPicture, StorageUnavailable, ThumbnailerError, UpstreamFailed
from thumbnailer.fingerprints import distance, fingerprint
from thumbnailer.jobs.queue import WorkQueue
from thumbnailer.jobs.rows import new_id
from thumbnailer.keeping import keep
from thumbnailer.model import Deadline
from thumbnailer.pages import Page, PageClaim, PageVersion
from thumbnailer.pages.ledger import PageLedger
from thumbnailer.pipeline import Delivery, StaleUse, Terms
from thumbnailer.storage import Storage
from thumbnailer.telemetry import Timings
from thumbnailer.thumbnails import Thumbnails

log = structlog.get_logger(__name__)

#: Objects that one sweep takes out of the storage at most.
MAX_REMOVED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRunner:
    """Takes new pictures of pages, from any thread; ``deadline_seconds`` bounds one capture."""

    ledger: PageLedger
    accounts: Accounts
    thumbnails: Thumbnails
    storage: Storage
    queue: WorkQueue
    deadline_seconds: float

    def run(self, page_id: str) -> None:
        """Take a new picture, unless none is due or another takes it. Raises DatabaseUnavailable."""
        claim = self.ledger.claim(page_id)
        if claim is None:
            return
        try:
            version = self._version(claim)
        except ThumbnailerError as error:
            log.info("page_failed", page_id=page_id, error=type(error).__name__)
            self.ledger.fail(claim, error)
            return
        except Exception:
            log.exception("page_broke", page_id=page_id)
            self.ledger.fail(claim, UpstreamFailed("The capture failed."))
            return
        for delivery_id in self.ledger.succeed(claim, version):
            self.queue.put_delivery(delivery_id)

    def tidy(self) -> None:
        """Take the objects of forgotten versions out of the storage. Raises DatabaseUnavailable."""
        for object_key in self.ledger.outdated(MAX_REMOVED):
            try:
                self.storage.remove(object_key)
            except StorageUnavailable:
                return  # the next sweep tries again
            self.ledger.forget_object(object_key)

    def _version(self, claim: PageClaim) -> PageVersion:
        page = claim.page
        delivery = self._fetch(page)
        try:
            # A folder of its own: what is taken away with a version is nobody else's.
            stored = keep(
                self.storage, f"pages/{page.id}/{{digest}}.{{ext}}", page.order.request, delivery
            ).image
        except NotARealPicture as error:
            raise delivery.trouble or error from None
        looks = fingerprint(delivery.capture.body())
        before = page.versions[0] if page.versions else None
        return PageVersion(
            id=new_id("ver"),
            captured_at=delivery.capture.record.captured_at,
            object_key=stored.key,
            stored_url=stored.url,
            content_type=stored.content_type,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            width=stored.width,
            height=stored.height,
            fingerprint=looks,
            distance=distance(before.fingerprint, looks) if before else None,
        )

    def _fetch(self, page: Page) -> Delivery:
        """A picture that is younger than half the page's interval: whoever took it."""
        terms = Terms(
            max_age_seconds=page.order.refresh_seconds // 2,
            deadline=Deadline.after(self.deadline_seconds),
            admit=lambda: self._charge(page),
            timings=Timings(),
            stale_use=StaleUse.WHERE_A_NEW_ONE_FAILS,
        )
        return self.thumbnails.fetch(page.order.request, terms)

    def _charge(self, page: Page) -> None:
        """Its limit was charged when the page was kept; the budget each time it is photographed."""
        self.accounts.charge_capture(account_of_owner(page.owner))
