"""What a process counts is in a file for others to read, as far as there is room for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client.mmap_dict import MmapedDict

from tests.support.processes import opened_in
from tests.support.small_disks import room_for
from thumbnailer.counter_files import FIRST_BYTES, CounterFile

KEYS = [f"a key that takes some room: {number}" for number in range(4000)]


def count_all(counts: Any) -> None:
    for number, key in enumerate(KEYS):
        counts.write_value(key, number, 0.0)
    assert [counts.read_value(key)[0] for key in KEYS] == list(range(len(KEYS)))
    counts.close()


def told(file: Path) -> dict[str, float]:
    """What other processes read in it."""
    values: Any = MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]
    return {key: number for key, number, *_ in values}


def test_what_is_counted_is_told_however_much_it_is(tmp_path: Path) -> None:
    count_all(CounterFile(str(tmp_path / "counter_1.db")))
    assert told(tmp_path / "counter_1.db") == {key: number for number, key in enumerate(KEYS)}
    assert [path.name for path in tmp_path.iterdir()] == ["counter_1.db"]
    assert opened_in(tmp_path) == []


def test_what_there_is_no_room_for_is_counted_all_the_same_and_the_rest_told(tmp_path: Path) -> None:
    with room_for(3 * FIRST_BYTES):
        count_all(CounterFile(str(tmp_path / "counter_1.db")))
    counted = told(tmp_path / "counter_1.db")
    assert 0 < len(counted) < len(KEYS)
    assert counted.items() <= {key: number for number, key in enumerate(KEYS)}.items()
    assert opened_in(tmp_path) == []


def test_without_any_room_or_file_all_is_counted_in_memory(tmp_path: Path) -> None:
    with room_for(0):
        count_all(CounterFile(str(tmp_path / "counter_1.db")))
    assert list(tmp_path.iterdir()) == []
    count_all(CounterFile(str(tmp_path)))  # which is no file, and cannot be opened as one
    assert opened_in(tmp_path) == []
