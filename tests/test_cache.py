"""The capture cache over the real backends of Flask-Caching, whole and broken."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import secrets
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import redis
from flask_caching import Cache

from tests.support.captures import capture_of
from tests.support.stores import flask_cache, redis_cache
from thumbnailer.backend import Backend, RawBytesSerializer, ResilientBackend
from thumbnailer.cache import CHUNK_BYTES, INLINE_BYTES, CaptureCache
from thumbnailer.errors import CaptureLost
from thumbnailer.file_cache import FolderCache
from thumbnailer.model import Capture

BODY = b"\x89PNG" + bytes(range(256)) * 20
LARGE = secrets.token_bytes(INLINE_BYTES + 3 * CHUNK_BYTES + 17)
HOUR = 3600


@pytest.fixture(params=["simple", "file", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Cache:
    """Each backend that the service can be configured with."""
    if request.param == "simple":
        return flask_cache(CACHE_TYPE="thumbnailer.memory_cache.MemoryCache")
    if request.param == "file":
        return flask_cache(CACHE_TYPE="thumbnailer.file_cache.FileCache", CACHE_DIR=str(tmp_path))
    return redis_cache(request.getfixturevalue("redis_url"), prefix=f"{secrets.token_hex(4)}:")


@pytest.fixture
def cache(store: Cache) -> CaptureCache:
    return CaptureCache(ResilientBackend(store))


class Recorder:
    """A backend that passes everything on and remembers the keys that were set."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.keys: list[str] = []

    def get(self, key: str) -> object:
        return self._backend.get(key)

    def get_many(self, *keys: str) -> Sequence[object]:
        return self._backend.get_many(*keys)

    def has(self, key: str) -> object:
        return self._backend.has(key)

    def set(self, key: str, value: bytes, timeout: int) -> object:
        self.keys.append(key)
        return self._backend.set(key, value, timeout=timeout)

    def delete(self, key: str) -> object:
        return self._backend.delete(key)

    def kept(self) -> list[str]:
        return [key for key in self.keys if self._backend.has(key)]


@pytest.fixture
def recorder(store: Cache) -> Recorder:
    return Recorder(store)


@pytest.mark.parametrize(
    "body",
    [b"", BODY, LARGE[:INLINE_BYTES], LARGE[: INLINE_BYTES + 1], LARGE],
    ids=["empty", "small", "largest-inline", "smallest-chunked", "large"],
)
def test_a_capture_comes_back_as_it_was_stored(cache: CaptureCache, body: bytes) -> None:
    original = capture_of(body)
    assert cache.load("key") is None
    assert cache.store("key", original, retention_seconds=HOUR)
    loaded = cache.load("key")
    assert loaded is not None
    assert loaded.record == original.record
    assert loaded.body() == body
    assert loaded.body() == body, "each reading starts anew"


@pytest.mark.parametrize("piece_bytes", [1000, 65536, len(LARGE)])
def test_the_size_of_the_pieces_that_arrive_does_not_matter(cache: CaptureCache, piece_bytes: int) -> None:
    filling = cache.filling("key", retention_seconds=HOUR)
    for start in range(0, len(LARGE), piece_bytes):
        filling.add(LARGE[start : start + piece_bytes])
    assert filling.commit(capture_of(LARGE).record)
    loaded = cache.load("key")
    assert loaded is not None
    assert loaded.body() == LARGE
    assert max(len(chunk) for chunk in loaded.chunks()) <= CHUNK_BYTES


def test_nothing_is_seen_before_the_commit_and_nothing_left_after_an_abort(recorder: Recorder) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    filling = cache.filling("key", retention_seconds=HOUR)
    filling.add(LARGE)
    assert recorder.kept(), "chunks are stored as they arrive"
    assert cache.load("key") is None
    filling.abort()
    assert recorder.kept() == []
    assert not filling.commit(capture_of(LARGE).record), "an aborted filling stays aborted"
    assert cache.load("key") is None


