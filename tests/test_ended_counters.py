"""What processes have counted that are no more is kept in few files, and told as before."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.small_disks import room_for
from thumbnailer.ended_counters import forget_ended, held_steady
from thumbnailer.metrics import Metrics

#: Counts as a worker process does, in the folder that it is told, and is killed.
WORKER = """
import os, signal, sys
from pathlib import Path
from thumbnailer.metrics import Metrics
metrics = Metrics(Path(sys.argv[1]), count_waiting=lambda: 3, waiting_places=40)
metrics.count_request("/thumb", "GET", 200, sys.argv[2], 0.2)
metrics.count_job("completed")
metrics.settle()
os.kill(os.getpid(), signal.SIGKILL)
"""
OF_OTHERS = ("gauge_livesum_1.db", "counter_1.db", "histogram_1.db")


def count_and_die(folder: Path, cache: str = "hit") -> None:
    subprocess.run([sys.executable, "-c", WORKER, str(folder), cache], check=False, timeout=60)


def told(folder: Path) -> dict[str, float]:
    """What a process tells that has counted nothing itself, without the times of creation."""
    text = Metrics(folder).exposition([]).decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.value and not sample.name.endswith("_created")
    }


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.db") if str(os.getpid()) not in path.name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With what one process has counted that lives, as far as anybody knows here, and two that do not."""
    count_and_die(tmp_path, "miss")
    for path in sorted(tmp_path.glob("*.db")):
        path.rename(tmp_path / f"{path.stem.rpartition('_')[0]}_1.db")
    count_and_die(tmp_path)
    count_and_die(tmp_path)
    return tmp_path


LIVING = (1, os.getpid())


def test_what_ended_processes_have_counted_is_told_from_one_file_of_each_kind(folder: Path) -> None:
    before = told(folder)
    assert before["thumbnailer_job_attempts_total[('outcome', 'completed')]"] == 3
    assert before["thumbnailer_waiting_places[]"] == 120
    for _ in range(2):
        forget_ended(folder, LIVING)
        assert files(folder) == sorted(["counter_ended.db", "histogram_ended.db", *OF_OTHERS])
    after = told(folder)
    assert after.pop("thumbnailer_waiting_places[]") == 40
    assert after.pop("thumbnailer_waiting_requests[]") == 3
    assert after.items() <= before.items()
    assert len(after) == len(before) - 2
    count_and_die(folder)
    forget_ended(folder, LIVING)
    assert told(folder)["thumbnailer_job_attempts_total[('outcome', 'completed')]"] == 4
    assert told(folder)["thumbnailer_request_duration_seconds_sum[('route', '/thumb')]"] == pytest.approx(0.8)
    assert files(folder) == sorted(["counter_ended.db", "histogram_ended.db", *OF_OTHERS])


def test_nothing_is_moved_while_somebody_reads(folder: Path) -> None:
    before, told_before = files(folder), told(folder)
    reading, moved = threading.Event(), threading.Event()

    def read() -> None:
        with held_steady(folder):
            reading.set()
            moved.wait(60)

    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(60)
    with held_steady(folder):  # nor do readers wait for each other
        forget_ended(folder, LIVING)
    assert [name for name in before if not name.startswith("gauge")] == [
        name for name in files(folder) if not name.startswith("gauge")
    ]
    moved.set()
    reader.join()
    forget_ended(folder, LIVING)
    assert len(files(folder)) < len(before)
    assert told(folder).items() - told_before.items() == {
        ("thumbnailer_waiting_places[]", 40),
        ("thumbnailer_waiting_requests[]", 3),
    }


def test_what_there_is_no_room_to_add_up_stays_where_it_is(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with room_for(100):
        forget_ended(folder, LIVING)
    assert "stays in a file of its own" in caplog.text
    assert "counter_ended.db" not in files(folder)
    assert not list(folder.glob("*.draft"))
    assert told(folder)["thumbnailer_job_attempts_total[('outcome', 'completed')]"] == 3


def test_a_damaged_file_ends_no_main_process_and_neither_does_a_folder_that_is_gone(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "counter_2.db").write_bytes(b"\xff\x00\x00\x00 no counts at all")
    forget_ended(folder, LIVING)
    forget_ended(folder / "removed", LIVING)
    assert caplog.text.count("stays in a file of its own") == 2
    assert "counter_2.db" in files(folder)
