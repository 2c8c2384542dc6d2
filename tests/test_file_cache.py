"""The file backend: bounded in bytes, shared by processes, calm on a broken disk."""

from __future__ import annotations

import errno
import os
import pickle
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from tests.support.clocks import Clock
from tests.support.stores import flask_cache
from thumbnailer.cache_files import MAGIC
from thumbnailer.file_cache import SWEEP_SECONDS, TOUCH_SECONDS, FolderCache

VALUE = bytes(range(256)) * 40


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> FolderCache:
    return FolderCache(tmp_path, clock=clock)


def entries(folder: Path) -> list[Path]:
    return [path for path in (folder / "entries").rglob("*") if path.is_file()]


def used_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in entries(folder))


def in_other_process(folder: Path, code: str) -> subprocess.Popen[str]:
    """Run ``code`` in a process of its own, with ``cache`` over ``folder``; its prints are piped."""
    start = (
        "import os, resource, signal\nfrom pathlib import Path\n"
        f"from thumbnailer.file_cache import FolderCache\ncache = FolderCache(Path({str(folder)!r}))\n"
    )
    return subprocess.Popen([sys.executable, "-c", start + code], stdout=subprocess.PIPE, text=True)


def output_of(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return output.strip()


def test_values_come_back_and_go(cache: FolderCache) -> None:
    assert cache.get("key") is None
    assert not cache.has("key")
    assert cache.set("key", VALUE, timeout=60)
    assert cache.get("key") == VALUE
    assert cache.has("key")
    assert cache.delete("key")
    assert not cache.delete("key")
    assert cache.get("key") is None


def test_flask_caching_makes_it_with_its_options(tmp_path: Path) -> None:
    store = flask_cache(
        CACHE_TYPE="thumbnailer.file_cache.FileCache",
        CACHE_DIR=str(tmp_path / "new" / "folder"),
        CACHE_OPTIONS={"max_bytes": 1000},
    )
    assert type(store.cache).__name__ == "FileCache"
    assert store.set("key", b"value")
    assert store.get("key") == b"value"
    assert not store.set("too large", bytes(1001)), "the bound is heeded"
    assert store.clear()
    assert not store.has("key")


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({}, ValueError),
        ({"CACHE_DIR": "x", "CACHE_ARGS": ["y"]}, ValueError),
        ({"CACHE_DIR": "x", "CACHE_OPTIONS": {"max_byte": 1}}, TypeError),
    ],
    ids=["no-folder", "arguments", "mistyped-option"],
)
def test_a_wrong_configuration_stops_the_start(config: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        flask_cache(CACHE_TYPE="thumbnailer.file_cache.FileCache", **config)


def test_add_does_not_pretend_to_store(cache: FolderCache) -> None:
    with pytest.raises(NotImplementedError):
        cache.add("key", VALUE)


@pytest.mark.parametrize(
    ("timeout", "after_seconds", "is_there"),
    [(60, 59, True), (60, 60, False), (0, 10**9, True), (None, 299, True), (None, 300, False)],
    ids=["before", "expired", "for-ever", "default", "default-expired"],
)
def test_values_expire(
    cache: FolderCache, clock: Clock, timeout: int | None, after_seconds: int, *, is_there: bool
) -> None:
    cache.set("key", VALUE, timeout=timeout)
    clock.now += after_seconds
    assert cache.has("key") is is_there
    assert (cache.get("key") is not None) is is_there


def test_files_lie_in_sub_folders_and_are_readable_by_their_owner_only(
    cache: FolderCache, tmp_path: Path
) -> None:
    for number in range(50):
        cache.set(f"../../key {number}/", VALUE)
    found = entries(tmp_path)
    assert len(found) == 50
    assert {stat.S_IMODE(path.stat().st_mode) for path in found} == {0o600}
    assert len({path.parent for path in found}) > 20
    assert {stat.S_IMODE(path.parent.stat().st_mode) for path in found} == {0o700}


@pytest.mark.parametrize(
    "content", [b"", b"tnf1", pickle.dumps(VALUE), b"tnf1" + bytes(8) + pickle.dumps(VALUE)]
)
def test_a_foreign_or_damaged_file_is_a_miss(cache: FolderCache, tmp_path: Path, content: bytes) -> None:
    cache.set("key", VALUE)
    entries(tmp_path)[0].write_bytes(content)
    assert cache.get("key") is None


def test_the_folder_stays_within_its_bound_and_keeps_what_was_used_last(tmp_path: Path, clock: Clock) -> None:
    max_bytes = 50 * len(VALUE)
    cache = FolderCache(tmp_path, max_bytes=max_bytes, clock=clock)
    cache.set("loved", VALUE, timeout=10**6)
    for number in range(300):
        clock.now += TOUCH_SECONDS + 1
        assert cache.set(f"{number}", VALUE, timeout=10**6)
        assert cache.has("loved")
        assert used_bytes(tmp_path) <= max_bytes
    assert cache.has("299")
    assert not cache.has("0")
    assert len(entries(tmp_path)) > 35, "no more is removed than has to be"


def test_the_time_of_use_is_written_once_a_minute_however_often_a_value_is_read(
    cache: FolderCache, tmp_path: Path, clock: Clock
) -> None:
    cache.set("key", VALUE)
    (entry,), written_at = entries(tmp_path), clock.now
    for passed_seconds, expected in ((TOUCH_SECONDS, 0), (1, TOUCH_SECONDS + 1), (1, TOUCH_SECONDS + 1)):
        clock.now += passed_seconds
        assert cache.get("key") == VALUE
        assert entry.stat().st_mtime == written_at + expected


def test_what_lies_on_a_disk_that_takes_nothing_any_more_is_read_all_the_same(
    cache: FolderCache, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_of_a_file: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    cache.set("key", VALUE)
    clock.now += TOUCH_SECONDS + 1
    monkeypatch.setattr(os, "utime", refuse)
    assert cache.get("key") == VALUE


def test_of_what_came_within_one_second_only_as_much_goes_as_has_to(tmp_path: Path, clock: Clock) -> None:
    max_bytes = 20 * len(VALUE)
    cache = FolderCache(tmp_path, max_bytes=max_bytes, clock=clock)
    for number in range(50):
        cache.set(f"{number}", VALUE, timeout=10**6)
        assert used_bytes(tmp_path) <= max_bytes
    assert len(entries(tmp_path)) >= 15


def test_what_has_expired_goes_first(tmp_path: Path, clock: Clock) -> None:
    cache = FolderCache(tmp_path, max_bytes=20 * len(VALUE), clock=clock)
    cache.set("old but alive", VALUE, timeout=10**6)
    clock.now += 1
    cache.set("newer", VALUE, timeout=10)
    clock.now += 11
    cache.sweep()
    assert len(entries(tmp_path)) == 1
    assert cache.has("old but alive")


def test_expired_values_are_swept_by_the_passing_of_time_alone(
    cache: FolderCache, tmp_path: Path, clock: Clock
) -> None:
    for number in range(10):
        cache.set(f"{number}", b"small", timeout=10)
    clock.now += SWEEP_SECONDS + 1
    cache.set("new", b"small", timeout=10)
    assert len(entries(tmp_path)) == 1


def test_what_has_expired_goes_although_nothing_more_can_be_written(
    cache: FolderCache, tmp_path: Path, clock: Clock
) -> None:
    cache.set("old", b"small", timeout=10)
    clock.now += SWEEP_SECONDS + 1
    (tmp_path / "drafts").rmdir()
    (tmp_path / "drafts").symlink_to("full")
    assert not cache.set("new", b"small", timeout=10)
    assert entries(tmp_path) == []


def test_the_folder_is_swept_when_it_is_due_and_not_at_each_value(tmp_path: Path, clock: Clock) -> None:
    max_bytes = 64 * len(VALUE)
    cache = FolderCache(tmp_path, max_bytes=max_bytes, clock=clock)
    swept = []
    for number in range(8):
        clock.now += 1
        cache.set(f"{number}", VALUE)
        swept.append((tmp_path / "sweep.lock").stat().st_mtime == clock.now)
    assert swept == [True, False, True, False, True, False, True, False]


def test_what_is_no_entry_is_found_by_nobody_and_goes_with_a_sweep(
    cache: FolderCache, tmp_path: Path
) -> None:
    cache.set("key", VALUE)
    (entry,) = entries(tmp_path)
    for name, content in (("empty", b""), ("short", MAGIC), ("foreign", b"x" * 100)):
        entry.with_name(name).write_bytes(content)
    assert [key for keys in cache.find([""]) for key in keys if key] == ["key"]
    cache.sweep()
    assert entries(tmp_path) == [entry]


def test_drafts_of_dead_processes_are_removed_and_those_of_living_ones_kept(
    cache: FolderCache, tmp_path: Path, clock: Clock
) -> None:
    cache.set("key", VALUE)
    for name, age_seconds in (("dead", 2 * 3600), ("living", 10)):
        draft = tmp_path / "drafts" / name
        draft.write_bytes(VALUE)
        os.utime(draft, (clock.now - age_seconds, clock.now - age_seconds))
    cache.sweep()
    assert [path.name for path in (tmp_path / "drafts").iterdir()] == ["living"]


def test_a_clock_that_is_set_back_stops_neither_sweeps_nor_the_times_of_use(
    cache: FolderCache, tmp_path: Path, clock: Clock
) -> None:
    cache.set("short", VALUE, timeout=60)
    cache.set("used", VALUE)
    clock.now -= 86_400
    assert cache.get("used") == VALUE
    assert {path.stat().st_mtime for path in entries(tmp_path)} == {clock.now, clock.now + 86_400}
    cache.delete("short")
    (tmp_path / "drafts" / "left").touch()
    cache.set("other", VALUE)
    assert not (tmp_path / "drafts" / "left").exists(), "it swept"


def test_one_process_sweeps_at_a_time(cache: FolderCache, tmp_path: Path, clock: Clock) -> None:
    cache.set("key", VALUE, timeout=10)
    clock.now += 11
    with FileLock(tmp_path / "sweep.lock"):
        cache.sweep()
        assert len(entries(tmp_path)) == 1
    cache.sweep()
    assert entries(tmp_path) == []


@pytest.fixture
def obstacle(tmp_path: Path) -> Path:
    """Something that holds up the next sweep of ``tmp_path``, until somebody opens it for writing."""
    pipe = tmp_path / "entries" / "00" / "pipe"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    return pipe


def test_nobody_waits_for_the_sweep_that_is_due_with_their_value(tmp_path: Path, obstacle: Path) -> None:
    cache = flask_cache(CACHE_TYPE="thumbnailer.file_cache.FileCache", CACHE_DIR=str(tmp_path))
    stored = [threading.Thread(target=cache.set, args=(name, VALUE), daemon=True) for name in ("one", "two")]
    for each in stored:
        each.start()
    for each in stored:
        each.join(20)
    is_waiting = [each.is_alive() for each in stored]
    sweeps = [each for each in threading.enumerate() if each.name == "cache-sweep"]
    obstacle.write_bytes(b"")
    for each in sweeps:
        each.join(20)
    assert is_waiting == [False, False]
    assert len(sweeps) == 1
    assert not obstacle.exists(), "it was not swept"
    assert cache.get("one") == cache.get("two") == VALUE


def test_where_no_thread_can_be_started_the_sweep_is_done_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / "entries" / "00" / "no entry"
    leftover.parent.mkdir(parents=True)
    leftover.touch()
    cache = flask_cache(CACHE_TYPE="thumbnailer.file_cache.FileCache", CACHE_DIR=str(tmp_path))

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert cache.set("key", VALUE)
    assert not leftover.exists()


def test_a_process_that_ends_ends_its_sweep(tmp_path: Path, obstacle: Path) -> None:
    process = in_other_process(
        tmp_path,
        "from thumbnailer.file_cache import FileCache\n"
        f"FileCache(None, {{'CACHE_DIR': {str(tmp_path)!r}}}, (), {{}}).set('key', b'value')\n"
        "print('stored', flush=True)",
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "stored\n"
    obstacle.write_bytes(b"")
    output_of(process)
    assert not obstacle.exists()


@pytest.mark.usefixtures("obstacle")
def test_a_process_ends_without_a_sweep_that_hangs(tmp_path: Path) -> None:
    process = in_other_process(
        tmp_path,
        "from thumbnailer import file_cache\n"
        "file_cache.LAST_SWEEP_SECONDS = 0.2\n"
        f"file_cache.FileCache(None, {{'CACHE_DIR': {str(tmp_path)!r}}}, (), {{}}).set('key', b'value')\n",
    )
    output_of(process)
    assert FolderCache(tmp_path).get("key") == b"value"


def test_a_process_killed_while_writing_leaves_no_half_entry(tmp_path: Path) -> None:
    killed = in_other_process(
        tmp_path,
        "os.utime = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\ncache.set('key', bytes(100_000))",
    )
    killed.communicate(timeout=60)
    assert killed.returncode == -9
    assert len(list((tmp_path / "drafts").iterdir())) == 1
    assert FolderCache(tmp_path).get("key") is None


def test_many_processes_share_a_folder_and_see_whole_values_only(tmp_path: Path) -> None:
    code = (
        "seen = set()\n"
        "for number in range(300):\n"
        "    cache.set('shared', bytes([os.getpid() % 256]) * 50_000, timeout=60)\n"
        "    value = cache.get('shared')\n"
        "    seen.add(value is not None and len(value) == 50_000 and len(set(value)) == 1)\n"
        "    if number % 50 == 0: cache.sweep()\n"
        "print(seen)"
    )
    processes = [in_other_process(tmp_path, code) for _ in range(3)]
    assert [output_of(process) for process in processes] == ["{True}"] * 3
    assert len(entries(tmp_path)) == 1
    assert list((tmp_path / "drafts").iterdir()) == []


def test_many_threads_share_a_cache(tmp_path: Path) -> None:
    cache = FolderCache(tmp_path, max_bytes=len(VALUE) * 20)
    wrong: list[bytes] = []

    def work(thread_number: int) -> None:
        for number in range(60):
            key = f"{(thread_number + number) % 30}"
            cache.set(key, key.encode() * 5000, timeout=60)
            value = cache.get(key)
            if value not in (None, key.encode() * 5000):
                wrong.append(key.encode())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_full_disk_refuses_and_keeps_what_is_there(tmp_path: Path) -> None:
    FolderCache(tmp_path).set("key", b"value", timeout=60)
    output = output_of(
        in_other_process(
            tmp_path,
            "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"  # larger writes fail midway
            "print(cache.set('large', bytes(5000)), cache.set('key', bytes(5000)), cache.get('key'))",
        )
    )
    assert output == "False False b'value'"
    assert list((tmp_path / "drafts").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_cache_without_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    cache = FolderCache(tmp_path / "file" / "below a file")  # even root cannot write there
    for _ in range(5):
        assert not cache.set("key", VALUE)
        assert cache.get("key") is None
        assert not cache.has("key")
        assert not cache.delete("key")
    assert len(caplog.records) == 1, "the operator is told, once"
