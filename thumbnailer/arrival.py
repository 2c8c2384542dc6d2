"""Captures on their way in: judged from the first bytes, counted to the last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing

from thumbnailer.errors import UpstreamError
from thumbnailer.imaging import Inspector, PictureLimits
from thumbnailer.model import Capture, CaptureRecord, CaptureRequest, Deadline, Format
from thumbnailer.providers import Provider, UpstreamBody


class Arrival:
    """An upstream's answer whose first bytes have been judged and whose rest is still to come.

    Iterating once yields every byte from the start. It raises what the provider raises, and
    ``NotAnImage`` or ``ImageTooLarge`` as soon as that shows. ``record`` judges the end.
    """

    def __init__(
        self,
        provider: str,
        body: UpstreamBody,
        inspector: Inspector,
        *,
        started_at: float,
        clock: Callable[[], float],
    ) -> None:
        self.provider = provider
        self._body = body
        self._inspector = inspector
        self._clock = clock
        self._started_at = started_at
        self._chunks = iter(body)
        self._head: list[bytes] = []
        self.length = body.length

    @property
    def content_type(self) -> str:
        """The media type by the bytes' magic number."""
        return self._inspector.content_type

    def await_identity(self) -> None:
        """Read until kind and dimensions are known; raises as iterating does.

        What is already whole by then is judged to its end.
        """
        while not self._inspector.is_identified:
            chunk = next(self._chunks, None)
            if chunk is None:
                self._inspector.finish()
                return
            self._inspector.feed(chunk)
            self._head.append(chunk)
        if sum(map(len, self._head)) == self.length:
            self._inspector.finish()

    def __iter__(self) -> Iterator[bytes]:
        while self._head:
            yield self._head.pop(0)
        for chunk in self._chunks:
            self._inspector.feed(chunk)
            yield chunk

    def record(self) -> CaptureRecord:
        """What came, once all of it has; raises ``NotAnImage`` where the end is missing."""
        facts = self._inspector.finish()
        return CaptureRecord(
            content_type=facts.content_type,
            size_bytes=facts.size_bytes,
            sha256=facts.sha256,
            width=facts.dimensions.width if facts.dimensions else None,
            height=facts.dimensions.height if facts.dimensions else None,
            captured_at=self._clock(),
            provider=self.provider,
            upstream_seconds=time.monotonic() - self._started_at,
        )

    def extend(self, deadline: Deadline) -> None:
        """Let the rest come until this later deadline."""
        self._body.extend(deadline)

    def close(self) -> None:
        self._body.close()


def begin_capture(
    provider: Provider,
    request: CaptureRequest,
    deadline: Deadline,
    limits: PictureLimits,
    clock: Callable[[], float],
) -> Arrival:
    """Have a provider take the capture and judge its first bytes; the caller closes the arrival.

    Raises:
        ThumbnailerError: what ``Provider.capture`` raises, ``NotAnImage``, ``ImageTooLarge``.
    """
    started_at = time.monotonic()
    body = provider.capture(request, deadline)
    inspector = Inspector(limits, is_pdf=request.format is Format.PDF)
    arrival = Arrival(provider.name, body, inspector, started_at=started_at, clock=clock)
    try:
        if body.length is not None:
            limits.refuse_bytes(body.length)
        arrival.await_identity()
    except BaseException as error:
        arrival.close()
        if isinstance(error, UpstreamError):
            error.provider = error.provider or provider.name
        raise
    return arrival


def complete_capture(arrival: Arrival) -> Capture:
    """Read an arrival to its end; raises as iterating it does."""
    with closing(arrival):
        body = b"".join(arrival)
        return Capture.of_bytes(arrival.record(), body)
