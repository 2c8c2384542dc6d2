"""Celery's queue in Redis, of which a worker loses no part where Redis is silent for a moment."""

from __future__ import annotations

from kombu.transport import redis


class QoS(redis.QoS):
    """What a worker has been given and not acknowledged: no more messages than it can do at once.

    kombu's own counts for good what it could not acknowledge, so that a worker does one thing less at a time
    from then on, and nothing in the end. Redis hands such a message out again, to find that it is done.
    """

    def ack(self, delivery_tag: str) -> None:
        """Raises what the client raises."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu carries few types
        except Exception:
            self._quick_ack(delivery_tag)
            raise
