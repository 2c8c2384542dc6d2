"""Storage in a bucket of Amazon S3, or of whatever speaks its protocol: R2, MinIO, Ceph, …"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import structlog
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    SSLError,
)
from botocore.exceptions import (
    ConnectionError as Unreachable,
)

from thumbnailer.errors import StorageUnavailable
from thumbnailer.model import CaptureRecord
from thumbnailer.s3_clients import CredentialsFailed, S3Clients, code_of, status_of
from thumbnailer.s3_settings import S3Settings
from thumbnailer.storage import CACHE_CONTROL, StoredImage, is_object_key, object_url, storage_unavailable

MAX_PRESIGN_SECONDS = 604_800  # seven days: as long as Signature Version 4 allows
NOT_FOUND = 404
TOO_MANY_REQUESTS = 429
SERVER_ERROR = 500

_log = structlog.get_logger(__name__)


class S3Storage:
    """Keeps images as objects of one bucket, their label as the objects' metadata.

    A call takes at most ``attempts`` times (connect + read timeout) and a second or so between attempts
    while the other side is silent (some 27 s by default), ``is_ready`` at most 4 s; the connect timeout
    counts once for every address that the host name has. While bytes flow, a call may take longer.

    The credentials need s3:GetObject and s3:PutObject, and s3:ListBucket as well: without it Amazon
    answers 403, not 404, for an object that does not exist.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_HeadObject.html
    """

    def __init__(self, settings: S3Settings, clock: Callable[[], float] = time.monotonic) -> None:
        import boto3.session  # noqa: F401 - so that no object waits for it

        self._settings = settings
        wanted = {
            "ACL": settings.acl,
            "ServerSideEncryption": settings.sse,
            "SSEKMSKeyId": settings.sse_kms_key_id,
            "StorageClass": settings.storage_class,
        }
        self._object_options = {name: value for name, value in wanted.items() if value is not None}
        self._clients = S3Clients(settings, clock)

    def find(self, key: str) -> StoredImage | None:
        """See ``Storage.find``."""
        if not is_object_key(key):
            return None
        with _translated_errors("find", key):
            try:
                answer = self._clients.call(
                    lambda clients: clients.storing.head_object(Bucket=self._settings.bucket, Key=key)
                )
            except ClientError as error:
                if status_of(error) == NOT_FOUND:
                    return None
                raise
            return self._image_of_answer(key, answer)

    def write(self, key: str, body: bytes, record: CaptureRecord) -> StoredImage:
        """See ``Storage.write``."""
        if not is_object_key(key):
            raise ValueError(f"not an object key: {key!r}")
        with _translated_errors("write", key):
            parameters = {
                "Bucket": self._settings.bucket,
                "Key": key,
                "Body": body,
                "ContentType": record.content_type,
                "CacheControl": CACHE_CONTROL,
                "Metadata": _metadata(record),
                **self._object_options,
            }
            answer = self._clients.call(lambda clients: clients.storing.put_object(**parameters))
            etag = _etag(answer)
            if not etag:
                raise NotAnswered(reason="no ETag in the answer to a write")
            return StoredImage.of_record(record, key=key, url=self._url(key), etag=etag)

    def remove(self, key: str) -> None:
        """See ``Storage.remove``; needs s3:DeleteObject. S3 says the same whether there was one or not."""
        if is_object_key(key):
            with _translated_errors("remove", key):
                self._clients.call(
                    lambda clients: clients.storing.delete_object(Bucket=self._settings.bucket, Key=key)
                )

    def presigned_url(self, key: str, seconds: int) -> str | None:
        """See ``Storage.presigned_url``; a URL of the bucket's own address, for 1 s to seven days."""
        if not 1 <= seconds <= MAX_PRESIGN_SECONDS:
            raise ValueError(f"seconds must lie between 1 and {MAX_PRESIGN_SECONDS}")
        with _translated_errors("presign", key):
            return self._sign(key, seconds)

    def is_ready(self) -> bool:
        """Whether the bucket answers and lets these credentials in; one attempt."""
        try:
            with _translated_errors("probe"):
                self._clients.call(lambda clients: clients.probing.head_bucket(Bucket=self._settings.bucket))
        except StorageUnavailable:
            return False
        return True

    def _sign(self, key: str, seconds: int) -> str:
        parameters = {"Bucket": self._settings.bucket, "Key": key}
        return self._clients.call(
            lambda clients: clients.storing.generate_presigned_url("get_object", parameters, seconds)
        )

    def _url(self, key: str) -> str:
        if self._settings.public_base_url is not None:
            return object_url(self._settings.public_base_url, key)
        return self._sign(key, 1).partition("?")[0]  # boto3 alone knows how it addresses the bucket

    def _image_of_answer(self, key: str, answer: Mapping[str, Any]) -> StoredImage | None:
        label = answer.get("Metadata", {})
        try:
            return StoredImage(
                key=key,
                url=self._url(key),
                etag=_etag(answer),
                sha256=label["sha256"],
                content_type=answer["ContentType"],
                size_bytes=answer["ContentLength"],
                width=int(label["width"]) if "width" in label else None,
                height=int(label["height"]) if "height" in label else None,
                captured_at=float(label["captured-at"]),
            )
        except (KeyError, ValueError):
            _log.warning("storage_label_damaged", object_key=key)
            return None


class NotAnswered(BotoCoreError):
    """Something answered that does not speak S3."""

    fmt = "{reason}"


def _metadata(record: CaptureRecord) -> dict[str, str]:
    facts = {
        "sha256": record.sha256,
        "captured-at": record.captured_at,
        "width": record.width,
        "height": record.height,
    }
    return {name: str(fact) for name, fact in facts.items() if fact is not None}


def _etag(answer: Mapping[str, Any]) -> str:
    return str(answer.get("ETag", "")).removeprefix("W/").strip('"')


@contextlib.contextmanager
def _translated_errors(operation: str, key: str | None = None) -> Iterator[None]:
    """Turn every failure of boto3 into StorageUnavailable, and log what the operator needs of it.

    A warning passes by itself; an error is for the operator to mend. Messages stay out of the log,
    since some quote the request.
    """
    log = _log.bind(operation=operation, object_key=key)
    try:
        yield
    except ClientError as error:
        status = status_of(error)
        request_id = error.response.get("ResponseMetadata", {}).get("RequestId")
        passes_by_itself = status >= SERVER_ERROR or status == TOO_MANY_REQUESTS
        report = log.warning if passes_by_itself else log.error
        report("storage_failed", error=code_of(error), status=status, upstream_request_id=request_id)
        raise storage_unavailable() from error
    except BotoCoreError as error:
        passes_by_itself = isinstance(error, (HTTPClientError, Unreachable)) and not isinstance(
            error, SSLError
        )
        report = log.warning if passes_by_itself else log.error
        reason = f": {error}" if isinstance(error, CredentialsFailed) else ""
        report("storage_failed", error=f"{type(error).__name__}{reason}")
        raise storage_unavailable() from error
