"""Answers from the cache that may be given again for a few seconds, alike but for the time in them.

A door that answers from the cache leaves a ``Replay`` beside its answer. The server may then give that
answer by itself to whoever sends the very same request (``wiring/fast_path.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

#: In the WSGI environment: what of the answer to this request may be given again.
ENVIRON_NAME = "thumbnailer.replay"

#: Larger pictures are read piece by piece, and never held in memory as a whole.
MAX_BODY_BYTES = 262_144


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a server has to know of an answer to give it again.

    ``dated_headers`` are those that tell the time, as they are at a moment in Unix time in seconds;
    ``good_until`` is the moment, on the same clock, from which on it is another answer. ``is_current``
    says that nothing has been purged since. ``facts`` are what the log says of the answer; it is counted
    as a hit of ``account``, on ``route``.
    """

    body: bytes
    dated_headers: Callable[[float], Mapping[str, str]]
    good_until: float
    is_current: Callable[[], bool]
    facts: Mapping[str, Any]
    account: str
    route: str
