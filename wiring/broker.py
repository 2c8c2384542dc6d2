"""Celery's queue in Redis, of which a worker loses no part where Redis fails for a while."""

from __future__ import annotations

import structlog
from kombu.transport import redis
from redis.exceptions import RedisError, ResponseError

log = structlog.get_logger(__name__)


class QoS(redis.QoS):
    """What a worker has been given and not acknowledged: no more messages than it can do at once.

    kombu's own counts for good what it could not acknowledge, so that a worker does one thing less at a time
    from then on, and nothing in the end. Redis hands such a message out again, to find that it is done.
    """

    def ack(self, delivery_tag: str) -> None:
        """Raises nothing where Redis does not take it: there is nobody who could do anything about that."""
        try:
            super().ack(delivery_tag)  # type: ignore[no-untyped-call]  # kombu carries few types
        except (RedisError, OSError) as error:
            log.warning("message_not_acknowledged", error=type(error).__name__)
            self._quick_ack(delivery_tag)


def use_redis_patiently(transport: type[redis.Transport]) -> None:
    """Have a Redis that refuses, as one that is full or takes no writes, treated like one that is gone."""
    transport.Channel.QoS = QoS
    if ResponseError not in transport.connection_errors:
        transport.connection_errors += (ResponseError,)
