"""Passes a capture on while it arrives, and fills the cache on the way.

A thread of its own takes the bytes from the upstream, as fast as that sends them, into the cache and
into a spool on disk; the reader follows the spool at its own pace. So a slow reader holds up nobody:
neither the upstream, whose deadline would pass, nor those who wait for the same capture or for a
place in the bulkhead. Memory holds one piece of a capture at a time, whatever its size, as long as there is
room on the disk.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

from thumbnailer.arrival import Arrival
from thumbnailer.errors import Overloaded
from thumbnailer.model import CaptureRecord
from thumbnailer.picture_cache import PictureFilling
from thumbnailer.spool import Spool

PIECE_BYTES = 64 * 1024
#: The end of a picture is judged when all of it is there. Until then its last byte stays here, so that
#: nobody takes a false picture for a whole one, not even by its Content-Length.
HELD_BACK_BYTES = 1


#: Raises where a whole capture is none that may be kept; may call for its bytes.
Judge = Callable[[CaptureRecord, Callable[[], bytes]], None]


class CaptureStream:
    """The bytes of a capture as they arrive; iterate it once, then ``close`` it.

    Iterating raises when the upstream dies midway or the picture turns out false, but not before all
    that has come is out, so that the answer is the same however fast the reader is: whoever passes
    the bytes on must then break the connection. Nothing stays in the
    cache in that case. ``close`` before the end changes nothing for the others: the capture is paid
    for, and goes on into the cache.
    """

    def __init__(
        self, arrival: Arrival, filling: PictureFilling, *, judge: Judge, on_landed: Callable[[], None]
    ) -> None:
        self._arrival = arrival
        self._filling = filling
        self._judge = judge
        self._on_landed = on_landed
        self._spool = Spool()
        self._news = threading.Condition()
        self._spooled_bytes = 0
        self._is_over = False
        self._trouble: BaseException | None = None
        self._is_abandoned = False
        self.content_type = arrival.content_type
        self.length = arrival.length
        self.provider = arrival.provider

    def start(self, held: ExitStack) -> None:
        """Begin to take the bytes in; ``held`` is left when the last one is there, or none comes any more.

        It is left with the error if there was one, and after ``on_landed`` if there was none.

        Raises:
            Overloaded: there is no thread for it.
        """
        moved = held.pop_all()
        context = contextvars.copy_context()
        try:
            threading.Thread(target=context.run, args=(self._take_in, moved), daemon=True).start()
        except RuntimeError as error:
            with moved:
                raise Overloaded("No further stream can be started.") from error

    def __iter__(self) -> Iterator[bytes]:
        sent_bytes = 0
        while available_bytes := self._await_more_than(sent_bytes):
            piece = self._spool.read(sent_bytes, min(available_bytes, PIECE_BYTES))
            sent_bytes += len(piece)
            yield piece

    def close(self) -> None:
        with self._news:
            self._is_abandoned = True
            if self._is_over:
                self._spool.close()

    def _await_more_than(self, sent_bytes: int) -> int:
        """How many more bytes may go out now; 0 at the end of a whole capture."""
        with self._news:
            self._news.wait_for(lambda: self._is_over or self._spooled_bytes > sent_bytes + HELD_BACK_BYTES)
            is_whole = self._is_over and self._trouble is None
            available_bytes = self._spooled_bytes - sent_bytes - (0 if is_whole else HELD_BACK_BYTES)
            if self._trouble is not None and available_bytes <= 0:
                raise self._trouble
            return available_bytes

    def _take_in(self, held: ExitStack) -> None:
        trouble: BaseException | None = None
        try:
            with held:
                self._fill()
        except Exception as error:  # noqa: BLE001  the reader raises it
            trouble = error
        with self._news:
            self._is_over, self._trouble = True, trouble
            self._news.notify()
            if self._is_abandoned:
                self._spool.close()

    def _fill(self) -> None:
        try:
            for chunk in self._arrival:
                self._filling.add(chunk)
                self._spool.write(chunk)
                with self._news:
                    self._spooled_bytes += len(chunk)
                    self._news.notify()
            record = self._arrival.record()
            self._judge(record, self._spool.content)
        except BaseException:
            self._filling.abort()
            raise
        self._filling.commit(record)
        self._on_landed()
