"""Who is let into a bucket, and what happens where the store fails."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from dataclasses import asdict, replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.support.certificates import Certificates
from tests.support.s3 import (
    Fault,
    S3Server,
    record_of,
    refusing_s3,
    small_s3,
)
from tests.support.s3_records import BODY, KEY, RECORD
from thumbnailer.errors import StorageUnavailable
from thumbnailer.s3_settings import S3Settings
from thumbnailer.s3_storage import S3Storage


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