def test_a_body_of_another_size_than_its_record_says_is_not_kept(recorder: Recorder) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    filling = cache.filling("key", retention_seconds=HOUR)
    filling.add(LARGE[:-1])
    assert not filling.commit(capture_of(LARGE).record)
    assert recorder.kept() == []


def test_a_capture_that_breaks_off_while_it_is_stored_leaves_nothing(recorder: Recorder) -> None:
    def chunks() -> Iterator[bytes]:
        yield LARGE
        raise ConnectionResetError

    cache = CaptureCache(ResilientBackend(recorder))
    with pytest.raises(ConnectionResetError):
        cache.store("key", Capture(capture_of(LARGE).record, chunks), retention_seconds=HOUR)
    assert recorder.kept() == []


@pytest.mark.parametrize("retention_seconds", [0, -1])
def test_nothing_is_kept_for_ever_by_mistake(recorder: Recorder, retention_seconds: int) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    assert not cache.store("key", capture_of(LARGE), retention_seconds=retention_seconds)
    assert recorder.keys == []


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["small", "large"])
def test_forgetting_removes_all_that_was_stored(recorder: Recorder, body: bytes) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    cache.store("key", capture_of(body), retention_seconds=HOUR)
    cache.forget("key")
    cache.forget("never stored")
    assert recorder.kept() == []
    assert cache.load("key") is None


def test_a_reader_of_a_replaced_capture_gets_it_to_the_end(cache: CaptureCache) -> None:
    cache.store("key", capture_of(LARGE), retention_seconds=HOUR)
    old = cache.load("key")
    assert old is not None
    reading = old.chunks()
    begun = next(reading)
    cache.store("key", capture_of(LARGE[::-1]), retention_seconds=HOUR)
    assert begun + b"".join(reading) == LARGE


def test_captures_replaced_again_and_again_do_not_pile_up(recorder: Recorder) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    kept = []
    for round_number in range(6):
        cache.store("key", capture_of(LARGE + bytes([round_number])), retention_seconds=HOUR)
        kept.append(len(set(recorder.kept())))
    assert kept[1:] == [kept[1]] * 5
    cache.store("key", capture_of(BODY), retention_seconds=HOUR)
    cache.store("key", capture_of(BODY), retention_seconds=HOUR)
    assert set(recorder.kept()) == {"key"}


@pytest.mark.parametrize("position", [0, 2, -1])
def test_a_capture_that_lacks_a_chunk_is_a_miss(recorder: Recorder, position: int) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    cache.store("key", capture_of(LARGE), retention_seconds=HOUR)
    chunk_keys = [key for key in recorder.keys if key != "key"]
    recorder.delete(chunk_keys[position])
    assert cache.load("key") is None


@pytest.mark.parametrize("damage", ["vanished", "altered", "cut"])
def test_a_chunk_damaged_after_loading_breaks_the_reading_and_the_entry(
    recorder: Recorder, damage: str
) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    cache.store("key", capture_of(LARGE), retention_seconds=HOUR)
    loaded = cache.load("key")
    assert loaded is not None
    victim = recorder.keys[1]
    if damage == "vanished":
        recorder.delete(victim)
    else:
        content = recorder.get(victim)
        assert isinstance(content, bytes)
        recorder.set(victim, content[:-1] + (b"" if damage == "cut" else b"x"), timeout=HOUR)
    with pytest.raises(CaptureLost):
        loaded.body()
    assert cache.load("key") is None, "a damaged entry must not break every reader until it expires"


def test_a_reading_that_breaks_leaves_what_has_been_stored_since(recorder: Recorder) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    cache.store("key", capture_of(LARGE), retention_seconds=HOUR)
    old = cache.load("key")
    assert old is not None
    recorder.delete(recorder.keys[0])
    cache.store("key", capture_of(LARGE[::-1]), retention_seconds=HOUR)
    with pytest.raises(CaptureLost):
        old.body()
    new = cache.load("key")
    assert new is not None
    assert new.body() == LARGE[::-1]


