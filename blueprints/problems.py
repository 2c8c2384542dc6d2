"""The problems that a caller can meet: the one place that knows slugs, titles and statuses."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem document; ``explanation`` is the text of its page."""

    slug: str
    status: int
    title: str
    explanation: str


def _table(*rows: tuple[str, int, str, str]) -> dict[str, ProblemType]:
    return {row[0]: ProblemType(*row) for row in rows}


PROBLEMS = _table(
    (
        "invalid-parameters",
        400,
        "Invalid parameters",
        (
            "A parameter is unknown, repeated, of the wrong type or out of range. "
            "The member errors names each field and says what is wrong with it."
        ),
    ),
    (
        "unauthorized",
        401,
        "Unauthorized",
        (
            "This needs an API key, in the header X-API-Key or as Authorization: Bearer. There is none in "
            "the request, or it is unknown, revoked or expired."
        ),
    ),
    (
        "scope-missing",
        403,
        "Not for this key",
        (
            "The API key is good, but not for this: it lacks a scope, or the request comes from a page that "
            "the key is not for. The detail says which. flask keys list shows what a key may do."
        ),
    ),
    (
        "target-forbidden",
        403,
        "Target forbidden",
        (
            "The target is not a public web page: its scheme, port or address is one that this service never "
            "visits; or the webhook_url is none, where errors names that. An operator can open exceptions "
            "with ALLOWED_PRIVATE_TARGETS, and ports with TARGET_PORTS."
        ),
    ),
    (
        "signature-required",
        403,
        "Signature required",
        "This URL needs a signature (sig) or an API key, and has neither. POST /sign makes signed URLs.",
    ),
    (
        "signature-invalid",
        403,
        "Signature invalid",
        (
            "The signature was made with a key that is not live, or for another path or other parameters. "
            "POST /sign/debug says which."
        ),
    ),
    (
        "signature-expired",
        403,
        "Signature expired",
        "The URL was signed well, but the time that its exp names is over. Ask for a new one.",
    ),
    (
        "not-found",
        404,
        "Not found",
        (
            "There is nothing at this address, or nothing that this caller may see. Jobs, batches and "
            "messages are forgotten some time after their end (JOB_RETENTION)."
        ),
    ),
    (
        "image-not-ready",
        404,
        "Image not ready",
        "The job, or the page that is kept, has no picture yet. Retry-After says when to ask again.",
    ),
    (
        "method-not-allowed",
        405,
        "Method not allowed",
        "The address exists, but not for this method. The header Allow names those it has.",
    ),
    (
        "not-a-real-picture",
        409,
        "Not a real picture",
        (
            "Only a new picture is stored for good. There is just an old one, because a new one could not "
            "be taken. Try again later."
        ),
    ),
    (
        "idempotency-conflict",
        409,
        "Request under way",
        "A request with the same Idempotency-Key is still being answered. Ask again a little later.",
    ),
    (
        "precondition-failed",
        412,
        "Precondition failed",
        "The picture is not the version that If-Match or If-Unmodified-Since names.",
    ),
    (
        "body-too-large",
        413,
        "Body too large",
        "The request's body is larger than the operator allows (MAX_BODY_BYTES).",
    ),
    (
        "range-not-satisfiable",
        416,
        "Range not satisfiable",
        "The picture has no such bytes. The header Content-Range says how many there are.",
    ),
    (
        "target-unreachable",
        422,
        "Target unreachable",
        (
            "The target's host has no address, does not answer, says that the page is gone, or asks visitors "
            "to prove that they are no robots before it shows the page."
        ),
    ),
    (
        "target-status",
        422,
        "Target answered with an error",
        (
            "The page was reached, but answered with a status that counts as a failure. "
            "The option fail_on_status says which do."
        ),
    ),
    (
        "option-unsupported",
        422,
        "Option not supported",
        (
            "No configured provider can do what an option asks for, or an upstream refuses it. "
            "The detail names the option and the provider."
        ),
    ),
    (
        "idempotency-mismatch",
        422,
        "Idempotency-Key used before",
        "The Idempotency-Key came with another body within the last 24 hours. Use a new one.",
    ),
    (
        "rate-limited",
        429,
        "Rate limited",
        (
            "This caller has used up a limit, or the service its captures of this day. "
            "Retry-After says when to come back; "
            "RateLimit-Policy and RateLimit describe the limit."
        ),
    ),
    (
        "internal",
        500,
        "Internal error",
        "Something went wrong in the service itself. The request id finds the error in its log.",
    ),
    (
        "upstream-failed",
        502,
        "Upstream failed",
        "Every provider that could take the picture broke, crashed or refused the connection.",
    ),
    (
        "upstream-auth",
        502,
        "Upstream refused this service",
        "A provider does not accept this service's key or plan. The operator has to look at the log.",
    ),
    (
        "not-an-image",
        502,
        "Not an image",
        (
            "The provider sent something that is no whole, still picture: a web page, JSON, nothing, "
            "half a file, an animation, or a picture of one colour all over (REFUSE_BLANK)."
        ),
    ),
    (
        "image-too-large",
        502,
        "Image too large",
        "The picture has more bytes or pixels than the operator allows (MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS).",
    ),
    (
        "upstream-busy",
        503,
        "Upstream busy",
        "The provider asks this service to wait. Retry-After says how long.",
    ),
    (
        "upstream-quota",
        503,
        "Upstream quota used up",
        "This service's quota at the provider is used up.",
    ),
    (
        "overloaded",
        503,
        "Overloaded",
        (
            "More captures are asked for, or more callers wait for one, than this service takes at once. "
            "Retry-After says when to come back."
        ),
    ),
    (
        "database-unavailable",
        503,
        "Database unavailable",
        "The service's database does not answer. Requests that do not need it still work; try again later.",
    ),
    (
        "cache-unavailable",
        503,
        "Cache unavailable",
        (
            "The cache does not answer, so nothing can be purged now, or not all of it. "
            "Send the purge again until it succeeds."
        ),
    ),
    (
        "storage-unavailable",
        503,
        "Storage unavailable",
        (
            "The object storage does not answer or refuses to write. The capture stays in the cache: "
            "trying again costs no second one."
        ),
    ),
    (
        "upstream-timeout",
        504,
        "Upstream timeout",
        "The provider gave no complete answer in time (UPSTREAM_TIMEOUT).",
    ),
)
