"""How a bucket is reached, checked before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

KMS_ENCRYPTIONS = ("aws:kms", "aws:kms:dsse")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """How the bucket is reached and what its objects are written with.

    ``region`` None leaves the choice to boto3 (Cloudflare R2 wants ``auto``); ``endpoint_url`` None is
    Amazon. Without ``access_key_id`` and ``secret_access_key`` boto3's own chain of credentials is asked.
    ``addressing_style`` ``auto`` puts the bucket into the host name at Amazon and into the path
    elsewhere. ``public_base_url`` is where the public reads, for instance a CDN; without it that is
    the bucket's own address. ``ca_bundle`` is a PEM file to check certificates against, None for the
    usual one (``AWS_CA_BUNDLE``, else boto3's). Who has looked for credentials in vain does not look
    again for ``credentials_pause_seconds``: where nothing answers, that alone takes seconds.

    Raises ValueError where the parts cannot go together; the message names the part.
    """

    bucket: str
    region: str | None = None
    endpoint_url: str | None = None
    public_base_url: str | None = None
    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    addressing_style: Literal["auto", "path", "virtual"] = "auto"
    acl: str | None = None
    sse: str | None = None
    sse_kms_key_id: str | None = None
    storage_class: str | None = None
    connect_timeout_seconds: float = 3.0
    read_timeout_seconds: float = 10.0
    attempts: int = 2
    credentials_pause_seconds: float = 5.0
    ca_bundle: str | None = None

    def __post_init__(self) -> None:
        if not self.bucket:
            raise ValueError("bucket is empty")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key need each other")
        if self.endpoint_url is not None and not _is_plain_http_url(self.endpoint_url):
            raise ValueError(
                "endpoint_url is not an http or https URL with a valid host (no _), without user and query"
            )
        if self.sse_kms_key_id is not None and self.sse not in KMS_ENCRYPTIONS:
            raise ValueError("sse_kms_key_id needs sse to be aws:kms or aws:kms:dsse")
        if self.attempts < 1 or self.connect_timeout_seconds <= 0 or self.read_timeout_seconds <= 0:
            raise ValueError("attempts and timeouts have to be greater than zero")


def _is_plain_http_url(url: str) -> bool:
    from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    # boto3 takes no other hosts, and would say so only when the first object is written.
    has_host = is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url)
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc or port == 0)
    return parts.scheme in ("http", "https") and bool(has_host) and is_plain