@pytest.mark.parametrize("refused", [0, 2, -1], ids=["first chunk", "third chunk", "the entry itself"])
def test_what_the_store_does_not_take_whole_is_not_kept_and_nobody_is_told_that_it_is(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, refused: int
) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    assert cache.store("another", capture_of(LARGE), retention_seconds=HOUR)
    last = range(len(recorder.keys))[refused]
    cache.forget("another")
    recorder.keys.clear()
    take = recorder.set
    monkeypatch.setattr(
        recorder, "set", lambda *entry, **kw: len(recorder.keys) < last and take(*entry, **kw)
    )
    assert not cache.store("key", capture_of(LARGE), retention_seconds=HOUR)
    assert len(recorder.keys) == last
    assert recorder.kept() == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: entry[:-1],
        lambda entry: entry[:-1] + b"x",
        lambda entry: entry + b"x",
        lambda entry: entry[:6],
        lambda entry: b"",
        lambda entry: b"<html>" + entry,
        lambda entry: entry.replace(b'"provider"', b'"provided"'),
        lambda entry: entry.replace(b'"chunks":null', b'"chunks":[[]]'),
        lambda entry: entry.replace(b'"chunks":null', b'"chunks":{"nonce":"a","count":"b"}'),
        lambda entry: entry.replace(b'{"record"', b'["record"]'),
    ],
    ids=["cut", "altered", "longer", "header-cut", "empty", "html", "field", "list", "types", "json"],
)
def test_a_damaged_entry_is_a_miss(recorder: Recorder, damage: Callable[[bytes], bytes]) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    cache.store("key", capture_of(BODY), retention_seconds=HOUR)
    entry = recorder.get("key")
    assert isinstance(entry, bytes)
    assert damage(entry) != entry
    recorder.set("key", damage(entry), timeout=HOUR)
    assert cache.load("key") is None
    assert cache.store("key", capture_of(BODY), retention_seconds=HOUR), "it can be replaced"
    assert cache.load("key") is not None


def test_forty_megabytes_pass_in_bounded_memory(redis_url: str) -> None:
    cache = CaptureCache(ResilientBackend(redis_cache(redis_url, prefix=f"{secrets.token_hex(4)}:")))
    piece, pieces = secrets.token_bytes(65536), 640
    whole = hashlib.sha256()
    for _ in range(pieces):
        whole.update(piece)
    record = capture_of(b"", size_bytes=len(piece) * pieces, sha256=whole.hexdigest()).record
    tracemalloc.start()
    try:
        filling = cache.filling("key", retention_seconds=HOUR)
        for _ in range(pieces):
            filling.add(piece)
        assert filling.commit(record)
        loaded = cache.load("key")
        assert loaded is not None
        assert sum(len(chunk) for chunk in loaded.chunks()) == record.size_bytes
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        cache.forget("key")
    assert peak_bytes < 2 * 1024 * 1024


class Bomb:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._path),)


def test_a_pickle_in_redis_is_a_miss_and_runs_nothing(redis_url: str, tmp_path: Path) -> None:
    prefix, crater = f"{secrets.token_hex(4)}:", tmp_path / "crater"
    client = redis.Redis.from_url(redis_url)
    client.set(f"{prefix}key", b"!" + pickle.dumps(Bomb(crater)))
    client.set(f"{prefix}bare", pickle.dumps(Bomb(crater)))
    client.rpush(f"{prefix}list", pickle.dumps(Bomb(crater)))
    client.close()
    cache = CaptureCache(ResilientBackend(redis_cache(redis_url, prefix=prefix)))
    assert [cache.load(key) for key in ("key", "bare", "list")] == [None, None, None]
    assert not crater.exists()
    unsafe = redis_cache(redis_url, prefix=prefix)
    unsafe.cache.serializer = type(unsafe.cache).serializer
    unsafe.get("key")
    assert crater.exists(), "the bomb of this test must be live"


