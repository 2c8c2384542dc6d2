"""One HTTP exchange with an upstream, held to a deadline from the look-up to the last byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import requests
from urllib3.exceptions import ReadTimeoutError

from thumbnailer.errors import UpstreamError, UpstreamFailed, UpstreamTimeout
from thumbnailer.model import Deadline
from thumbnailer.wire import CHUNK_BYTES, WIRE_FAULTS, BareSession, Cutoff, NamedDial, crossing

#: What http.client raises besides, in the thread that reads while another one closes.
_CLOSING_FAULTS = (ValueError, AttributeError)


class UpstreamSession(BareSession):
    """The process's pooled connections to upstreams.

    It asks for unencoded bodies, so that a Content-Length is that of the picture. ``pool_size``
    connections to each upstream are kept open.
    """

    def __init__(self, pool_size: int = 32) -> None:
        headers = {"User-Agent": "thumbnailer", "Accept": "*/*", "Accept-Encoding": "identity"}
        super().__init__(headers, pool_size=pool_size)
        self.dial = NamedDial()


class Exchange:
    """An upstream's answer: status, headers, and an ``UpstreamBody``.

    Iterating raises ``UpstreamTimeout`` once the deadline has passed and ``UpstreamFailed`` when the
    body ends before the Content-Length or the last chunk that was promised (RFC 9112, section 8).
    """

    def __init__(self, response: requests.Response, cutoff: Cutoff, provider: str) -> None:
        self.status = response.status_code
        self.headers: Mapping[str, str] = response.headers
        self.length: int | None = response.raw.length_remaining
        self._response = response
        self._cutoff = cutoff
        self._provider = provider
        self._is_complete = False
        self._is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        try:
            while chunk := self._response.raw.read1(CHUNK_BYTES, decode_content=False):
                self._refuse_if_cut()
                yield chunk
            self._refuse_if_cut()
        except (*WIRE_FAULTS, *_CLOSING_FAULTS) as fault:
            if not self._is_closed and not isinstance(fault, WIRE_FAULTS):
                raise
            self.close()
            raise _upstream_fault(fault, self._cutoff, self._provider) from fault
        self._is_complete = True
        self._cutoff.release()

    def extend(self, deadline: Deadline) -> None:
        if not self._is_complete and not self._is_closed:
            self._cutoff.extend(deadline)

    def close(self) -> None:
        """Give the connection back; one whose answer was not read to its end is dropped."""
        self._is_closed = True
        if not self._is_complete:
            self._cutoff.cut()
            self._response.close()
        self._cutoff.release()

    def _refuse_if_cut(self) -> None:
        if self._cutoff.has_struck or self._is_closed:
            raise ConnectionAbortedError


def begin_exchange(
    session: UpstreamSession, request: requests.Request, deadline: Deadline, provider: str
) -> Exchange:
    """Send a request and return as soon as the answer's headers are there.

    Raises:
        UpstreamTimeout: the deadline passed.
        UpstreamFailed: the connection was refused or reset, or what came is not HTTP.
        Overloaded: there is no thread for it.
    """
    seconds = deadline.remaining_seconds()
    if seconds == 0:
        raise UpstreamTimeout(f"No time was left to call the provider {provider}.", provider=provider)
    cutoff = Cutoff(deadline)
    cutoff.arm()
    try:
        with crossing(cutoff, session.dial):
            prepared = session.prepare_request(request)
            response = session.send(prepared, stream=True, allow_redirects=False, timeout=seconds)
    except WIRE_FAULTS as fault:
        cutoff.release()
        raise _upstream_fault(fault, cutoff, provider) from fault
    return Exchange(response, cutoff, provider)


def _upstream_fault(fault: Exception, cutoff: Cutoff, provider: str) -> UpstreamError:
    # The deadline is asked too: a timeout of the socket may be a moment ahead of the timer's thread.
    is_late = cutoff.has_struck or cutoff.deadline.has_passed()
    if is_late or isinstance(fault, requests.ReadTimeout | ReadTimeoutError):
        return UpstreamTimeout(f"The provider {provider} did not answer in time.", provider=provider)
    return UpstreamFailed(f"The connection to the provider {provider} failed.", provider=provider)
