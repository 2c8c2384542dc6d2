"""The routes that signed URLs are for, and how a URL of them is signed: never one that would be refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from blueprints.capture_requests import Asked
from blueprints.parsing import typed_options
from blueprints.pictures import Door, judge, screenshot_door, thumb_door
from blueprints.schemas import CaptureQuery, ScreenshotQuery, ThumbQuery
from blueprints.services import services
from thumbnailer.errors import InvalidParameters, NothingToSignWith
from thumbnailer.model import POWERFUL
from thumbnailer.signing import SignedPath, UrlSigner

#: Path and query in bytes: gunicorn takes a request line of 8,190, and a proxy may add a prefix.
MAX_LENGTH = 8_000


@dataclass(frozen=True, slots=True)
class SignableRoute:
    """What a route reads its query by, and what it does by default."""

    query: CaptureQuery
    door: Callable[[], Door]


SIGNABLE_ROUTES: Mapping[str, SignableRoute] = {
    "/thumb": SignableRoute(ThumbQuery(), thumb_door),
    "/screenshot": SignableRoute(ScreenshotQuery(), screenshot_door),
    "/screenshot/stream": SignableRoute(CaptureQuery(), screenshot_door),
}


def signer() -> UrlSigner:
    """The application's signer. Raises ``NothingToSignWith``."""
    found = services().signer
    if found is None:
        raise NothingToSignWith
    return found


def judge_query(path: str, texts: Mapping[str, str]) -> Asked:
    """Read a query as the route at ``path`` does, as far as that goes without looking anything up.

    Raises:
        InvalidParameters, OptionUnsupported, TargetForbidden: the route would refuse it.
    """
    route = SIGNABLE_ROUTES[path]
    asked = judge(typed_options(texts, route.query, is_whole=True), route.door(), accept=None)
    powers = sorted(POWERFUL & asked.request.capture.asked)
    if powers:
        raise InvalidParameters({option: ["Needs a key; a signature will not do."] for option in powers})
    services().thumbnails.pipeline.judge(asked.request.capture)
    return asked


def sign_query(path: str, texts: Mapping[str, str], exp: int | None) -> SignedPath:
    """Sign what ``judge_query`` has found good. Raises ``InvalidParameters``, ``NothingToSignWith``."""
    signed = signer().sign(path, texts.items(), now=services().clock(), exp=exp)
    length = len(str(signed))
    if length > MAX_LENGTH:
        detail = (
            f"The signed URL would have {length} bytes; no more than {MAX_LENGTH} pass through the server."
        )
        raise InvalidParameters({"url": [detail]})
    return signed
