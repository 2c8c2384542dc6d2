"""Which problem tells a caller of an error or of an HTTP status."""

from __future__ import annotations

from blueprints.problems import PROBLEMS, ProblemType
from thumbnailer import errors

#: Most special class first: the first match counts.
SLUG_OF_ERROR: tuple[tuple[type[errors.ThumbnailerError], str], ...] = (
    (errors.InvalidParameters, "invalid-parameters"),
    (errors.InvalidTarget, "invalid-parameters"),
    (errors.Unauthorized, "unauthorized"),
    (errors.ScopeMissing, "scope-missing"),
    (errors.TargetForbidden, "target-forbidden"),
    (errors.SignatureRequired, "signature-required"),
    (errors.SignatureInvalid, "signature-invalid"),
    (errors.SignatureExpired, "signature-expired"),
    (errors.OptionUnsupported, "option-unsupported"),
    (errors.IdempotencyMismatch, "idempotency-mismatch"),
    (errors.IdempotencyConflict, "idempotency-conflict"),
    (errors.CaptureRefused, "option-unsupported"),
    (errors.TargetUnreachable, "target-unreachable"),
    (errors.TargetStatus, "target-status"),
    (errors.PageChallenged, "target-unreachable"),
    (errors.UpstreamAuth, "upstream-auth"),
    (errors.UpstreamQuota, "upstream-quota"),
    (errors.UpstreamBusy, "upstream-busy"),
    (errors.UpstreamTimeout, "upstream-timeout"),
    (errors.NotAnImage, "not-an-image"),
    (errors.ImageTooLarge, "image-too-large"),
    (errors.UpstreamFailed, "upstream-failed"),
    (errors.CallerLimited, "rate-limited"),
    (errors.Overloaded, "overloaded"),
    (errors.NotARealPicture, "not-a-real-picture"),
    (errors.ImageNotReady, "image-not-ready"),
    (errors.CaptureLost, "overloaded"),
    (errors.DatabaseUnavailable, "database-unavailable"),
    (errors.CacheUnavailable, "cache-unavailable"),
    (errors.StorageUnavailable, "storage-unavailable"),
    (errors.ObjectNotFound, "not-found"),
    (errors.NothingToSignWith, "not-found"),
)
#: What another page would not have caused, and is no fault of a provider, although it looks like one.
PAGE_FAULTS = (errors.BlankPicture, errors.ImageTooLarge, errors.PageCrashed)

SLUG_OF_STATUS = {
    404: "not-found",
    405: "method-not-allowed",
    412: "precondition-failed",
    413: "body-too-large",
    416: "range-not-satisfiable",
    429: "rate-limited",
}
#: What is said of a status for which the explanation of its problem would be too general.
STATUS_DETAILS = {
    400: "The request is not one that HTTP allows.",
    408: "The request did not come in time.",
    411: "A body must say how long it is: send Content-Length.",
    414: "The request line is too long.",
    415: "A body must not be compressed or otherwise encoded.",
    417: "The header Expect asks for what this service does not do.",
    431: "There are too many header fields, or one is too long.",
}


def problem_of_error(error: errors.ThumbnailerError) -> ProblemType:
    """The problem type that tells a caller of ``error``."""
    slug = next((slug for kind, slug in SLUG_OF_ERROR if isinstance(error, kind)), "internal")
    return PROBLEMS[slug]


def problem_of_status(status: int) -> ProblemType:
    """The problem type that tells of an HTTP error that Flask or Werkzeug raised."""
    slug = SLUG_OF_STATUS.get(status, "invalid-parameters" if status < 500 else "internal")
    return PROBLEMS[slug]
