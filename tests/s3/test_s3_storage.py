"""What lies in a bucket, and what is said to get it there and out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.support.certificates import Certificates
from tests.support.s3 import (
    Fault,
    RecordedRequest,
    S3Server,
    SmallS3,
    record_of,
    refusing_s3,
    small_s3,
)
from tests.support.s3_records import BODY, KEY, RECORD
from thumbnailer.s3_settings import S3Settings
from thumbnailer.s3_storage import S3Storage
from thumbnailer.storage import CACHE_CONTROL

KEY_IN_URL = "thumbs/gr%C3%B6%C3%9Fe/x.png"


@pytest.fixture(params=[False, True], ids=["over http", "over https"])
def wire(request: pytest.FixtureRequest, certificates: Certificates) -> Iterator[SmallS3]:
    with small_s3(certificates=certificates if request.param else None) as small:
        yield small


def verified_by(server: S3Server) -> str | bool:
    return str(server.ca_path) if server.ca_path else True


class TestWhatIsStored:
    def test_the_object_is_served_with_its_type_and_for_ever(self, s3: S3Server) -> None:
        settings = replace(s3.settings(), acl="public-read")
        written = S3Storage(settings).write(KEY, BODY, RECORD)
        assert written.url == f"{s3.endpoint_url}/{s3.bucket}/{KEY_IN_URL}"
        s3.require_signatures(required=False)  # the public signs nothing
        try:
            answer = requests.get(written.url, timeout=10, verify=verified_by(s3))
        finally:
            s3.require_signatures(required=True)
        assert (answer.status_code, answer.content) == (200, BODY)
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.headers["Cache-Control"] == CACHE_CONTROL == "public, max-age=31536000, immutable"
        assert answer.headers["ETag"] == f'"{written.etag}"'

    def test_the_label_is_the_metadata(self, s3: S3Server) -> None:
        S3Storage(s3.settings()).write(KEY, BODY, RECORD)
        assert s3.client().head_object(Bucket=s3.bucket, Key=KEY)["Metadata"] == {
            "sha256": hashlib.sha256(BODY).hexdigest(),
            "captured-at": "1793000000.25",
            "width": "1280",
            "height": "720",
        }

    def test_an_object_that_somebody_else_put_there_is_not_found_but_overwritten(self, s3: S3Server) -> None:
        s3.client().put_object(Bucket=s3.bucket, Key="thumbs/foreign.png", Body=b"foreign")
        storage = S3Storage(s3.settings())
        assert storage.find("thumbs/foreign.png") is None
        written = storage.write("thumbs/foreign.png", BODY, RECORD)
        assert storage.find("thumbs/foreign.png") == written

    @pytest.mark.parametrize("moment", ["nan", "inf", "1e300", "-1", "yesterday"])
    def test_an_object_with_a_moment_that_is_none_is_not_found_but_overwritten(
        self, s3: S3Server, moment: str
    ) -> None:
        key, storage = f"thumbs/{moment}.png", S3Storage(s3.settings())
        label = {"sha256": hashlib.sha256(BODY).hexdigest(), "captured-at": moment}
        s3.client().put_object(Bucket=s3.bucket, Key=key, Body=BODY, Metadata=label)
        assert storage.find(key) is None
        written = storage.write(key, BODY, RECORD)
        assert storage.find(key) == written

    @pytest.mark.parametrize(
        ("option", "header"),
        [
            pytest.param({"acl": "public-read"}, {"x-amz-acl": "public-read"}, id="ACL"),
            pytest.param({"sse": "AES256"}, {"x-amz-server-side-encryption": "AES256"}, id="SSE-S3"),
            pytest.param(
                {"sse": "aws:kms", "sse_kms_key_id": "key-7"},
                {
                    "x-amz-server-side-encryption": "aws:kms",
                    "x-amz-server-side-encryption-aws-kms-key-id": "key-7",
                },
                id="SSE-KMS",
            ),
            pytest.param(
                {"sse": "aws:kms:dsse", "sse_kms_key_id": "key-7"},
                {
                    "x-amz-server-side-encryption": "aws:kms:dsse",
                    "x-amz-server-side-encryption-aws-kms-key-id": "key-7",
                },
                id="DSSE-KMS",
            ),
            pytest.param(
                {"storage_class": "STANDARD_IA"}, {"x-amz-storage-class": "STANDARD_IA"}, id="storage class"
            ),
        ],
    )
    def test_what_is_configured_is_sent_with_the_object_and_nothing_else(
        self, option: dict[str, Any], header: dict[str, str]
    ) -> None:
        with small_s3() as plain, small_s3() as configured:
            S3Storage(plain.settings()).write(KEY, BODY, RECORD)
            S3Storage(replace(configured.settings(), **option)).write(KEY, BODY, RECORD)
        names_of_one_request = {"authorization", "x-amz-date", "amz-sdk-invocation-id", "host"}
        without, with_option = (small.requests[0].headers for small in (plain, configured))
        more = {name: text for name, text in with_option.items() if without.get(name) != text}
        assert {name: text for name, text in more.items() if name not in names_of_one_request} == header
        assert without.keys() <= with_option.keys()


class TestTheWire:
    def put(self, wire: SmallS3) -> RecordedRequest:
        S3Storage(wire.settings()).write(KEY, BODY, RECORD)
        (request,) = wire.requests
        return request

    def test_the_bytes_are_sent_plain_with_their_length(self, wire: SmallS3) -> None:
        request = self.put(wire)
        assert (request.method, request.target) == ("PUT", f"/thumbs-of-the-tests/{KEY_IN_URL}")
        assert request.body == BODY
        assert request.headers["content-length"] == str(len(BODY))
        assert request.headers["content-type"] == "image/png"
        assert "aws-chunked" not in request.headers.get("content-encoding", "")
        assert "transfer-encoding" not in request.headers

    def test_there_is_no_checksum_in_a_header_or_trailer(self, wire: SmallS3) -> None:
        names = self.put(wire).headers.keys()
        assert not [name for name in names if "checksum" in name or "trailer" in name]
        assert "x-amz-decoded-content-length" not in names

    def test_it_is_signed_by_version_4_for_the_region_bytes_included(self, wire: SmallS3) -> None:
        headers = self.put(wire).headers
        assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDOFTHETESTS/")
        assert "/eu-central-1/s3/aws4_request" in headers["authorization"]
        assert headers["x-amz-content-sha256"] == hashlib.sha256(BODY).hexdigest()

    def test_finding_costs_one_head_and_no_get(self, wire: SmallS3) -> None:
        storage = S3Storage(wire.settings())
        storage.write(KEY, BODY, RECORD)
        assert storage.find(KEY) is not None
        assert storage.find("thumbs/other.png") is None
        assert [request.method for request in wire.requests] == ["PUT", "HEAD", "HEAD"]

    def test_a_large_picture_gets_through_though_sending_takes_longer_than_connecting_may(self) -> None:
        body = os.urandom(12_000_000)
        with small_s3(Fault.SLOW_LINE) as slow:
            S3Storage(replace(slow.settings(), read_timeout_seconds=10, attempts=1)).write(
                KEY, body, record_of(body)
            )
        assert [request.body == body for request in slow.requests] == [True]


class TestUrls:
    @pytest.mark.parametrize(
        ("changes", "url"),
        [
            pytest.param({}, "https://thumbs.s3.eu-central-1.amazonaws.com/", id="Amazon"),
            pytest.param(
                {"addressing_style": "path"},
                "https://s3.eu-central-1.amazonaws.com/thumbs/",
                id="Amazon, by path",
            ),
            pytest.param(
                {"endpoint_url": "http://minio.example:9000"},
                "http://minio.example:9000/thumbs/",
                id="elsewhere",
            ),
            pytest.param(
                {"endpoint_url": "https://objects.example", "addressing_style": "virtual"},
                "https://thumbs.objects.example/",
                id="elsewhere, by host",
            ),
            pytest.param(
                {"endpoint_url": "https://account.r2.example", "region": "auto"},
                "https://account.r2.example/thumbs/",
                id="R2",
            ),
            pytest.param(
                {"public_base_url": "https://cdn.example"},
                "https://thumbs.s3.eu-central-1.amazonaws.com/",
                id="never the CDN, which does not know the signature",
            ),
        ],
    )
    def test_a_presigned_url_points_to_the_bucket_as_it_is_addressed(
        self, changes: dict[str, Any], url: str
    ) -> None:
        settings = S3Settings(
            bucket="thumbs", region="eu-central-1", access_key_id="AKID", secret_access_key="very-secret"
        )
        presigned = S3Storage(replace(settings, **changes)).presigned_url(KEY, 90)
        assert presigned is not None
        assert presigned.partition("?")[0] == url + KEY_IN_URL
        query = parse_qs(urlsplit(presigned).query)
        assert query["X-Amz-Expires"] == ["90"]
        assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
        assert "very-secret" not in presigned

    def test_a_presigned_url_opens_a_private_object_and_the_bare_one_does_not(self, s3: S3Server) -> None:
        storage = S3Storage(s3.settings())
        written = storage.write("thumbs/private.png", BODY, RECORD)
        presigned = storage.presigned_url("thumbs/private.png", 60)
        assert presigned is not None
        s3.require_signatures(required=False)  # the server cannot check signatures in a query
        try:
            bare, opened = (
                requests.get(url, timeout=10, verify=verified_by(s3)) for url in (written.url, presigned)
            )
        finally:
            s3.require_signatures(required=True)
        assert bare.status_code == 403
        assert (opened.status_code, opened.content) == (200, BODY)

    @pytest.mark.parametrize("seconds", [-1, 0, 604_801])
    def test_nothing_is_signed_for_longer_than_seven_days(self, seconds: int) -> None:
        with refusing_s3() as s3, pytest.raises(ValueError, match="between 1 and 604800"):
            S3Storage(s3.settings()).presigned_url(KEY, seconds)
