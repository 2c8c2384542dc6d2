"""How long an answer may be kept, and by whom: ``Cache-Control`` of good pictures (RFC 9111, RFC 5861)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import flask
from flask import Response

from thumbnailer.pipeline import STALE_WHILE_REVALIDATE_SECONDS

#: How long a cache may go on with an old picture while it cannot fetch a new one: thirty days in seconds.
STALE_IF_ERROR_SECONDS = 2_592_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Freshness:
    """What an answer allows caches.

    ``ttl_seconds`` is the oldest picture that the caller takes; ``wants_new`` says that an older one will
    do only where a new one cannot be had. ``is_private`` says that the answer was given for a key, so that
    only the caller's own cache may keep it. ``not_after`` is Unix time in
    seconds, such as the ``exp`` of a signed URL: nobody may use the answer later, not even as a stale
    one. None: no such moment.
    """

    ttl_seconds: int
    wants_new: bool = False
    is_private: bool = False
    not_after: float | None = None

    def cache_control(self, *, now: float, age_seconds: int) -> str:
        """The value of ``Cache-Control`` at ``now``, Unix time in seconds.

        ``age_seconds`` is what the answer says in ``Age``: caches count ``max-age`` from there on, and
        the stale periods from its end (RFC 5861, sections 3 and 4).
        """
        scope = "private" if self.is_private else "public"
        if self.not_after is None:
            return self._directives(scope, self.ttl_seconds, math.inf)
        usable_seconds = max(0, math.floor(self.not_after - now)) + age_seconds
        max_age_seconds = min(self.ttl_seconds, usable_seconds)
        return self._directives(scope, max_age_seconds, usable_seconds - max_age_seconds)

    def accel_expires(self, *, now: float, age_seconds: int) -> str | None:
        """The value of ``X-Accel-Expires`` where the answer has an end; None elsewhere.

        nginx counts ``max-age`` from when it stores an answer, whatever ``Age`` says, and so would use it
        beyond ``not_after``. This moment it takes as it stands, as the last second in which the answer is
        good, and keeps the header to itself.
        """
        if self.not_after is None or self.is_private:  # it would have nginx keep what is private
            return None
        last_second = math.floor(min(self.not_after, now - age_seconds + self.ttl_seconds)) - 1
        return f"@{last_second}" if last_second >= math.floor(now) else "0"

    def _directives(self, scope: str, max_age_seconds: int, stale_seconds: float) -> str:
        """``stale_seconds`` is how long after ``max-age`` the answer may be used at all."""
        directives = [scope, f"max-age={max_age_seconds}"]
        if stale_seconds <= 0:
            return ", ".join([*directives, "must-revalidate"])
        if not self.wants_new:
            while_revalidating = min(STALE_WHILE_REVALIDATE_SECONDS, stale_seconds)
            directives.append(f"stale-while-revalidate={while_revalidating}")
        on_error = min(STALE_IF_ERROR_SECONDS, stale_seconds)
        return ", ".join([*directives, f"stale-if-error={on_error}"])


def register_default_freshness(app: flask.Flask) -> None:
    """Let no answer of ``app`` leave it to caches how long they keep it: RFC 9111, section 4.2.2."""
    app.after_request(_keep_from_caches)


def _keep_from_caches(response: Response) -> Response:
    response.headers.setdefault("Cache-Control", "no-store")
    return response
