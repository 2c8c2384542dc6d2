"""Storage in S3: what goes over the wire, who is let in, and what happens when the other side fails."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
from structlog.testing import capture_logs

from tests.support.certificates import Certificates, make_certificates
from tests.support.s3 import (
    Fault,
    RecordedRequest,
    S3Server,
    SmallS3,
    forget_aws_settings,
    record_of,
    refusing_s3,
    running_s3,
    small_s3,
)
from thumbnailer.errors import StorageUnavailable
from thumbnailer.s3_settings import S3Settings
from thumbnailer.s3_storage import S3Storage
from thumbnailer.storage import CACHE_CONTROL

KEY = "thumbs/größe/x.png"
KEY_IN_URL = "thumbs/gr%C3%B6%C3%9Fe/x.png"
BODY = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 400
RECORD = record_of(BODY)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_aws_settings(monkeypatch)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module", params=[False, True], ids=["over http", "over https"])
def s3(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with running_s3(tmp_path_factory.mktemp("s3"), tls=request.param) as server:
        yield server


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


class TestWhoIsLetIn:
    def assert_refused(self, storage: S3Storage, error: str) -> None:
        with capture_logs() as logs:
            assert not storage.is_ready()
            with pytest.raises(StorageUnavailable):
                storage.find(KEY)
            with pytest.raises(StorageUnavailable):
                storage.write(KEY, BODY, RECORD)
        assert {log["log_level"] for log in logs} == {"error"}
        assert logs[-1]["error"] == error

    def test_a_wrong_secret_is_refused(self, s3: S3Server) -> None:
        settings = replace(s3.settings(), secret_access_key="wrong")
        self.assert_refused(S3Storage(settings), "SignatureDoesNotMatch")

    def test_an_unknown_key_is_refused(self, s3: S3Server) -> None:
        settings = replace(s3.settings(), access_key_id="AKIDUNKNOWN")
        self.assert_refused(S3Storage(settings), "InvalidAccessKeyId")

    def test_without_credentials_nothing_is_even_asked(self) -> None:
        with small_s3() as small:
            settings = replace(small.settings(), access_key_id=None, secret_access_key=None)
            self.assert_refused(S3Storage(settings), "NoCredentialsError")
            with pytest.raises(StorageUnavailable):
                S3Storage(settings).presigned_url(KEY, 60)
        assert small.requests == []

    def test_credentials_may_come_from_where_boto3_looks(
        self, s3: S3Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3.secret_access_key)
        storage = S3Storage(replace(s3.settings(), access_key_id=None, secret_access_key=None))
        assert storage.is_ready()
        assert storage.write(KEY, BODY, RECORD) == storage.find(KEY)

    def test_a_missing_bucket_is_the_operators_fault(self, s3: S3Server) -> None:
        storage = S3Storage(replace(s3.settings(), bucket="never-made"))
        assert not storage.is_ready()
        with capture_logs() as logs, pytest.raises(StorageUnavailable):
            storage.write(KEY, BODY, RECORD)
        assert (logs[0]["error"], logs[0]["log_level"]) == ("NoSuchBucket", "error")

    def test_a_certificate_of_an_unknown_authority_is_refused(self, certificates: Certificates) -> None:
        with small_s3(certificates=certificates) as small:
            self.assert_refused(S3Storage(replace(small.settings(), ca_bundle=None)), "SSLError")
        assert small.requests == []

    def test_an_authority_file_that_is_not_there_is_unavailable(self, certificates: Certificates) -> None:
        with small_s3(certificates=certificates) as small, pytest.raises(StorageUnavailable):
            S3Storage(replace(small.settings(), ca_bundle="/no/such/file.pem")).find(KEY)

    def test_the_authority_may_come_from_the_environment(
        self, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates.ca_path))
        with small_s3(certificates=certificates) as small:
            assert S3Storage(replace(small.settings(), ca_bundle=None)).find(KEY) is None


class TestFailures:
    @pytest.mark.parametrize(
        ("fault", "error", "level"),
        [
            pytest.param(None, "EndpointConnectionError", "warning", id="refuses connections"),
            pytest.param(Fault.SILENT, "ReadTimeoutError", "warning", id=Fault.SILENT),
            pytest.param(Fault.SLOW_DOWN, "SlowDown", "warning", id=Fault.SLOW_DOWN),
            pytest.param(Fault.INTERNAL_ERROR, "InternalError", "warning", id=Fault.INTERNAL_ERROR),
            pytest.param(Fault.CUT_OFF, "ConnectionClosedError", "warning", id=Fault.CUT_OFF),
            pytest.param(Fault.ACCESS_DENIED, "AccessDenied", "error", id=Fault.ACCESS_DENIED),
            pytest.param(Fault.NO_SUCH_BUCKET, "NoSuchBucket", "error", id=Fault.NO_SUCH_BUCKET),
            pytest.param(Fault.HTML, "NotAnswered", "error", id=Fault.HTML),
            pytest.param(Fault.MOVED, "Moved", "error", id=Fault.MOVED),
        ],
    )
    def test_a_failed_write_is_unavailable_and_the_log_says_why(
        self, fault: Fault | None, error: str, level: str
    ) -> None:
        with (
            small_s3(fault) if fault else refusing_s3() as s3,
            capture_logs() as logs,
            pytest.raises(StorageUnavailable) as caught,
        ):
            S3Storage(s3.settings()).write(KEY, BODY, RECORD)
        assert caught.value.retryable
        assert caught.value.retry_after_seconds
        assert str(caught.value) == "The storage for images does not work at present."
        (log,) = logs
        assert (log["error"], log["log_level"], log["operation"]) == (error, level, "write")
        for secret in ("secret-of-the-tests", "AKIDOFTHETESTS", "Authorization"):
            assert secret not in json.dumps(log)

    @pytest.mark.parametrize(
        "fault",
        [
            *(None, Fault.SILENT, Fault.SLOW_DOWN, Fault.INTERNAL_ERROR, Fault.CUT_OFF, Fault.ACCESS_DENIED),
            Fault.MOVED,
        ],
        ids=str,
    )
    def test_a_storage_that_cannot_say_is_unavailable_and_not_ready(self, fault: Fault | None) -> None:
        with small_s3(fault) if fault else refusing_s3() as s3:
            storage = S3Storage(s3.settings())
            with pytest.raises(StorageUnavailable):
                storage.find(KEY)
            assert not storage.is_ready()

    @pytest.mark.parametrize("fault", [Fault.SILENT, Fault.SLOW_DOWN, Fault.CUT_OFF], ids=str)
    @pytest.mark.parametrize("attempts", [1, 3])
    def test_it_is_tried_as_often_as_configured_and_readiness_once(self, fault: Fault, attempts: int) -> None:
        with small_s3(fault) as s3:
            storage = S3Storage(replace(s3.settings(), attempts=attempts))
            with pytest.raises(StorageUnavailable):
                storage.write(KEY, BODY, RECORD)
            with pytest.raises(StorageUnavailable):
                storage.find(KEY)
            assert not storage.is_ready()
        methods = [request.method for request in s3.requests]
        assert methods == ["PUT"] * attempts + ["HEAD"] * attempts + ["HEAD"]

    def test_a_retry_sends_the_whole_picture_again(self) -> None:
        with small_s3(Fault.INTERNAL_ERROR) as s3, pytest.raises(StorageUnavailable):
            S3Storage(s3.settings()).write(KEY, BODY, RECORD)
        assert [request.body for request in s3.requests] == [BODY, BODY]

    def test_a_page_that_poses_as_an_object_is_none(self) -> None:
        with small_s3(Fault.HTML) as s3:
            assert S3Storage(s3.settings()).find(KEY) is None

    def test_a_proxy_that_is_configured_wrongly_is_unavailable(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        with small_s3() as s3, pytest.raises(StorageUnavailable):
            S3Storage(s3.settings()).find(KEY)
        assert s3.requests == []


class TestProcesses:
    SCRIPT = textwrap.dedent("""
        import json, os, sys
        from thumbnailer.s3_settings import S3Settings
        from thumbnailer.s3_storage import S3Storage

        storage = S3Storage(S3Settings(**json.loads(sys.argv[1])))
        assert storage.find("thumbs/before.png")  # the parent is connected before it forks
        child = os.fork()
        name = "parent" if child else "child"
        sizes = {storage.find(f"thumbs/{name}.png").size_bytes for _ in range(100)}
        if not child:
            os._exit(0 if sizes == {len(b"child")} else 1)
        _, status = os.waitpid(child, 0)
        assert sizes == {len(b"parent")}, sizes
        assert status == 0, "the child was given something else"
    """)

    def test_parent_and_child_of_a_fork_each_get_their_own_objects(self) -> None:
        with small_s3() as s3:
            storage = S3Storage(s3.settings())
            for name in ("before", "parent", "child"):
                storage.write(f"thumbs/{name}.png", name.encode(), record_of(name.encode()))
            settings = json.dumps(asdict(s3.settings()))
            run = subprocess.run(
                [sys.executable, "-c", self.SCRIPT, settings], capture_output=True, text=True, check=False
            )
        assert run.returncode == 0, run.stderr


class TestSettings:
    def test_secrets_are_not_shown(self) -> None:
        settings = S3Settings(bucket="b", access_key_id="AKID", secret_access_key="very-secret")
        assert "very-secret" not in repr(settings)
        assert "AKID" not in repr(settings)

    @pytest.mark.parametrize(
        "endpoint_url",
        ["http://minio:9000", "https://s3.example/gateway", "http://127.0.0.1:9000", "http://[::1]:9000"],
    )
    def test_an_endpoint_is_any_http_address(self, endpoint_url: str) -> None:
        settings = S3Settings(
            bucket="thumbs", endpoint_url=endpoint_url, access_key_id="a", secret_access_key="b"
        )
        presigned = S3Storage(settings).presigned_url("x.png", 5)
        assert presigned is not None
        assert presigned.startswith(f"{endpoint_url}/thumbs/x.png?")

    @pytest.mark.parametrize(
        ("changes", "fault"),
        [
            pytest.param({"bucket": ""}, "bucket", id="no bucket"),
            pytest.param({"access_key_id": "AKID"}, "secret_access_key", id="a key without a secret"),
            pytest.param({"secret_access_key": "x"}, "access_key_id", id="a secret without a key"),
            pytest.param({"endpoint_url": "minio:9000"}, "endpoint_url", id="an endpoint without a scheme"),
            pytest.param(
                {"endpoint_url": "http://minio_1:9000"}, "endpoint_url", id="an underscore in the host"
            ),
            pytest.param({"endpoint_url": "http://minio:99999"}, "endpoint_url", id="an impossible port"),
            pytest.param({"endpoint_url": "http://[::1"}, "endpoint_url", id="an open bracket"),
            pytest.param({"endpoint_url": "http://"}, "endpoint_url", id="an endpoint without a host"),
            pytest.param(
                {"endpoint_url": "http://u:p@host"}, "endpoint_url", id="an endpoint with a password"
            ),
            pytest.param({"sse_kms_key_id": "k"}, "sse_kms_key_id", id="a KMS key without KMS"),
            pytest.param({"sse_kms_key_id": "k", "sse": "AES256"}, "needs sse", id="a KMS key for SSE-S3"),
            pytest.param({"attempts": 0}, "attempts", id="no attempt"),
            pytest.param({"read_timeout_seconds": 0}, "timeouts", id="no time"),
        ],
    )
    def test_what_cannot_go_together_is_refused_with_the_name_of_the_part(
        self, changes: dict[str, Any], fault: str
    ) -> None:
        with pytest.raises(ValueError, match=fault):
            S3Settings(**({"bucket": "thumbs"} | changes))
