"""The capture cache over a Redis that is silent, stopped, killed or full."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
from pathlib import Path

import pytest
import redis

from tests.support.captures import capture_of
from tests.support.clocks import Clock
from tests.support.processes import free_port, running_redis
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.stores import redis_cache, redis_pid, silent_server
from tests.support.upstream import Upstream
from thumbnailer.backend import ResilientBackend
from thumbnailer.cache import CHUNK_BYTES, INLINE_BYTES, CaptureCache
from thumbnailer.cooldown import CoolDown
from thumbnailer.errors import CaptureLost

BODY = b"\x89PNG" + bytes(range(256)) * 20
LARGE = secrets.token_bytes(INLINE_BYTES + 3 * CHUNK_BYTES + 17)
HOUR = 3600


def test_an_answer_does_not_say_that_it_is_stored_where_it_is_not() -> None:
    with Upstream() as upstream:
        nobody = f"redis://127.0.0.1:{free_port()}/0"
        settings = snapapi_environment(upstream.url, REDIS_URL=nobody, RATELIMIT_ENABLED="false")
        with client_of(settings) as client:
            for query in ({}, {"thumb_width": "64"}):
                answer = client.get("/thumb", query_string={"url": TARGET, **query})
                assert (answer.status_code, answer.headers["X-Cache"]) == (200, "MISS")
                assert answer.headers["Cache-Status"] == "thumbnailer; fwd=miss"


def test_a_silent_redis_is_a_miss_and_left_alone_for_a_while(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(1000.0)
    with silent_server() as (url, accepted):
        store = redis_cache(url, prefix="")
        cache = CaptureCache(ResilientBackend(store, CoolDown("The cache", seconds=5, clock=clock)))
        for _ in range(20):
            assert cache.load("key") is None
            assert not cache.store("key", capture_of(LARGE), retention_seconds=HOUR)
            cache.forget("key")
        assert len(accepted) == 1, "each further call would have cost another 0.3 s"
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        clock.now += 5
        assert cache.load("key") is None
        assert cache.load("key") is None
        assert len(accepted) == 2
    assert len(caplog.records) == 2


def test_a_cache_serves_again_after_its_redis_was_stopped_and_continued(tmp_path: Path) -> None:
    clock = Clock(1000.0)
    with running_redis(tmp_path) as url:
        cache = CaptureCache(
            ResilientBackend(redis_cache(url, prefix=""), CoolDown("The cache", seconds=5, clock=clock))
        )
        assert cache.store("key", capture_of(LARGE), retention_seconds=HOUR)
        loaded = cache.load("key")
        assert loaded is not None
        pid = redis_pid(url)
        os.kill(pid, signal.SIGSTOP)
        try:
            assert cache.load("key") is None
            with pytest.raises(CaptureLost):
                loaded.body()
        finally:
            os.kill(pid, signal.SIGCONT)
        assert cache.load("key") is None, "the pause is not over"
        clock.now += 5
        again = cache.load("key")
        assert again is not None, "a Redis that was only out of reach has lost nothing"
        assert again.body() == LARGE


def test_a_killed_redis_is_a_miss_and_a_filling_gives_up_in_silence(tmp_path: Path) -> None:
    with running_redis(tmp_path) as url:
        cache = CaptureCache(ResilientBackend(redis_cache(url, prefix="")))
        filling = cache.filling("key", retention_seconds=HOUR)
        filling.add(LARGE)
        os.kill(redis_pid(url), signal.SIGKILL)
        filling.add(LARGE)
        filling.add(LARGE)
        assert not filling.commit(capture_of(LARGE * 3).record)
        assert cache.load("key") is None
        assert not cache.store("other", capture_of(BODY), retention_seconds=HOUR)
        cache.forget("key")


def test_a_redis_that_is_full_still_answers_reads(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with running_redis(tmp_path) as url:
        cache = CaptureCache(ResilientBackend(redis_cache(url, prefix="")))
        assert cache.store("key", capture_of(BODY), retention_seconds=HOUR)
        with contextlib.closing(redis.Redis.from_url(url)) as client:
            client.config_set("maxmemory", "1")
        assert not cache.store("other", capture_of(LARGE), retention_seconds=HOUR)
        assert cache.load("key") is not None
        assert not cache.store("other", capture_of(BODY), retention_seconds=HOUR)
    assert len(caplog.records) == 1
