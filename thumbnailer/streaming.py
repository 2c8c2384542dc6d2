"""Passes a capture on while it arrives, and fills the cache on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

from thumbnailer.arrival import Arrival
from thumbnailer.cache import Filling


class CaptureStream:
    """The bytes of a capture as they arrive.

    Iterating raises when the upstream dies midway or the picture turns out false: whoever passes
    the bytes on must then break the connection, since the first ones are out. Nothing stays in the
    cache in that case. Where the length was announced, the last bytes are held back until the whole
    has been judged: HTTP has no way to break off once they are out.

    ``close`` after less than the whole reads the rest into the cache, within the upstream's
    deadline: it is paid for, and others may wait for it. ``held`` is left in either case, with the
    error if there was one, after ``on_landed`` if there was none.
    """

    def __init__(
        self, arrival: Arrival, filling: Filling, held: ExitStack, *, on_landed: Callable[[], None]
    ) -> None:
        self._arrival = arrival
        self._chunks = iter(arrival)
        self._filling = filling
        self._held = held
        self._on_landed = on_landed
        self._is_over = False
        self._size_bytes = 0
        self.content_type = arrival.content_type
        self.length = arrival.length
        self.provider = arrival.provider

    def __iter__(self) -> Iterator[bytes]:
        try:
            last = b""
            for chunk in self._chunks:
                self._filling.add(chunk)
                self._size_bytes += len(chunk)
                if self._size_bytes == self.length:
                    last = chunk
                else:
                    yield chunk
            self._land()
            if last:
                yield last
        except GeneratorExit:
            raise  # the reader stopped: close() reads the rest
        except BaseException as error:
            self._crash(error)
            raise

    def close(self) -> None:
        if self._is_over:
            return
        try:
            for chunk in self._chunks:
                self._filling.add(chunk)
            self._land()
        except Exception as error:  # noqa: BLE001  nobody listens any more; those who wait are told
            self._crash(error)

    def _land(self) -> None:
        record = self._arrival.record()
        self._is_over = True
        with self._held:
            self._filling.commit(record)
            self._on_landed()

    def _crash(self, error: BaseException) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._filling.abort()
        self._held.__exit__(type(error), error, error.__traceback__)
