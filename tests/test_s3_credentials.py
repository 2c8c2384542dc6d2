"""Credentials of a bucket that change while the service runs, come late, or cannot be had."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.support.clocks import Clock
from tests.support.s3 import Fault, S3Server, SmallS3, forget_aws_settings, record_of, running_s3, small_s3
from tests.support.settings import load
from tests.support.stores import silent_server
from thumbnailer.errors import StorageUnavailable
from thumbnailer.s3_settings import S3Settings
from thumbnailer.s3_storage import S3Storage
from wiring.trip import build_storage

PAUSE_SECONDS = S3Settings(bucket="any").credentials_pause_seconds

KEY = "thumbs/x.png"
BODY = b"\x89PNG\r\n\x1a\n" + bytes(100)
RECORD = record_of(BODY)


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_aws_settings(monkeypatch)


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with running_s3(tmp_path) as server:
        yield server


@pytest.fixture
def shared_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where boto3 looks for an access key; there is none yet."""
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    return path


@pytest.fixture
def shared_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where boto3 looks for whom to ask; it names nobody yet."""
    path = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    return path


def written(s3: S3Server) -> str:
    """A shared file with its access key."""
    return f"[default]\naws_access_key_id={s3.access_key_id}\naws_secret_access_key={s3.secret_access_key}\n"


def unnamed(settings: S3Settings) -> S3Settings:
    """The same without an access key."""
    return replace(settings, access_key_id=None, secret_access_key=None)


def program(folder: Path, answer: object) -> str:
    """What AWS's tools call a credential process, which answers so."""
    path = folder / "answer.json"
    path.write_text(answer if isinstance(answer, str) else json.dumps(answer))
    return f"[default]\ncredential_process=cat {path}\n"


def lent(s3: S3Server, *, minutes: int) -> dict[str, object]:
    """A program's answer: credentials that end after so many minutes."""
    ends_at = datetime.now(UTC) + timedelta(minutes=minutes)
    key = {"AccessKeyId": s3.access_key_id, "SecretAccessKey": s3.secret_access_key}
    return {"Version": 1, **key, "Expiration": ends_at.isoformat()}


CALLS: dict[str, Callable[[S3Storage], object]] = {
    "write": lambda storage: storage.write(KEY, BODY, RECORD),
    "find": lambda storage: storage.find(KEY),
    "remove": lambda storage: storage.remove(KEY),
    "is ready": lambda storage: storage.is_ready() or pytest.fail("it is not"),
}


def test_a_key_that_was_replaced_is_read_anew_when_the_store_takes_the_old_one_no_more(
    s3: S3Server, shared_file: Path
) -> None:
    shared_file.write_text(written(s3))
    clock = Clock(1000.0)
    storage = S3Storage(unnamed(s3.settings()), clock)
    storage.write(KEY, BODY, RECORD)
    for name, call in CALLS.items():
        s3 = s3.rotate_key()
        shared_file.write_text(written(s3))
        clock.now += PAUSE_SECONDS
        with capture_logs() as logs:
            call(storage)
        assert [log["event"] for log in logs] == ["storage_credentials_renewed"], name


def test_a_key_that_comes_late_is_found(s3: S3Server, shared_file: Path) -> None:
    clock = Clock(1000.0)
    storage = S3Storage(unnamed(s3.settings()), clock)
    assert not storage.is_ready()
    shared_file.write_text(written(s3))
    with capture_logs() as logs, pytest.raises(StorageUnavailable):
        storage.write(KEY, BODY, RECORD)
    assert logs[0]["error"] == "NoCredentialsError", "nobody looks again at once"
    clock.now += PAUSE_SECONDS
    assert storage.write(KEY, BODY, RECORD) == storage.find(KEY)


def test_a_key_that_comes_late_is_found_as_soon_as_the_operator_says(s3: S3Server, shared_file: Path) -> None:
    bucket = {"S3_BUCKET": s3.bucket, "S3_ENDPOINT_URL": s3.endpoint_url, "S3_REGION": s3.region}
    storage = build_storage(load(bucket | {"S3_CREDENTIALS_PAUSE": "0"}))
    assert not storage.is_ready()
    shared_file.write_text(written(s3))
    assert storage.is_ready()


def test_while_the_store_refuses_and_there_is_no_other_key_nothing_is_tried_twice(shared_file: Path) -> None:
    with small_s3(Fault.ACCESS_DENIED) as small:
        shared_file.write_text(written(_server_of(small)))
        clock = Clock(1000.0)
        storage = S3Storage(unnamed(small.settings()), clock)
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                storage.write(KEY, BODY, RECORD)
        assert len(small.requests) == 3
        shared_file.write_text(written(replace(_server_of(small), access_key_id="AKIDOFTOMORROW")))
        with pytest.raises(StorageUnavailable):
            storage.write(KEY, BODY, RECORD)
        assert len(small.requests) == 4, "it was looked for a moment ago"
        clock.now += PAUSE_SECONDS
        with pytest.raises(StorageUnavailable):
            storage.write(KEY, BODY, RECORD)
        assert len(small.requests) == 6
        assert "AKIDOFTOMORROW" in small.requests[-1].headers["authorization"]