@pytest.mark.parametrize(
    "content",
    [None, b"", b"1", b"!\x80", pickle.dumps(b"abc"), b"tnb", "tnb1"],
    ids=["none", "empty", "number", "redis-pickle", "pickle", "half-magic", "text"],
)
def test_the_serializer_reads_only_what_it_wrote(content: Any) -> None:
    assert RawBytesSerializer().loads(content) is None


def test_the_serializer_passes_bytes_through_memory_and_files() -> None:
    serializer = RawBytesSerializer()
    assert serializer.loads(serializer.dumps(BODY)) == BODY
    file = io.BytesIO()
    serializer.dump(BODY, file)
    file.seek(0)
    assert serializer.load(file) == BODY


@pytest.mark.parametrize(
    "value", ["text", 7, None, {"a": 1}, bytearray(b"x")], ids=lambda value: type(value).__name__
)
def test_the_serializer_refuses_to_write_anything_but_bytes(value: object) -> None:
    with pytest.raises(TypeError):
        RawBytesSerializer().dumps(value)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"content_type": "text/html"}, id="a web page"),
        pytest.param({"captured_at": "now"}, id="a time that is none"),
        pytest.param({"captured_at": float("nan")}, id="no number"),
        pytest.param({"captured_at": float("inf")}, id="a time without end"),
        pytest.param({"captured_at": 253_402_300_800}, id="a time after the year 9999"),
        pytest.param({"upstream_seconds": -1.0}, id="a time that ran backwards"),
        pytest.param({"size_bytes": "many"}, id="a size that is none"),
        pytest.param({"width": "wide"}, id="a width that is none"),
    ],
)
def test_an_entry_that_somebody_else_wrote_is_a_miss(changes: dict[str, Any]) -> None:
    backend = ResilientBackend(flask_cache(CACHE_TYPE="thumbnailer.memory_cache.MemoryCache"))
    cache = CaptureCache(backend)
    cache.store("key", capture_of(b"body"), retention_seconds=60)
    written = backend.get("key")
    assert written is not None
    length = int.from_bytes(written[4:8], "big")
    header = json.loads(written[8 : 8 + length])
    header["record"] |= changes
    forged = json.dumps(header).encode()
    entry = written[:4] + len(forged).to_bytes(4, "big") + forged + written[8 + length :]
    backend.set("key", entry, timeout_seconds=60)
    assert cache.load("key") is None


def test_a_header_nested_without_end_is_a_miss() -> None:
    backend = ResilientBackend(flask_cache(CACHE_TYPE="thumbnailer.memory_cache.MemoryCache"))
    nested = b"[" * 200_000
    backend.set("key", b"tnc1" + len(nested).to_bytes(4, "big") + nested, timeout_seconds=60)
    assert CaptureCache(backend).load("key") is None


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["small", "large"])
def test_a_capture_lives_on_where_its_time_is_prolonged(tmp_path: Path, body: bytes) -> None:
    now = [1_000_000.0]
    store = FolderCache(tmp_path, clock=lambda: now[0])
    cache = CaptureCache(ResilientBackend(store), clock=lambda: now[0])
    cache.store("key", capture_of(body), retention_seconds=100_000)
    for _ in range(5):
        now[0] += 80_000
        cache.prolong("key", retention_seconds=100_000)
        found = cache.load("key")
        assert found is not None
        assert found.body() == body
    now[0] += 110_000
    assert cache.load("key") is None
    cache.prolong("key", retention_seconds=100_000)
    assert cache.load("key") is None, "what has gone does not come back"


def test_a_capture_with_most_of_its_time_before_it_is_not_written_anew(recorder: Recorder) -> None:
    cache = CaptureCache(ResilientBackend(recorder))
    cache.store("key", capture_of(LARGE), retention_seconds=HOUR)
    before = list(recorder.keys)
    cache.prolong("key", retention_seconds=HOUR)
    assert recorder.keys == before
