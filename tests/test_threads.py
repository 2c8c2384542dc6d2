"""Where the system starts no further thread for a while: what is refused, and that all goes on afterwards."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import cast

import pytest

from tests.support.access import sqlite_url
from tests.support.databases import open_database
from tests.support.processes import wait_until
from tests.support.remote import REQUEST, provider_of
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer.errands import Errands
from thumbnailer.errors import Overloaded
from thumbnailer.guard import Guard
from thumbnailer.jobs import Claim, Job
from thumbnailer.jobs.leases import Leases
from thumbnailer.jobs.ledger import JobLedger
from thumbnailer.model import Deadline
from thumbnailer.providers.browser_thread import BrowserThread
from thumbnailer.providers.exchange import UpstreamSession
from thumbnailer.providers.launch import ChromiumSettings
from thumbnailer.providers.snapapi import SNAPAPI
from thumbnailer.terms import Delivery
from thumbnailer.usage import Counted, UsageMeter


@contextmanager
def no_thread_to_be_had() -> Iterator[None]:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield


def test_a_provider_is_not_called_without_somebody_to_watch_the_time(upstream: Upstream) -> None:
    with UpstreamSession() as session:
        provider = provider_of(SNAPAPI, session, upstream.url)
        with no_thread_to_be_had(), pytest.raises(Overloaded):
            provider.capture(REQUEST, Deadline.after(60))
        assert not upstream.requests
        assert b"".join(provider.capture(REQUEST, Deadline.after(60)))


def test_a_browser_without_a_thread_is_refused_and_starts_later() -> None:
    async def work(_browsers: object) -> str:
        return "done"

    with closing(BrowserThread(ChromiumSettings(executable=None), Guard())) as browser:
        with no_thread_to_be_had(), pytest.raises(Overloaded):
            browser.call(work, Deadline.after(60))
        assert browser.call(work, Deadline.after(60)) == "done"


def test_a_batch_without_a_thread_is_told_to_come_again(upstream: Upstream) -> None:
    with client_of(snapapi_environment(upstream.url)) as client:
        with no_thread_to_be_had():
            refused = client.post("/screenshots/batch", json={"urls": [TARGET]})
        assert (refused.status_code, refused.get_json()["type"]) == (503, "/problems/overloaded")
        done = client.post("/screenshots/batch", json={"urls": [TARGET]}).get_json()
        assert [each["status"] for each in done["results"]] == ["ok"]


def test_usage_is_written_as_soon_as_there_is_a_thread_for_it(tmp_path: Path) -> None:
    with closing(open_database(sqlite_url(tmp_path))) as database:
        meter, reader = UsageMeter(database, flush_seconds=0.01), UsageMeter(database)
        with no_thread_to_be_had():
            meter.count("key:a", Counted.HITS)
        meter.count("key:a", Counted.HITS)
        wait_until(lambda: [day.counts["hits"] for day in reader.read(reader.today())] == [2])
        meter.close()


def test_usage_that_never_had_a_thread_is_written_at_the_end(tmp_path: Path) -> None:
    with closing(open_database(sqlite_url(tmp_path))) as database:
        meter = UsageMeter(database)
        with no_thread_to_be_had():
            meter.count("key:a", Counted.HITS)
        meter.close()
        assert [day.counts["hits"] for day in meter.read(meter.today())] == [1]


def test_leases_are_renewed_as_soon_as_there_is_a_thread_for_it() -> None:
    class Book:
        renewed: Sequence[Claim] = ()

        def renew(self, claims: Sequence[Claim]) -> None:
            self.renewed = claims

    book, (one, other) = Book(), (Claim(cast(Job, None), token) for token in ("one", "other"))
    with closing(Leases(cast(JobLedger, book), interval_seconds=0.01)) as leases, ExitStack() as held:
        with no_thread_to_be_had():
            held.enter_context(leases.held(one))
        held.enter_context(leases.held(other))
        wait_until(lambda: {claim.token for claim in book.renewed} == {"one", "other"})


def test_an_errand_that_was_refused_is_never_run() -> None:
    go_on, run = threading.Event(), list[str]()

    def errand(name: str) -> Callable[[Callable[[], None]], Delivery]:
        def work(_begin: Callable[[], None]) -> Delivery:
            assert go_on.wait(60)
            run.append(name)
            raise Overloaded("for the test")

        return work

    with closing(Errands(places=3)) as errands:
        first, _ = errands.join("first", errand("first"))
        with no_thread_to_be_had(), pytest.raises(Overloaded):
            errands.join("second", errand("refused"))
        again, is_own = errands.join("second", errand("second"))
        assert is_own
        go_on.set()
        for each in (first, again):
            with pytest.raises(Overloaded, match="for the test"):
                each.wait(60)
    assert sorted(run) == ["first", "second"]
