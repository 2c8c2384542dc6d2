"""Photographing a page anew: capture, storage, version."""

from __future__ import annotations

from dataclasses import dataclass, replace

import structlog

from thumbnailer.accounts import account_of_owner
from thumbnailer.errors import NotARealPicture, StorageUnavailable, ThumbnailerError, UpstreamFailed
from thumbnailer.fingerprints import distance, fingerprint
from thumbnailer.jobs.queue import WorkQueue
from thumbnailer.jobs.rows import new_id
from thumbnailer.keeping import refuse_old
from thumbnailer.model import CaptureRecord
from thumbnailer.pages import Page, PageVersion
from thumbnailer.pages.ledger import PageLedger
from thumbnailer.photographer import Photographer
from thumbnailer.storage import Storage, StoredImage, file_ending

log = structlog.get_logger(__name__)

#: Objects that one sweep takes out of the storage at most.
MAX_REMOVED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRunner:
    """Takes new pictures of pages, from any thread."""

    ledger: PageLedger
    photographer: Photographer
    storage: Storage
    queue: WorkQueue

    def run(self, page_id: str) -> None:
        """Take a new picture, unless none is due or another takes it. Raises DatabaseUnavailable."""
        claim = self.ledger.claim(page_id)
        if claim is None:
            return
        try:
            version = self._version(claim.page)
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
        for outdated in self.ledger.outdated(MAX_REMOVED):
            try:
                self.storage.remove(outdated)
            except StorageUnavailable:
                return  # the next sweep tries again
            self.ledger.forget_object(outdated)

    def _version(self, page: Page) -> PageVersion:
        """What a new picture comes to: the newest version again where it is the same."""
        request = page.order.request
        if request is None:
            raise UpstreamFailed("The capture failed.")
        # Half the interval: a picture that somebody else has had taken by then will do.
        max_age_seconds = page.order.refresh_seconds // 2
        delivery = self.photographer.take(request, account_of_owner(page.owner), max_age_seconds)
        record, newest = delivery.capture.record, next(iter(page.versions), None)
        try:
            refuse_old(delivery)
            if newest is not None and newest.sha256 == record.sha256:
                return replace(newest, captured_at=record.captured_at, edition=page.edition)
            version_id = new_id("ver")
            body = delivery.capture.body()
            stored = self._store(page, version_id, body, record)
        except NotARealPicture as error:
            raise delivery.trouble or error from None
        looks = fingerprint(body)
        return PageVersion(
            id=version_id,
            captured_at=record.captured_at,
            object_key=stored.key,
            stored_url=stored.url,
            content_type=stored.content_type,
            size_bytes=stored.size_bytes,
            sha256=stored.sha256,
            width=stored.width,
            height=stored.height,
            fingerprint=looks,
            distance=distance(page.current.fingerprint, looks) if page.current else None,
            edition=page.edition,
        )

    def _store(self, page: Page, version_id: str, body: bytes, record: CaptureRecord) -> StoredImage:
        """Store a picture under a key of its version's own: what goes with it is nobody else's."""
        key = f"pages/{page.id}/{version_id}.{file_ending(record.content_type)}"
        self.ledger.expect_object(key)
        return self.storage.write(key, body, record)
