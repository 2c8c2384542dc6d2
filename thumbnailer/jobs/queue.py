"""The way from those who accept work to those who do it."""

from __future__ import annotations

from typing import Protocol


class WorkQueue(Protocol):
    """Hands work to the workers. It may lose what it holds, and may hand it over twice."""

    def put_job(self, job_id: str) -> None:
        """Raises nothing: what cannot be queued now is found by the next sweep."""

    def put_delivery(self, delivery_id: str) -> None:
        """As ``put_job``."""

    def put_page(self, page_id: str) -> None:
        """As ``put_job``."""

    def is_empty(self) -> bool | None:
        """Whether nothing waits in it; None where it does not answer."""
