"""The place in line of a request that may have to wait."""

from __future__ import annotations

from collections.abc import Callable

import flask
from flask import Response, g

from blueprints.services import services
from thumbnailer.flights import is_alone
from thumbnailer.line import Place

#: In the WSGI environment: says whether others are held behind the request until it is answered.
HAS_COMPANY = "thumbnailer.has_company"
#: There as well: the caller was turned away, on their own account or for want of room, so that somebody
#: else may fare better.
IS_TURNED_AWAY = "thumbnailer.is_turned_away"
#: And what gives the client so many seconds more to take the answer, where the server holds it to a time.
MORE_TIME = "thumbnailer.more_time"


def line_up() -> None:
    """Join the line of those who wait, before anything that may take long; once for each request.

    The place is kept until the answer has been sent: a caller who reads slowly holds a thread too.

    Raises:
        Overloaded: too many wait already.
    """
    if "place" not in g:
        g.place = services().line.take_place()


def share_place() -> Callable[[], None]:
    """Has another thread of the current request, in a context of its own, stand where that stands."""
    place: Place = g.place

    def stand() -> None:
        g.place = place

    return stand


def allow_more_time(seconds: float) -> None:
    """Give the client of the current request more time to take its answer: it is long in coming."""
    extend: Callable[[float], None] | None = flask.request.environ.get(MORE_TIME)
    if extend is not None:
        extend(seconds)


def company() -> Callable[[], bool]:
    """Says, as long as the current request is not answered, whether others are held behind it."""
    found: Callable[[], bool] = flask.request.environ.get(HAS_COMPANY, is_alone)
    return found


def register_waiting(app: flask.Flask) -> None:
    """Give the places in line back when the answers of ``app`` have been sent."""
    app.after_request(_leave_when_sent)


def _leave_when_sent(response: Response) -> Response:
    place: Place | None = g.get("place")
    if place is not None:
        response.call_on_close(place.give_back)
    return response
