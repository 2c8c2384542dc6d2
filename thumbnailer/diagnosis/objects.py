"""Checks of the bucket: an object of our own is written, found, read and deleted."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from thumbnailer.diagnosis import Verdict, doubtful, well, wrong
from thumbnailer.diagnosis.reasons import causes_of, reason_of
from thumbnailer.diagnosis.wires import Answer, ask
from thumbnailer.errors import StorageUnavailable, ThumbnailerError, UpstreamError
from thumbnailer.model import CaptureRecord, Deadline
from thumbnailer.storage import Storage, StoredImage

#: Under this stand the probes; whatever is left there was left by a check that was killed.
PROBE_FOLDER = "doctor-probe"

RENEW = (
    "Renew the credentials that the AWS SDK finds on this machine, or set S3_ACCESS_KEY_ID and its secret."
)

#: What S3 calls its refusals, and what to do about them.
ADVICE = {
    "AccessDenied": "Give the key GetObject, PutObject, DeleteObject on objects, ListBucket on the bucket.",
    "AccessControlListNotSupported": "Leave S3_ACL out: the bucket has ACLs switched off.",
    "AuthorizationHeaderMalformed": "Let S3_REGION be the bucket's region.",
    "ExpiredToken": RENEW,
    "InvalidAccessKeyId": "Put a key that exists into S3_ACCESS_KEY_ID.",
    "InvalidRegionName": "Let S3_REGION be one that the store has; R2's is auto.",
    "InvalidStorageClass": "Let S3_STORAGE_CLASS be one that the store has.",
    "InvalidToken": RENEW,
    "NoSuchBucket": "Make the bucket, or let S3_BUCKET name the right one.",
    "PermanentRedirect": "Let S3_REGION and S3_ENDPOINT_URL be those of the bucket.",
    "RequestTimeTooSkewed": "Let this machine take its time from NTP.",
    "SignatureDoesNotMatch": "Put the secret that belongs to S3_ACCESS_KEY_ID into S3_SECRET_ACCESS_KEY.",
}
UNREACHABLE = "See whether S3_ENDPOINT_URL and S3_REGION are right, and this machine may connect there."

DISTRUSTED = "Let S3_CA_BUNDLE name the authority that has signed the store's certificate."

#: The store, or a proxy before it, has trouble of its own.
SERVER_ERROR = 500

MakeStorage = Callable[[], Storage]


@contextmanager
def _probe(storage: Storage) -> Iterator[StoredImage]:
    """An object of our own for the length of the block."""
    body = b"written by flask doctor"
    record = CaptureRecord(
        content_type="image/png",
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        width=None,
        height=None,
        captured_at=time.time(),
        provider="doctor",
        upstream_seconds=0.0,
    )
    key = f"{PROBE_FOLDER}/{secrets.token_hex(16)}.png"
    try:
        yield storage.write(key, body, record)
    finally:
        with contextlib.suppress(StorageUnavailable):
            storage.remove(key)


def takes_objects(_deadline: Deadline, *, make: MakeStorage, where: str) -> Verdict:
    """Writes an object with all that objects are written with, finds it, deletes it, and sees it gone."""
    storage = make()
    try:
        with _probe(storage) as image:
            if storage.find(image.key) is None:
                return wrong(f"{where} lost an object at once", "See whether it is a store that speaks S3.")
            if not _is_deleted(storage, image.key):
                advice = f"Give the key s3:DeleteObject, which pages need, and delete {image.key} by hand."
                return doubtful(f"{where} takes objects, and does not delete them", advice)
    except StorageUnavailable as error:
        return _trouble(error, where)
    return well(f"{where} took an object, found it and deleted it")


def _is_deleted(storage: Storage, key: str) -> bool:
    try:
        storage.remove(key)
    except StorageUnavailable:
        return False
    return storage.find(key) is None


def _trouble(error: StorageUnavailable, where: str) -> Verdict:
    if _has_failing_key(error):
        return wrong(f"there are no valid credentials: {reason_of(error)}", RENEW)
    code, status = _refusal(error)
    if code in ADVICE:
        return wrong(f"{where} answers {code}", ADVICE[code])
    if status and code.isalpha():
        busy = "Try again, and see whether the store has trouble."
        told = "See what the store's documentation says of that word."
        return wrong(f"{where} answers {status} {code}", busy if status >= SERVER_ERROR else told)
    if status:
        return wrong(
            f"{where} answers {status}", "See that S3_ENDPOINT_URL is that of a store that speaks S3."
        )
    if _has_no_key(error):
        return wrong(
            "no credentials were found",
            "Set S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY, or give this machine a role for the bucket.",
        )
    is_distrusted = any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes_of(error))
    return wrong(f"{where}: {reason_of(error)}", DISTRUSTED if is_distrusted else UNREACHABLE)


def _has_no_key(error: StorageUnavailable) -> bool:
    from botocore.exceptions import NoCredentialsError

    return any(isinstance(cause, NoCredentialsError) for cause in causes_of(error))


def _has_failing_key(error: StorageUnavailable) -> bool:
    from botocore.exceptions import ConfigParseError, CredentialRetrievalError, PartialCredentialsError

    from thumbnailer.s3_clients import CredentialsFailed

    kinds = (ConfigParseError, CredentialRetrievalError, CredentialsFailed, PartialCredentialsError)
    return any(isinstance(cause, kinds) for cause in causes_of(error))


def _refusal(error: StorageUnavailable) -> tuple[str, int]:
    """S3's own word and the HTTP status; a HEAD's answer has no word, so 403 there means a lack of rights."""
    for cause in causes_of(error):
        response = getattr(cause, "response", None)
        if isinstance(response, dict):
            status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
            code = str(response.get("Error", {}).get("Code", ""))
            return ("AccessDenied" if code == "403" else code), status
    return "", 0


def is_read_by_the_public(deadline: Deadline, *, make: MakeStorage, is_promised: bool) -> Verdict:
    """Fetches an object from where answers send callers; ``is_promised`` where S3_PUBLIC_BASE_URL is set."""
    storage = make()
    try:
        with _probe(storage) as image:
            answer, place = ask(image.url, deadline), image.url.rpartition(f"/{PROBE_FOLDER}/")[0]
    except UpstreamError as error:
        return doubtful(
            f"nobody could be asked: {reason_of(error)}",
            "See whether S3_PUBLIC_BASE_URL is right, and this machine may connect to it.",
        )
    except StorageUnavailable:
        return doubtful("there is no object to read", "See what the check before says.")
    except ThumbnailerError as error:
        return wrong(reason_of(error), UNREACHABLE)
    return _judged(answer, place, is_promised=is_promised)


def _judged(answer: Answer, place: str, *, is_promised: bool) -> Verdict:
    if answer.status == 200 and answer.body == b"written by flask doctor":
        return well(f"{place} shows objects to everybody")
    found = f"{place} answers {answer.status} to who has no key"
    if is_promised:
        return doubtful(
            found,
            "Let S3_PUBLIC_BASE_URL name the CDN or domain that serves the bucket's objects to everybody.",
        )
    return well(f"{found}: the bucket is private, and callers ask with presign")
