"""What can go wrong on the trip, as one tree.

::

    ThumbnailerError
    ├── RequestRefused                the caller's doing; trying again changes nothing
    │   ├── InvalidParameters         options are unknown, repeated, mistyped or out of range
    │   ├── InvalidTarget             the URL is malformed or too long
    │   ├── TargetForbidden           the URL points where this service never goes
    │   ├── OptionUnsupported         no configured provider can honour an option
    │   ├── IdempotencyMismatch       an idempotency key came with another body before
    │   ├── Unauthorized              there is no key, or none that counts
    │   ├── ScopeMissing              the key is for something else
    │   ├── CaptureRefused            an upstream refuses the target or an option
    │   ├── SignatureRequired         there is no signature where one is needed
    │   ├── SignatureInvalid          the signature does not fit the URL, or no live key made it
    │   ├── SignatureExpired          the signed URL has come to its end
    │   └── NothingToSignWith         no signing keys are configured
    ├── TargetFailed                  the page itself is at fault
    │   ├── TargetUnreachable         no such host, no answer, gone
    │   └── TargetStatus              it answered with a status that counts as failure
    ├── UpstreamError                 a provider is at fault; another may do better
    │   ├── UpstreamFailed            broken, refused, reset, crashed
    │   │   └── PageCrashed           the page broke the browser; the provider works
    │   ├── UpstreamAuth              our key or plan is refused: the operator's fault
    │   ├── UpstreamQuota             our quota is used up
    │   ├── UpstreamBusy              asks us to come back later
    │   ├── UpstreamTimeout           no answer within the deadline
    │   │   └── TargetTooSlow         the provider works, but the page did not come in time
    │   ├── PageChallenged            the page shows it a check for robots; perhaps not another
    │   ├── NotAnImage                it sent something that is no whole picture
    │   │   └── BlankPicture          a whole picture of nothing
    │   └── ImageTooLarge             more bytes or pixels than allowed
    ├── IdempotencyConflict           the same request of this caller is under way
    ├── CallerLimited                 this caller has used up a limit; others have not
    │   └── BudgetSpent               the captures of this day are taken
    ├── Overloaded                    too much is under way here
    ├── NotARealPicture               only a stale copy is at hand, and that is not stored for good
    ├── ImageNotReady                 a job has not ended; its picture may come
    ├── CaptureLost                   a cached capture vanished while it was being read
    ├── DatabaseUnavailable           the database does not answer, is locked or full
    ├── CacheUnavailable              the cache does not answer, and must: a purge
    └── StorageError
        ├── StorageUnavailable        object storage does not answer or refuses
        └── ObjectNotFound            no stored image has that key, or a job no picture

No class here knows an HTTP status: ``blueprints/error_problems.py`` has them.
``str(error)`` is always fit for a caller's eyes: no key, internal address or upstream body.
"""

from collections.abc import Mapping, Sequence


