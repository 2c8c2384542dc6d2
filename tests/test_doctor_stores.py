"""flask doctor on what keeps something: database, Redis, folders and buckets."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

import pytest
import redis
from sqlalchemy import create_engine, text

from tests.support import answers
from tests.support.certificates import make_certificates
from tests.support.doctor import (
    IN_URL,
    PASSWORD,
    as_an_ordinary_user,
    examine,
    fresh_settings,
    made_database,
    states,
)
from tests.support.processes import executable, free_port, running
from tests.support.s3 import BUCKET, Fault, S3Server, forget_aws_settings, running_s3, small_s3
from tests.support.service import running_app
from tests.support.stores import silent_server
from tests.support.upstream import Upstream
from thumbnailer.diagnosis import State, stores
from thumbnailer.jobs.roster import Roster
from thumbnailer.model import Deadline
from thumbnailer.schema import newest_revision


@pytest.fixture
def fresh(tmp_path: Path, upstream: Upstream) -> dict[str, str]:
    return fresh_settings(tmp_path, upstream.url)


# --- Database ---------------------------------------------------------------------------------


def revision_of(url: str) -> str | None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    engine.dispose()
    return found


def set_revision(url: str, revision: str) -> None:
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :to"), {"to": revision})
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/own.sqlite3"
    return str(request.getfixturevalue("postgres_url"))


def test_a_database_that_is_up_to_date_is_well_and_stays_as_it_is(
    fresh: dict[str, str], database_url: str
) -> None:
    with made_database(database_url) as database:
        report = examine(fresh | {"DATABASE_URL": database_url}, "database")
        assert states(report) == {"ok"}
        assert report.of("database", "tables")[1].startswith(
            f"the tables are at revision {newest_revision()}"
        )
        with database.reading() as connection:
            assert connection.execute(text("SELECT count(*) FROM workers")).scalar_one() == 0


@pytest.mark.parametrize("revision", ["0003", "9999"], ids=["older", "newer"])
def test_tables_of_another_revision_are_told_and_not_changed(
    fresh: dict[str, str], database_url: str, revision: str
) -> None:
    with made_database(database_url):
        set_revision(database_url, revision)
    state, told = examine(fresh | {"DATABASE_URL": database_url}, "database").of("database", "tables")
    assert state == "warning"
    assert ("flask db upgrade" in told) == (revision < newest_revision())
    assert revision_of(database_url) == revision


def test_tables_that_are_missing_keep_no_other_check_from_being_made(
    fresh: dict[str, str], database_url: str
) -> None:
    with made_database(database_url):
        set_revision(database_url, "0001")
    engine = create_engine(database_url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        for table in ("workers", "api_keys"):
            connection.execute(text(f"DROP TABLE {table}"))
    engine.dispose()
    report = examine(fresh | {"DATABASE_URL": database_url}, "database", "jobs", "access")
    assert report.of("database", "tables")[0] == "warning"
    assert report.of("jobs", "workers")[0] == report.of("access", "API keys")[0] == "warning"


def test_a_database_that_nobody_is_at_fails_without_its_password(fresh: dict[str, str]) -> None:
    url = f"postgresql://me:{IN_URL}@127.0.0.1:{free_port()}/pictures"
    report = examine(fresh | {"DATABASE_URL": url}, "database", "jobs", "access")
    state, told = report.of("database", "connection")
    assert (report.code, state) == (1, "failed")
    assert "refused" in told
    assert "/pictures" in told
    assert report.of("jobs", "workers")[0] == report.of("access", "API keys")[0] == "warning"
    assert PASSWORD not in report.text
    assert IN_URL not in report.text


def test_a_database_that_lets_nobody_in_fails_without_its_password(
    fresh: dict[str, str], postgres_url: str
) -> None:
    host = postgres_url.rpartition("@")[2]
    url = f"postgresql://stranger:{IN_URL}@{host}"
    report = examine(fresh | {"DATABASE_URL": url}, "database")
    state, told = report.of("database", "connection")
    assert state == "failed"
    assert 'role "stranger" does not exist' in told
    assert PASSWORD not in report.text
    assert IN_URL not in report.text


def test_a_database_that_never_answers_fails_in_time_with_what_to_do(fresh: dict[str, str]) -> None:
    with silent_server() as (silent, _):
        url = f"postgresql://somebody:{IN_URL}@127.0.0.1:{urlsplit(silent).port}/own"
        report = examine(fresh | {"DATABASE_URL": url}, "database", "jobs", "access", timeout=0.3)
    for check in ("connection", "tables", "writing", "sharing"):
        state, told = report.of("database", check)
        assert (state, "whether DATABASE_URL names the right" in told) == ("failed", True), told
    for part, check in (("jobs", "workers"), ("access", "API keys")):
        assert "what the check of the database says" in report.of(part, check)[1]
    assert IN_URL not in report.text


def test_a_database_that_cannot_be_made_or_reached_fails(fresh: dict[str, str], tmp_path: Path) -> None:
    with as_an_ordinary_user() as folder:
        reachable = fresh | {"CACHE_DIR": str(folder / "cache"), "MEDIA_DIR": str(folder / "media")}
        report = examine(reachable | {"DATABASE_URL": f"sqlite:///{folder}/own.sqlite3"}, "database")
        state, told = report.of("database", "connection")
        assert (report.code, state) == (1, "failed")
        assert "does not let it be made" in told
        if os.geteuid() != os.getuid():  # root's own folders are closed to others
            told = examine(reachable, "database").of("database", "connection")[1]
            assert "Permission denied" in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's own folders are closed to others")
def test_a_folder_that_cannot_be_reached_is_a_fault(fresh: dict[str, str]) -> None:
    with as_an_ordinary_user():
        report = examine(fresh, "configuration")
    assert "may not enter" in report.of("configuration", "CACHE_DIR")[1]
    assert "may not enter" in report.of("configuration", "MEDIA_DIR")[1]


def test_a_file_that_is_no_database_fails(fresh: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "own.sqlite3").write_bytes(b"no database at all" * 100)
    report = examine(fresh | {"DATABASE_URL": f"sqlite:///{tmp_path}/own.sqlite3"}, "database")
    assert report.of("database", "connection")[0] == "failed"
    assert "file is not a database" in report.text


def test_a_database_in_memory_is_not_shared(fresh: dict[str, str]) -> None:
    in_memory = fresh | {"DATABASE_URL": "sqlite://"}
    assert examine(in_memory | {"WEB_CONCURRENCY": "2"}, "database").of("database", "sharing")[0] == "failed"
    assert examine(in_memory | {"WEB_CONCURRENCY": "1"}, "database").of("database", "sharing")[0] == "warning"


def test_more_connections_than_postgresql_has_are_doubtful(fresh: dict[str, str], postgres_url: str) -> None:
    with made_database(postgres_url):
        pass
    many = fresh | {"DATABASE_URL": postgres_url, "DATABASE_POOL_SIZE": "20", "WEB_CONCURRENCY": "2"}
    state, told = examine(many, "database").of("database", "sharing")
    assert state == "warning"
    assert "30 connections are allowed" in told


# --- Redis: cache, limits, queue --------------------------------------------------------------


@contextmanager
def redis_with(folder: Path, *options: str) -> Iterator[str]:
    port = free_port()
    command = [executable("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with running([*command, "--dir", str(folder), *options], port=port, log=folder / f"redis-{port}.log"):
        yield f"redis://127.0.0.1:{port}/0"


def test_redis_is_greeted_and_left_as_it_was(fresh: dict[str, str], tmp_path: Path) -> None:
    with redis_with(tmp_path, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as cache:
        with redis_with(tmp_path, "--maxmemory", "64mb", "--maxmemory-policy", "noeviction") as limiter:
            both = fresh | {"REDIS_URL": cache, "LIMITER_REDIS_URL": limiter}
            report = examine(both, "cache", "limits", "jobs")
        with closing(redis.Redis.from_url(cache)) as client:
            assert client.dbsize() == 0
    assert re.match(r"Redis \d+\.\d+\.\d+ answers in ", report.of("cache", "Redis")[1])
    assert report.of("cache", "bound")[1].startswith("maxmemory 64 MiB, maxmemory-policy allkeys-lru")
    assert report.of("cache", "clock")[1].startswith("the clocks agree")
    assert report.of("limits", "memory")[0] == report.of("jobs", "queue")[0] == "ok"
    assert "forgets them when it restarts" in report.of("limits", "memory")[1]
    assert {one["state"] for (part, _), one in report.checks.items() if part != "jobs"} == {"ok"}


def test_counters_in_a_redis_that_evicts_are_doubtful(fresh: dict[str, str], tmp_path: Path) -> None:
    with redis_with(tmp_path, "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru") as url:
        report = examine(fresh | {"REDIS_URL": url}, "cache", "limits")
    assert report.of("cache", "bound")[0] == report.of("limits", "memory")[0] == "warning"
    assert "LIMITER_REDIS_URL" in report.of("cache", "bound")[1]
    assert "noeviction" in report.of("limits", "memory")[1]


@pytest.mark.parametrize("password", [PASSWORD, ""], ids=["a wrong one", "none"])
def test_a_redis_that_wants_another_password_fails_without_it(
    fresh: dict[str, str], tmp_path: Path, password: str
) -> None:
    with redis_with(tmp_path, "--requirepass", "the-right-one") as url:
        with_password = url.replace("//", f"//:{IN_URL}@") if password else url
        report = examine(fresh | {"REDIS_URL": with_password}, "cache", "limits", "jobs")
    state, told = report.of("cache", "Redis")
    assert (report.code, state) == (1, "failed")
    assert "Put the right user and password into REDIS_URL." in told
    assert report.of("jobs", "queue")[0] == "failed"
    assert PASSWORD not in report.text
    assert IN_URL not in report.text


def test_a_redis_user_without_rights_fails(fresh: dict[str, str], tmp_path: Path) -> None:
    with redis_with(tmp_path) as url:
        with closing(redis.Redis.from_url(url)) as client:
            rights = ["+@read", "+@connection", "+info", "+time"]
            client.acl_setuser(
                "reader", enabled=True, passwords=["+let-me-read"], keys=["*"], commands=rights
            )
        report = examine(fresh | {"REDIS_URL": url.replace("//", "//reader:let-me-read@")}, "cache")
    state, told = report.of("cache", "Redis")
    assert state == "failed"
    assert "ACL" in told
    assert "let-me-read" not in report.text


def test_a_redis_that_nobody_is_at_fails(fresh: dict[str, str]) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0"
    report = examine(
        fresh | {"REDIS_URL": url, "LIMITER_REDIS_URL": f"{url[:-1]}1"}, "cache", "limits", "jobs"
    )
    assert "let REDIS_URL name where it is" in report.of("cache", "Redis")[1]
    assert "let LIMITER_REDIS_URL name where it is" in report.of("limits", "Redis")[1]
    for part, check in (("cache", "bound"), ("cache", "clock"), ("limits", "memory"), ("jobs", "queue")):
        assert report.of(part, check)[0] == "failed", check


def test_a_redis_that_says_nothing_fails_in_time(fresh: dict[str, str]) -> None:
    with silent_server() as (url, _):
        report = examine(fresh | {"REDIS_URL": url}, "cache", "limits", timeout=5)
    assert "REDIS_TIMEOUT" in report.of("cache", "Redis")[1]
    assert {one["state"] for name, one in report.checks.items() if name != ("limits", "rate limits")} == {
        "failed"
    }


@pytest.mark.parametrize(
    ("seconds", "state"),
    [(0.0, State.OK), (-3.0, State.WARNING), (3600.0, State.FAILED)],
    ids=["none", "a little", "an hour"],
)
def test_clocks_that_differ_are_told(seconds: float, state: State) -> None:
    class Elsewhere:
        def ping(self) -> bool:
            return True

        def time(self) -> tuple[int, int]:
            now = time.time() + seconds
            return int(now), int(now % 1 * 1_000_000)

        def close(self) -> None:
            """Nothing is open."""

    def connect() -> redis.Redis:
        return cast(redis.Redis, Elsewhere())

    verdict = stores.agrees_on_the_time(Deadline.after(1), connect=connect)
    assert verdict.state is state
    assert seconds == 0 or f"{abs(seconds):.0f}." in verdict.found


def test_an_open_breaker_is_told(fresh: dict[str, str], redis_url: str) -> None:
    prefix = "doctor-breaker:"
    environ = fresh | {"REDIS_URL": redis_url, "CACHE_KEY_PREFIX": prefix}
    with closing(redis.Redis.from_url(redis_url)) as client:
        assert examine(environ, "providers").of("providers", "hermesforge: breaker")[0] == "ok"
        circuit = {"failures": 5, "fault": "UpstreamAuth", "open_until": time.time() + 60}
        client.set(f"{prefix}breaker:hermesforge", json.dumps(circuit), ex=60)
        state, told = examine(environ, "providers").of("providers", "hermesforge: breaker")
    assert state == "warning"
    assert told.startswith("its breaker is open after 5 failures, the last of them UpstreamAuth")


def test_nobody_is_called_healthy_whom_redis_cannot_tell_of(fresh: dict[str, str]) -> None:
    environ = fresh | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    assert examine(environ, "providers").of("providers", "hermesforge: breaker")[0] == "failed"


def test_workers_and_what_waits_for_them_are_told(
    fresh: dict[str, str], tmp_path: Path, redis_url: str
) -> None:
    environ = fresh | {"REDIS_URL": redis_url, "CACHE_KEY_PREFIX": "doctor-jobs:"}
    (tmp_path / "var").mkdir()
    with made_database(environ["DATABASE_URL"]) as database:
        assert "Start a worker" in examine(environ, "jobs").of("jobs", "workers")[1]
        Roster(database).sign("a worker")
        assert examine(environ, "jobs").of("jobs", "workers") == (
            "ok",
            "1 worker is alive, 0 jobs are not done ",
        )
        Roster(database).sign_off("a worker")
    with running_app(environ) as app:
        accepted = app.test_client().post("/screenshots", json={"url": "http://93.184.216.34/"})
        assert accepted.status_code == 202
    report = examine(environ, "jobs")
    assert (report.code, report.of("jobs", "workers")[0]) == (1, "failed")
    assert report.of("jobs", "queue")[1].startswith("the broker answers; messages in the queue: 1")


# --- Folders ----------------------------------------------------------------------------------


def test_folders_that_cannot_be_written_fail(fresh: dict[str, str]) -> None:
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