def test_an_expired_token_is_unavailable_until_there_is_another(shared_file: Path) -> None:
    with small_s3() as small:
        shared_file.write_text(written(_server_of(small)) + "aws_session_token=of-yesterday\n")
        clock = Clock(1000.0)
        storage = S3Storage(unnamed(small.settings()), clock)
        storage.write(KEY, BODY, RECORD)
        small.fault = Fault.EXPIRED
        with capture_logs() as logs, pytest.raises(StorageUnavailable):
            storage.write(KEY, BODY, RECORD)
        assert (logs[0]["error"], logs[0]["log_level"]) == ("ExpiredToken", "error")
        assert not storage.is_ready()
        small.fault = Fault.NONE
        shared_file.write_text(written(_server_of(small)) + "aws_session_token=of-today\n")
        storage.write(KEY, BODY, RECORD)
        assert small.requests[-1].headers["x-amz-security-token"] == "of-yesterday", "nobody has refused it"


def test_a_key_of_the_settings_is_the_only_one(s3: S3Server, shared_file: Path) -> None:
    storage = S3Storage(s3.settings())
    storage.write(KEY, BODY, RECORD)
    shared_file.write_text(written(s3.rotate_key()))
    with pytest.raises(StorageUnavailable):
        storage.write(KEY, BODY, RECORD)


def test_what_says_when_it_ends_is_renewed_before(s3: S3Server, shared_config: Path, tmp_path: Path) -> None:
    shared_config.write_text(program(tmp_path, lent(s3, minutes=5)))  # boto3 renews 15 minutes before
    storage = S3Storage(unnamed(s3.settings()))
    storage.write(KEY, BODY, RECORD)
    shared_config.write_text(program(tmp_path, lent(s3.rotate_key(), minutes=60)))
    with capture_logs() as logs:
        storage.write(KEY, BODY, RECORD)
    assert logs == [], "no refusal was needed"


FAILURES = {
    "a program that is not there": "[default]\ncredential_process=/nowhere/program\n",
    "a program that fails": "[default]\ncredential_process=false\n",
    "a program that says nonsense": "[default]\ncredential_process=echo nonsense\n",
    "a program that says a list": "[default]\ncredential_process=echo []\n",
    "a file that is none": "nonsense",
}


@pytest.mark.parametrize("failing", FAILURES.values(), ids=FAILURES)
def test_whoever_fails_to_give_credentials_makes_the_storage_unavailable_until_he_does(
    shared_config: Path, tmp_path: Path, failing: str
) -> None:
    shared_config.write_text(failing)
    with small_s3() as small:
        clock = Clock(1000.0)
        storage = S3Storage(unnamed(small.settings()), clock)
        assert_unavailable(storage)
        shared_config.write_text(program(tmp_path, lent(_server_of(small), minutes=60)))
        clock.now += PAUSE_SECONDS
        assert storage.write(KEY, BODY, RECORD) == storage.find(KEY)


@pytest.mark.parametrize("minutes", [-60, 5], ids=["from the start", "when they are to be renewed"])
def test_credentials_that_have_ended_make_the_storage_unavailable_until_there_are_others(
    shared_config: Path, tmp_path: Path, minutes: int
) -> None:
    with small_s3() as small:
        shared_config.write_text(program(tmp_path, lent(_server_of(small), minutes=minutes)))
        storage = S3Storage(unnamed(small.settings()))
        if minutes > 0:
            storage.write(KEY, BODY, RECORD)
        program(tmp_path, lent(_server_of(small), minutes=-1))
        assert_unavailable(storage)
        program(tmp_path, lent(_server_of(small), minutes=60))
        assert storage.write(KEY, BODY, RECORD) == storage.find(KEY)


def role_of(token: Path) -> str:
    """A shared configuration: a role that is lent to who shows what is in that file."""
    role = "role_arn=arn:aws:iam::123456789012:role/writer"
    return f"[default]\n{role}\nweb_identity_token_file={token}\n"


def test_a_role_is_taken_once_there_is_a_token_for_it(
    s3: S3Server, shared_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", s3.endpoint_url)
    shared_config.write_text(role_of(tmp_path / "token"))
    s3.require_signatures(required=False)
    storage = S3Storage(unnamed(s3.settings()))
    assert_unavailable(storage)
    (tmp_path / "token").write_text("token")
    assert storage.write(KEY, BODY, RECORD) == storage.find(KEY)


def test_who_lends_roles_is_waited_for_no_longer_than_the_store(
    shared_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("token")
    shared_config.write_text(role_of(tmp_path / "token"))
    with small_s3() as small, silent_server() as (address, connections):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", address.replace("redis:", "http:").removesuffix("/0"))
        storage = S3Storage(unnamed(replace(small.settings(), attempts=2)))
        with capture_logs() as logs, pytest.raises(StorageUnavailable):
            storage.write(KEY, BODY, RECORD)
        assert (logs[0]["error"], logs[0]["log_level"]) == ("ReadTimeoutError", "warning")
        assert (len(connections), small.requests) == (2, [])


def assert_unavailable(storage: S3Storage) -> None:
    assert not storage.is_ready()
    with capture_logs() as logs, pytest.raises(StorageUnavailable):
        storage.write(KEY, BODY, RECORD)
    assert {log["event"] for log in logs} == {"storage_failed"}
    assert {log["log_level"] for log in logs} == {"error"}


def _server_of(small: SmallS3) -> S3Server:
    return S3Server(small.endpoint_url, None, "AKIDOFTODAY", "secret-of-the-tests")