class ThumbnailerError(Exception):
    """Something went wrong that a caller can be told about.

    ``retryable`` says whether the same request may succeed later;
    ``shared`` whether everybody who waits for the same capture gets the same error;
    ``retry_after_seconds`` when to come back, where that is known: after ``usual_pause_seconds`` unless
    something else is said.
    """

    retryable: bool = False
    shared: bool = True
    usual_pause_seconds: float | None = None

    def __init__(self, message: str, *, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        is_said = retry_after_seconds is not None
        self.retry_after_seconds = retry_after_seconds if is_said else self.usual_pause_seconds


class RequestRefused(ThumbnailerError):
    """The request can never succeed as it is."""


class InvalidParameters(RequestRefused):
    """Options are unknown, repeated, mistyped or out of range; ``fields`` says which and why."""

    def __init__(self, fields: Mapping[str, Sequence[str]], message: str | None = None) -> None:
        super().__init__(message or f"Check these parameters: {', '.join(fields)}.")
        self.fields = {name: list(messages) for name, messages in fields.items()}


class InvalidTarget(RequestRefused):
    """The target is not a URL that every parser reads alike."""


class TargetForbidden(RequestRefused):
    """The target's scheme, port or address is one this service does not visit.

    ``parameter`` names what held the URL, where that is another than the target's.
    """

    parameter: str | None = None


class OptionUnsupported(RequestRefused):
    """The provider cannot honour an option that the caller asked for."""

    def __init__(self, option: str, provider: str, message: str | None = None) -> None:
        super().__init__(message or f"The provider {provider} cannot honour the option {option}.")
        self.option = option
        self.provider = provider


class IdempotencyMismatch(RequestRefused):
    """The idempotency key came with another body before."""


class CaptureRefused(RequestRefused):
    """An upstream refused the target or an option; the message says which."""


class Unauthorized(RequestRefused):
    """The caller gives no key where one is needed, or one that does not count."""

    def __init__(self, message: str, *, challenge: str) -> None:
        super().__init__(message)
        self.challenge = challenge


class ScopeMissing(RequestRefused):
    """The caller's key is good, but not for this."""


class SignatureRequired(RequestRefused):
    """The URL carries no signature where one is needed."""

    def __init__(self) -> None:
        super().__init__("This URL needs a signature.")


class SignatureInvalid(RequestRefused):
    """The signature was made with no live key, or for another path or other parameters."""


class SignatureExpired(RequestRefused):
    """The signature was good until the time that ``exp`` names."""

    def __init__(self) -> None:
        super().__init__("This URL was good until the time that exp names. Ask for a new one.")


class NothingToSignWith(RequestRefused):
    """The operator has configured no signing keys."""

    def __init__(self) -> None:
        super().__init__("This service signs no URLs: the operator has set no SIGNING_KEYS.")


class TargetFailed(ThumbnailerError):
    """The target page is at fault."""

    retryable = True


class TargetUnreachable(TargetFailed):
    """The target's host does not exist, does not answer, or the page is gone."""


class TargetStatus(TargetFailed):
    """The target answered with a status that the request counts as a failure."""

    def __init__(self, status: int) -> None:
        super().__init__(f"The target answered with status {status}.")
        self.status = status


class UpstreamError(ThumbnailerError):
    """A provider is at fault; ``provider`` names it, once known."""

    retryable = True

    def __init__(
        self,
        message: str,
        *,
        provider: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.provider = provider


class UpstreamFailed(UpstreamError):
    """The provider broke, refused or reset the connection, or crashed."""


class PageCrashed(UpstreamFailed):
    """The page broke the browser that opened it, or took too much memory; the provider works."""


class UpstreamAuth(UpstreamError):
    """The provider refuses this service's key or plan: an operator has to act."""

    retryable = False


class UpstreamQuota(UpstreamError):
    """This service's quota at the provider is used up."""


class UpstreamBusy(UpstreamError):
    """The provider asks to be called again later."""


class UpstreamTimeout(UpstreamError):
    """The provider gave no complete answer within the deadline."""


class TargetTooSlow(UpstreamTimeout):
    """The provider works and says that the page did not come in time."""


class NotAnImage(UpstreamError):
    """The provider sent HTML, JSON, nothing, an animation, or a picture that is cut off or goes on."""


class BlankPicture(NotAnImage):
    """The picture is whole and shows nothing: one colour, but for a few stray pixels."""


class PageChallenged(UpstreamError):
    """The page asks this provider's browser to prove that it is no robot; it may not ask another's."""


class ImageTooLarge(UpstreamError):
    """The picture has more bytes or pixels than this service accepts."""

    retryable = False


class IdempotencyConflict(ThumbnailerError):
    """A request with the same idempotency key is being answered at this moment."""

    retryable = True
    shared = False


class CallerLimited(ThumbnailerError):
    """The caller has used up one of their limits; ``headers`` describe it to them."""

    retryable = True
    shared = False

    def __init__(
        self, message: str, *, retry_after_seconds: float, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.headers = dict(headers or {})


class BudgetSpent(CallerLimited):
    """The captures that this caller, or the whole service, may have on this day are taken."""


class Overloaded(ThumbnailerError):
    """Too many requests wait for a capture here already."""

    retryable = True
    shared = False
    usual_pause_seconds = 5.0


class NotARealPicture(ThumbnailerError):
    """Only a stale copy is at hand, and that is not stored for good."""

    retryable = True

    def __init__(self) -> None:
        super().__init__("Only an old picture of this page is at hand; a new one could not be taken.")


class ImageNotReady(ThumbnailerError):
    """A job's picture is asked for before the job has ended."""

    retryable = True
    shared = False


class CaptureLost(ThumbnailerError):
    """A cached capture vanished while it was being read."""

    retryable = True
    shared = False


class DatabaseUnavailable(ThumbnailerError):
    """The database does not answer, is locked or full."""

    retryable = True
    shared = False
    usual_pause_seconds = 5.0


class CacheUnavailable(ThumbnailerError):
    """The cache does not answer or takes nothing, where that is no mere loss of time."""

    retryable = True
    shared = False

    def __init__(self) -> None:
        super().__init__("The cache does not answer. Please try again.")


class StorageError(ThumbnailerError):
    """Object storage is at fault."""


class StorageUnavailable(StorageError):
    """Object storage does not answer, or refuses to write."""

    retryable = True
    usual_pause_seconds = 30.0


class ObjectNotFound(StorageError):
    """No stored image has the key asked for, or a job will never have a picture."""
