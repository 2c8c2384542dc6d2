"""flask doctor on folders and buckets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support import answers
from tests.support.certificates import make_certificates
from tests.support.doctor import (
    PASSWORD,
    as_an_ordinary_user,
    examine,
    fresh_settings,
)
from tests.support.s3 import BUCKET, Fault, S3Server, forget_aws_settings, running_s3, small_s3
from tests.support.upstream import Upstream


@pytest.fixture
def fresh(tmp_path: Path, upstream: Upstream) -> dict[str, str]:
    return fresh_settings(tmp_path, upstream.url)


# --- Folders ----------------------------------------------------------------------------------


def test_folders_that_cannot_be_written_fail(fresh: dict[str, str]) -> None:
    examine(fresh, "cache", "storage")  # loads what root alone may be able to read
    with as_an_ordinary_user() as folder:
        environ = fresh | {"CACHE_DIR": str(folder), "MEDIA_DIR": str(folder / "below")}
        report = examine(environ, "cache", "storage")
    assert report.code == 1
    assert report.of("cache", "folder")[1].startswith(
        f"{folder}: permission denied Give {folder} to the user"
    )
    assert report.of("storage", "folder")[1].startswith(f"{folder}/below is not there, and {folder} does not")


def test_a_folder_takes_a_file_and_is_left_empty(fresh: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    report = examine(fresh | {"CACHE_DIR": str(tmp_path / "here")}, "cache")
    assert report.of("cache", "folder") == ("ok", f"{tmp_path}/here takes files ")
    assert list((tmp_path / "here").iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may write where others own")
def test_root_is_told_whose_folder_it_is(fresh: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", 12345, 12345)
    state, told = examine(fresh | {"CACHE_DIR": str(tmp_path / "theirs")}, "cache").of("cache", "folder")
    assert state == "warning"
    assert "Run this command as user 12345" in told


def test_a_disk_with_less_room_than_the_cache_may_take_is_doubtful(fresh: dict[str, str]) -> None:
    report = examine(fresh | {"CACHE_MAX_BYTES": "900 TiB"}, "cache")
    found = report.checks["cache", "room"]
    assert (found["state"], found["docs"]) == ("warning", "docs/configuration.md#cache_max_bytes")


def test_a_cache_in_memory_is_not_shared(fresh: dict[str, str]) -> None:
    environ = {name: value for name, value in fresh.items() if name != "CACHE_DIR"}
    assert examine(environ | {"WEB_CONCURRENCY": "2"}, "cache").of("cache", "memory")[0] == "warning"
    assert examine(environ | {"WEB_CONCURRENCY": "1"}, "cache").of("cache", "memory")[0] == "ok"


# --- S3 ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        forget_aws_settings(monkeypatch)
        with running_s3(tmp_path_factory.mktemp("s3")) as server:
            yield server


def bucket_settings(s3: S3Server, **more: str) -> dict[str, str]:
    return {
        "S3_BUCKET": s3.bucket,
        "S3_REGION": s3.region,
        "S3_ENDPOINT_URL": s3.endpoint_url,
        "S3_ACCESS_KEY_ID": s3.access_key_id,
        "S3_SECRET_ACCESS_KEY": s3.secret_access_key,
        **more,
    }


def objects_in(s3: S3Server) -> int:
    with closing(s3.client()) as client:
        return int(client.list_objects_v2(Bucket=BUCKET)["KeyCount"])


def test_a_bucket_takes_an_object_and_is_left_empty(fresh: dict[str, str], s3: S3Server) -> None:
    report = examine(fresh | bucket_settings(s3), "storage")
    assert report.of("storage", "bucket")[0] == "ok"
    assert "answers 403" in report.of("storage", "public")[1]
    assert report.code == 0
    assert objects_in(s3) == 0
    assert s3.secret_access_key not in report.text


def test_what_the_public_reads_is_read(fresh: dict[str, str], s3: S3Server) -> None:
    base = f"{s3.endpoint_url}/{s3.bucket}"
    promised = bucket_settings(s3, S3_PUBLIC_BASE_URL=base, S3_ACL="public-read")
    assert examine(fresh | promised, "storage").of("storage", "public")[0] == "warning"
    s3.require_signatures(required=False)
    try:
        state, told = examine(fresh | promised, "storage").of("storage", "public")
        assert (state, "shows objects to everybody" in told) == ("ok", True)
        elsewhere = bucket_settings(s3, S3_PUBLIC_BASE_URL=answers.refusing_url())
        assert "connection refused" in examine(fresh | elsewhere, "storage").of("storage", "public")[1]
    finally:
        s3.require_signatures(required=True)
    assert objects_in(s3) == 0


@pytest.mark.parametrize(
    ("changed", "found", "advice"),
    [
        pytest.param(
            {"S3_SECRET_ACCESS_KEY": PASSWORD}, "SignatureDoesNotMatch", "S3_SECRET_ACCESS_KEY", id="secret"
        ),
        pytest.param({"S3_ACCESS_KEY_ID": "AKNOBODY"}, "InvalidAccessKeyId", "S3_ACCESS_KEY_ID", id="key"),
        pytest.param({"S3_BUCKET": "another-bucket"}, "NoSuchBucket", "Make the bucket", id="bucket"),
    ],
)
def test_what_s3_refuses_is_told_with_what_to_do(
    fresh: dict[str, str], s3: S3Server, changed: dict[str, str], found: str, advice: str
) -> None:
    report = examine(fresh | bucket_settings(s3) | changed, "storage")
    state, told = report.of("storage", "bucket")
    assert (report.code, state) == (1, "failed")
    assert found in told
    assert advice in told
    assert PASSWORD not in report.text
    assert s3.secret_access_key not in report.text


@pytest.mark.parametrize(
    ("status", "code", "advice"),
    [
        pytest.param(403, "RequestTimeTooSkewed", "its time from NTP", id="a wrong clock"),
        pytest.param(400, "AuthorizationHeaderMalformed", "Let S3_REGION be", id="another region"),
        pytest.param(400, "InvalidRegionName", "Let S3_REGION be one", id="no region"),
        pytest.param(301, "PermanentRedirect", "Let S3_REGION and S3_ENDPOINT_URL", id="elsewhere"),
        pytest.param(400, "ExpiredToken", "Renew the credentials", id="a token that has ended"),
        pytest.param(503, "SlowDown", "whether the store has trouble", id="busy"),
        pytest.param(403, "AllAccessDisabled", "documentation says of that word", id="another word"),
        pytest.param(501, "", "a store that speaks S3", id="no word"),
    ],
)
def test_a_stores_word_is_told_with_what_to_do(
    fresh: dict[str, str], s3: S3Server, status: int, code: str, advice: str
) -> None:
    word = f"<Error><Code>{code}</Code><Message>of {PASSWORD}</Message></Error>" if code else ""
    region = ("x-amz-bucket-region", "eu-west-1")  # where botocore tries it once more
    with Upstream(answers.content(word.encode(), "application/xml", region, status=status)) as store:
        settings = bucket_settings(s3, S3_ENDPOINT_URL=store.url, S3_ATTEMPTS="1")
        report = examine(fresh | settings, "storage")
    state, told = report.of("storage", "bucket")
    assert (report.code, state, code in told, advice in told) == (1, "failed", True, True), told
    assert PASSWORD not in report.text


def test_a_bucket_without_credentials_fails(
    fresh: dict[str, str], s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    settings = {name: text for name, text in bucket_settings(s3).items() if "KEY" not in name}
    state, told = examine(fresh | settings, "storage").of("storage", "bucket")
    assert (state, "no credentials were found Set S3_ACCESS_KEY_ID" in told) == ("failed", True), told


def test_a_bucket_that_speaks_no_tls_fails(fresh: dict[str, str], s3: S3Server) -> None:
    secure = s3.endpoint_url.replace("http:", "https:")
    settings = bucket_settings(s3, S3_ENDPOINT_URL=secure, S3_ATTEMPTS="1")
    state, told = examine(fresh | settings, "storage").of("storage", "bucket")
    assert (state, "no TLS connection comes about: " in told) == ("failed", True), told


def test_a_bucket_behind_a_certificate_that_nobody_knows_fails(fresh: dict[str, str], tmp_path: Path) -> None:
    with small_s3(certificates=make_certificates(tmp_path)) as small:
        keys = {"S3_ACCESS_KEY_ID": "AKIDOFTHETESTS", "S3_SECRET_ACCESS_KEY": "secret-of-the-tests"}
        environ = fresh | keys | {"S3_BUCKET": "pictures", "S3_ENDPOINT_URL": small.endpoint_url}
        state, told = examine(environ, "storage").of("storage", "bucket")
        assert (state, "the certificate is not trusted" in told, "S3_CA_BUNDLE" in told) == (
            "failed",
            True,
            True,
        )
        trusting = examine(environ | {"S3_CA_BUNDLE": str(small.ca_path)}, "storage")
        assert "does not delete" in trusting.of("storage", "bucket")[1]


def test_something_that_does_not_speak_s3_fails(fresh: dict[str, str]) -> None:
    with small_s3(Fault.HTML) as small:
        keys = {"S3_ACCESS_KEY_ID": "AKIDOFTHETESTS", "S3_SECRET_ACCESS_KEY": "secret-of-the-tests"}
        environ = fresh | keys | {"S3_BUCKET": "pictures", "S3_ENDPOINT_URL": small.endpoint_url}
        assert examine(environ, "storage").of("storage", "bucket")[0] == "failed"


def test_a_bucket_that_nobody_is_at_fails(fresh: dict[str, str], s3: S3Server) -> None:
    nowhere = bucket_settings(s3, S3_ENDPOINT_URL=answers.refusing_url(), S3_ATTEMPTS="1")
    state, told = examine(fresh | nowhere, "storage").of("storage", "bucket")
    assert state == "failed"
    assert "connection refused" in told


def test_credentials_that_cannot_be_had_fail_with_the_reason(
    fresh: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\ncredential_process=/nowhere/program\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    state, told = examine(fresh | {"S3_BUCKET": "pictures"}, "storage").of("storage", "bucket")
    assert (state, "no such file" in told, "Renew the credentials" in told) == ("failed", True, True), told
