"""Purges behind the doors: refreshes, old copies, lost marks, and bytes that could not be deleted."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import redis
from flask_caching import Cache
from hypothesis import given
from hypothesis import strategies as some

from tests.support.captures import capture_of
from tests.support.clocks import NOON, Clock
from tests.support.processes import wait_until
from tests.support.stores import flask_cache, redis_cache
from tests.support.trips import TARGET, Journey, journey
from thumbnailer import purges as purges_module
from thumbnailer.backend import ResilientBackend
from thumbnailer.cache import CaptureCache
from thumbnailer.catalogue import Catalogue, RedisCatalogue
from thumbnailer.errors import CacheUnavailable, TargetUnreachable, UpstreamFailed
from thumbnailer.file_cache import FolderCache
from thumbnailer.locks import FileLocks
from thumbnailer.model import CaptureRequest, Deadline
from thumbnailer.picture_cache import PictureCache
from thumbnailer.purges import ADDRESS, MAX_MARKS, Purges
from thumbnailer.purging import Purger, scopes_of
from thumbnailer.setbacks import Setbacks
from thumbnailer.sites import EVERYTHING, Extent, Kind, PictureKey, Scope, Site, kind_of
from thumbnailer.terms import CacheStatus

REQUEST = CaptureRequest(url=TARGET)
SITE = Site.of(TARGET)
KEY = PictureKey(SITE, Kind.CAPTURE, "0" * 64)
HOUR, MONTH = 3600, 31 * 86_400


@pytest.fixture
def trip(tmp_path: Path) -> Iterator[Journey]:
    trip = journey(tmp_path)
    yield trip
    trip.provider.may_finish.set()
    trip.refresher.close()


def _status(trip: Journey) -> CacheStatus:
    return trip.pipeline.fetch(REQUEST, trip.terms()).cache_status


def _purge(trip: Journey) -> None:
    trip.purger.purge([SITE.scope])
    trip.clock.turn(1)


def test_an_old_copy_is_not_served_while_a_new_one_is_taken(trip: Journey) -> None:
    _status(trip)
    trip.clock.turn(HOUR + 1)
    _purge(trip)
    assert _status(trip) is CacheStatus.MISS


def test_an_old_copy_is_not_served_where_a_new_one_fails(trip: Journey) -> None:
    _status(trip)
    _purge(trip)
    trip.provider.fails_with = UpstreamFailed("broken")
    with pytest.raises(UpstreamFailed):
        _status(trip)


def test_an_old_copy_is_not_served_where_a_new_one_fails_while_it_is_purged(trip: Journey) -> None:
    _status(trip)
    trip.clock.turn(29 * 86_400)
    trip.provider.fails_with = UpstreamFailed("broken")
    with pytest.raises(UpstreamFailed):
        trip.pipeline.fetch(REQUEST, trip.terms(admit=lambda: _purge(trip)))


def test_a_refresh_that_was_under_way_is_not_kept(trip: Journey) -> None:
    _status(trip)
    trip.clock.turn(HOUR + 1)
    trip.provider.may_finish.clear()
    assert _status(trip) is CacheStatus.STALE
    wait_until(lambda: trip.provider.calls == 2, what="the refresh")
    _purge(trip)
    trip.provider.may_finish.set()
    wait_until(lambda: trip.refresher.is_idle, what="the end of the refresh")
    assert _status(trip) is CacheStatus.MISS
    assert trip.provider.calls == 3


def test_a_clock_that_is_set_back_after_a_purge_keeps_no_new_picture_out_of_the_cache(trip: Journey) -> None:
    _status(trip)
    _purge(trip)
    trip.clock.turn(-86_400)
    assert _status(trip) is CacheStatus.MISS, "what was purged is not there"
    trip.clock.turn(1)
    _status(trip)
    assert [_status(trip) for _ in range(2)] == [CacheStatus.HIT] * 2


def test_a_clock_that_is_set_back_is_heeded_by_whoever_hears_of_purges_from_others(store: Store) -> None:
    purges = store.purges()
    setbacks = Setbacks(store.backend, purges, clock=store.clock)
    purges.mark([SITE.scope], store.clock())
    purges.newest(SITE)
    store.clock.turn(-86_400)
    setbacks.refuse(REQUEST)
    assert purges.newest(SITE) == store.clock()


def test_a_failure_from_before_is_forgotten_even_where_it_could_not_be_deleted(trip: Journey) -> None:
    trip.provider.fails_with = TargetUnreachable("gone")
    for _ in range(2):
        with pytest.raises(TargetUnreachable):
            _status(trip)
    assert trip.provider.calls == 1
    trip.clock.turn(1)
    trip.purges.mark([SITE.scope], trip.clock())
    trip.clock.turn(1)
    trip.provider.fails_with = None
    assert _status(trip) is CacheStatus.MISS


def test_a_failure_after_a_purge_counts_from_one_again(trip: Journey) -> None:
    trip.provider.fails_with = TargetUnreachable("gone")
    pauses = []
    for _ in range(3):
        with pytest.raises(TargetUnreachable) as raised:
            _status(trip)
        pauses.append(raised.value.retry_after_seconds)
        trip.clock.turn(pauses[-1] or 0)
    assert pauses == [60, 120, 240]
    _purge(trip)
    with pytest.raises(TargetUnreachable) as raised:
        _status(trip)
    assert raised.value.retry_after_seconds == 60


class Store:
    """A cache backend that several processes may share, each with marks of its own knowledge."""

    def __init__(self, cache: Cache, catalogue: Catalogue, folder: Path) -> None:
        self.cache = cache
        self.backend = ResilientBackend(cache)
        self.catalogue = catalogue
        self.clock = Clock()
        self._folder = folder

    def purges(self) -> Purges:
        locks = FileLocks(self._folder / "locks")
        return Purges(self.backend, locks, horizon_seconds=MONTH, clock=self.clock)

    def pictures(self, purges: Purges | None = None) -> PictureCache:
        return PictureCache(CaptureCache(self.backend), purges or self.purges())

    def purger(self, purges: Purges | None = None) -> Purger:
        return Purger(purges or self.purges(), self.catalogue, CaptureCache(self.backend), clock=self.clock)

    def keep(self, key: PictureKey = KEY, body: bytes = b"picture") -> bool:
        pictures = self.pictures()
        capture = capture_of(body, captured_at=self.clock())
        return pictures.store(pictures.board(key), capture, retention_seconds=MONTH)


@pytest.fixture(params=["memory", "files", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "memory":
        cache = flask_cache(CACHE_TYPE="thumbnailer.memory_cache.MemoryCache")
        return Store(cache, cache.cache, tmp_path)  # type: ignore[arg-type]  # Flask-Caching says SimpleCache
    if request.param == "files":
        cache = flask_cache(CACHE_TYPE="thumbnailer.file_cache.FileCache", CACHE_DIR=str(tmp_path))
        return Store(cache, cache.cache, tmp_path)  # type: ignore[arg-type]  # as above
    url, prefix = request.getfixturevalue("redis_url"), f"a*b[{secrets.token_hex(4)}]:"
    client = redis.Redis.from_url(url, socket_timeout=5)
    cache = redis_cache(url, prefix=prefix, timeout_seconds=5)
    return Store(cache, RedisCatalogue(client, key_prefix=prefix), tmp_path)


def test_what_could_not_be_deleted_is_not_served_by_any_process(store: Store) -> None:
    store.keep()
    late = store.pictures()  # knows of no marks yet
    store.clock.turn(1)
    store.purges().mark([SITE.scope], store.clock())
    assert CaptureCache(store.backend).load(KEY.address) is not None, "the bytes are still there"
    assert late.load(KEY) is None
    assert store.pictures().load(KEY) is None


def test_who_knows_the_marks_hears_of_a_new_one_soon(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purges_module, "REREAD_SECONDS", 0.05)
    store.keep()
    pictures = store.pictures()
    assert pictures.load(KEY) is not None
    store.clock.turn(1)
    store.purges().mark([SITE.scope], store.clock())
    wait_until(lambda: pictures.load(KEY) is None, seconds=5, what="the news")


def test_a_hit_asks_nothing_but_for_its_picture(store: Store) -> None:
    store.keep()
    pictures, asked = store.pictures(), []
    get = store.backend.get

    def count(key: str) -> bytes | None:
        asked.append(key)
        return get(key)

    pictures.load(KEY)
    store.backend.get = count  # type: ignore[method-assign]  # counts
    for _ in range(50):
        pictures.load(KEY)
    assert asked.count(ADDRESS) <= 1
    assert len(asked) <= 51


def test_who_has_asked_for_setbacks_has_asked_for_purges(store: Store) -> None:
    purges = store.purges()
    setbacks = Setbacks(store.backend, purges, clock=store.clock)
    purges.newest(SITE)
    begun_at = time.monotonic()
    store.purges().mark([SITE.scope], NOON)

    setbacks.refuse(REQUEST)
    store.purges().mark([SITE.scope], NOON + 1)

    assert purges.newest(SITE, since=begun_at) == NOON, "not asked again"
    assert purges.newest(SITE, since=time.monotonic()) == NOON + 1


def test_who_knows_of_no_purge_yet_does_not_rely_on_another_who_is_asking(store: Store) -> None:
    store.purges().mark([SITE.scope], NOON)
    purges, get, meanwhile = store.purges(), store.backend.get, list[float]()

    def answer_late(key: str) -> bytes | None:
        if not meanwhile:
            meanwhile.append(-1)
            meanwhile.append(purges.newest(SITE))
        return get(key)

    store.backend.get = answer_late  # type: ignore[method-assign]  # somebody else asks before it answers
    assert purges.newest(SITE) == NOON
    assert meanwhile == [-1, NOON]


@pytest.mark.parametrize("knows_already", [False, True], ids=["asks first", "asked before"])
def test_what_was_purged_before_it_is_stored_is_not_kept(store: Store, knows_already: bool) -> None:
    pictures = store.pictures()
    begun_at = time.monotonic()
    boarding = pictures.board(KEY, since=begun_at)
    store.purges().mark([SITE.scope], store.clock() + 1)
    store.clock.turn(2)

    since = begun_at if knows_already else time.monotonic()
    capture = capture_of(b"picture", captured_at=store.clock())
    is_kept = pictures.store(boarding, capture, retention_seconds=MONTH, since=since)

    assert not is_kept
    assert CaptureCache(store.backend).load(KEY.address) is None


def test_marks_that_the_store_has_lost_hold_as_long_as_somebody_remembers(store: Store) -> None:
    store.keep()
    store.clock.turn(1)
    purges = store.purges()
    purges.mark([SITE.scope], store.clock())
    store.backend.delete(ADDRESS)
    assert purges.newest(SITE, since=time.monotonic()) == store.clock()
    purges.mark([Scope(Extent.HOST, "example.com")], store.clock())
    assert store.purges().newest(SITE) == store.clock(), "and are written again with the next"


def test_bytes_are_gone_even_if_the_marks_are_lost(store: Store) -> None:
    store.keep()
    store.clock.turn(1)
    report = store.purger().purge([SITE.scope])
    store.backend.delete(ADDRESS)
    assert (report.captures, report.is_complete) == (1, True)
    assert store.pictures().load(KEY) is None


def test_a_mark_that_is_no_mark_is_none(store: Store) -> None:
    store.keep()
    for nonsense in (b"", b"{", b"[1]", b'{"everything:": "x"}', b'{"everything:": 1e999}', b"null"):
        store.backend.set(ADDRESS, nonsense, timeout_seconds=60)
        assert store.pictures().load(KEY) is not None


def test_two_who_purge_at_once_both_leave_their_mark(store: Store) -> None:
    one, other = store.purges(), store.purges()
    one.mark([SITE.scope], NOON)
    other.mark([Scope(Extent.HOST, "example.com")], NOON + 1)
    one.mark([SITE.scope], NOON - 5)
    fresh = store.purges()
    assert fresh.newest(SITE) == NOON, "an older purge takes nothing back"
    assert fresh.newest(Site.of("http://example.com/")) == NOON + 1


def test_marks_are_forgotten_when_nothing_can_be_so_old(store: Store) -> None:
    purges = store.purges()
    purges.mark([EVERYTHING], store.clock())
    store.clock.turn(MONTH + 1)
    purges.mark([Scope(Extent.HOST, "example.com")], store.clock())
    assert list(json.loads(store.backend.get(ADDRESS) or b"")) == ["host:example.com"]


@pytest.mark.parametrize("is_everything", [False, True], ids=["hosts", "and everything"])
def test_too_many_marks_become_one_that_covers_more(store: Store, is_everything: bool) -> None:
    def hosts(age: str, count: int) -> list[Scope]:
        return [Scope(Extent.HOST, f"{age}{number}.example.com") for number in range(count)]

    def key(host: str) -> PictureKey:
        return PictureKey(Site.of(f"http://{host}/"), Kind.CAPTURE, "0")

    store.keep()
    purges, half = store.purges(), MAX_MARKS // 2
    store.clock.turn(1)
    purges.mark([SITE.scope], store.clock())
    store.clock.turn(60)
    store.keep(key(f"old{half}.example.com"))
    store.clock.turn(1)
    purges.mark(hosts("old", half + 1), store.clock())
    store.clock.turn(60)
    for host in ("new0.example.com", "example.org"):
        store.keep(key(host))
    store.clock.turn(1)
    purges.mark(
        [*hosts("new", half - 1), *([EVERYTHING] if is_everything else hosts("last", 1))], store.clock()
    )

    written = store.backend.get(ADDRESS) or b""
    assert len(json.loads(written)) <= MAX_MARKS
    assert len(written) < 500_000
    gone = (KEY, key(f"old{half}.example.com"), key("new0.example.com"))
    pictures = store.pictures()
    assert [pictures.load(each) for each in gone] == [None] * 3, "nothing that was purged comes back"
    assert (pictures.load(key("example.org")) is None) == is_everything, "what nobody purged stays"


def test_a_purge_that_runs_out_of_time_says_so_and_holds(store: Store) -> None:
    for number in range(3):
        store.keep(PictureKey(Site.of(f"{TARGET}/{number}"), Kind.CAPTURE, "0"))
    store.clock.turn(1)
    purges = store.purges()
    report = store.purger(purges).purge([EVERYTHING], deadline=Deadline.after(0))
    assert not report.is_complete
    pictures = store.pictures(purges)
    assert [
        pictures.load(PictureKey(Site.of(f"{TARGET}/{number}"), Kind.CAPTURE, "0")) for number in range(3)
    ] == [None] * 3


class Breaking:
    """A catalogue that fails while it lists."""

    def find(self, prefixes: Sequence[str]) -> Iterator[Sequence[str]]:
        yield list(prefixes)
        raise redis.exceptions.ConnectionError

    def remove(self, keys: Sequence[str]) -> int:
        return len(keys)


def test_a_cache_that_fails_halfway_is_no_success(store: Store) -> None:
    purger = Purger(store.purges(), Breaking(), CaptureCache(store.backend), clock=store.clock)
    with pytest.raises(CacheUnavailable):
        purger.purge([EVERYTHING])


@pytest.mark.parametrize("failing", ["get", "set"])
def test_a_mark_that_cannot_be_left_where_all_see_it_is_no_success(
    store: Store, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """A store that is full refuses to write, and still answers."""

    def refuse(*_of_a_value: object, **_more: object) -> object:
        raise redis.exceptions.ResponseError("OOM command not allowed when used memory > 'maxmemory'")

    store.purges().mark([SITE.scope], NOON)
    before = store.backend.get(ADDRESS)
    with monkeypatch.context() as patched:
        patched.setattr(store.cache.cache, failing, refuse)
        with pytest.raises(CacheUnavailable):
            store.purges().mark([EVERYTHING], NOON + 1)
    assert store.backend.get(ADDRESS) == before, "and what others have left is not written over"


def test_who_hears_of_the_same_marks_again_has_heard_nothing_new(store: Store) -> None:
    purges = store.purges()
    purges.mark([SITE.scope], NOON)
    version = purges.version
    assert purges.newest(SITE, since=time.monotonic()) == NOON
    assert purges.version == version
    store.purges().mark([SITE.scope], NOON + 1)
    assert purges.newest(SITE, since=time.monotonic()) == NOON + 1
    assert purges.version > version


def test_what_else_is_in_the_store_stays(store: Store) -> None:
    others = ("ready", "purges", "idempotency:abc", "failure:abc", "target", "other|target|com")
    for name in others[:1] + others[2:]:
        store.backend.set(name, b"x", timeout_seconds=60)
    store.keep()
    store.purger().purge([EVERYTHING])
    assert all(store.backend.has(name) for name in others)


@pytest.mark.parametrize("prefixes", [("target|a|1/",), ("target|a|1/", "target|b|"), ("target|",)])
def test_a_catalogue_finds_what_begins_so_and_nothing_else(store: Store, prefixes: Sequence[str]) -> None:
    keys = {f"target|{host}|{page}/{name}" for host in "ab" for page in "12" for name in ("capture:x", "r")}
    keys |= {"target", "targets|a|1/x", "purges", "x*", "ü"}
    for key in keys:
        store.backend.set(key, b"x", timeout_seconds=60)
    found = [key for batch in store.catalogue.find(prefixes) for key in batch]
    assert sorted(found) == sorted(key for key in keys if key.startswith(tuple(prefixes)))
    assert store.catalogue.remove([*found, "never there"]) == len(found)
    assert not any(store.backend.has(key) for key in found)


def test_the_files_of_one_page_lie_in_one_folder_so_that_not_all_are_read(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path)
    for page in range(300):
        cache.set(f"target|com.example|{page}/capture:x", b"x", timeout=60)
    folders = {path.parent for path in (tmp_path / "entries").rglob("*") if path.is_file()}
    assert len(folders) > 100
    (batch,) = list(cache.find(["target|com.example|7/"]))
    assert batch == ["target|com.example|7/capture:x"]


HOSTS = some.lists(some.sampled_from(["a", "b", "www", "com", "x-y", "a_b"]), min_size=1, max_size=4).map(
    ".".join
)


@given(HOSTS, HOSTS, some.sampled_from(["/", "/a", "/a?b"]))
def test_a_scope_finds_the_addresses_of_what_it_holds_and_no_others(one: str, other: str, path: str) -> None:
    site, asked = Site.of(f"http://{one}{path}"), Site.of(f"http://{other}/a")
    address = site.address(Kind.CAPTURE, "0")
    for scope in asked.scopes():
        assert address.startswith(scope.prefixes) == (scope in set(site.scopes())), scope


def test_addresses_tell_their_kind() -> None:
    for kind in Kind:
        assert kind_of(SITE.address(kind, "x:y")) is kind
    assert kind_of("purges") is None


def test_the_scope_of_a_domain_that_is_an_address_does_not_exist() -> None:
    assert [scope.extent for scope in SITE.scopes()] == [Extent.EVERYTHING, Extent.HOST, Extent.PAGE]
    (scope,) = scopes_of([], ["*.example.com"], is_everything=False)
    assert scope in set(Site.of("https://a.example.com/").scopes())
