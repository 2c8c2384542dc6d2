"""Webhooks of jobs: sent when they end, sent again, and kept from others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from standardwebhooks.webhooks import Webhook

from blueprints.services import EXTENSION
from tests.support.access import make_key
from tests.support.jobs import SECRET, TELLING, environment
from tests.support.processes import wait_until
from tests.support.receivers import running_receiver, url_of
from tests.support.service import TARGET, client_of, running_app
from tests.support.small_web import Reply, Seen
from tests.support.upstream import Upstream

#: Attempts that a silent receiver is given here; the usual number is another.
MAX_SILENCES = 2


@pytest.fixture
def client(upstream: Upstream, tmp_path: Path) -> Iterator[FlaskClient]:
    with client_of(environment(upstream, tmp_path, **TELLING)) as client:
        yield client


@pytest.mark.parametrize("is_cached", [False, True], ids=["new", "cached"])
def test_a_webhook_tells_of_the_end(client: FlaskClient, is_cached: bool) -> None:
    if is_cached:
        client.get("/screenshot", query_string={"url": TARGET})
    with running_receiver() as receiver:
        body = {"url": TARGET, "webhook_url": url_of(receiver), "wait": 20}
        job = client.post("/screenshots", json=body)
        wait_until(lambda: len(receiver.seen) == 1)
        (seen,) = receiver.seen
        told = Webhook(SECRET).verify(seen.body, dict(seen.headers))
    assert told["type"] == "screenshot.completed"
    assert told["data"]["job_id"] == job.get_json()["job_id"]
    assert told["data"]["status"] == "completed"
    assert told["data"]["image"]["cache"] == ("hit" if is_cached else "miss")


def test_what_a_webhook_tells_of_is_there_when_it_comes(client: FlaskClient) -> None:
    found: list[tuple[str, int]] = []

    def look(seen: Seen) -> Reply:
        told = json.loads(seen.body)["data"]
        with client.application.test_client() as receivers_own:
            status = receivers_own.get(f"/jobs/{told['job_id']}").get_json()["status"]
            found.append((status, receivers_own.get(f"/jobs/{told['job_id']}/image").status_code))
        return Reply(204, body=b"")

    with running_receiver(look) as receiver:
        client.post("/screenshots", json={"url": TARGET, "webhook_url": url_of(receiver)})
        wait_until(lambda: bool(found))
    assert found == [("completed", 200)]


def test_without_a_secret_any_more_messages_fail_and_are_sent_when_there_is_one_again(
    upstream: Upstream, tmp_path: Path
) -> None:
    more = {"WEBHOOK_RETRIES": "0.1", "ALLOWED_PRIVATE_TARGETS": "127.0.0.0/8", "JOB_CONCURRENCY": "1"}
    settings = environment(upstream, tmp_path, **more)
    with running_receiver(lambda _seen: Reply(503, body=b"")) as receiver:
        with client_of({**settings, "WEBHOOK_SECRET": SECRET, "WEBHOOK_RETRIES": "1"}) as client:
            client.post("/screenshots", json={"url": TARGET, "webhook_url": url_of(receiver), "wait": 20})
            wait_until(lambda: len(receiver.seen) == 1)
        receiver.reply = lambda _seen: Reply(204, body=b"")
        with client_of(settings) as client:
            client.application.extensions[EXTENSION].resume()
            (failed,) = _deliveries(client, "failed")
            assert "secret" in failed["attempts"][-1]["trouble"]
            assert len(receiver.seen) == 1
        with client_of({**settings, "WEBHOOK_SECRET": SECRET}) as client:
            client.post(f"/webhooks/deliveries/{failed['id']}/redeliver")
            _deliveries(client, "delivered")
        assert receiver.seen[-1].headers["webhook-id"] == failed["id"]


def test_what_is_left_is_gone_on_with_once_the_database_answers(
    upstream: Upstream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_RETRIES": "0.1", "ALLOWED_PRIVATE_TARGETS": "127.0.0.0/8"}
    settings, file = environment(upstream, tmp_path, **more), tmp_path / "jobs.sqlite3"
    logged: list[str] = []

    def has_looked() -> bool:
        logged.append(capsys.readouterr().err)
        return "jobs_not_resumed" in "".join(logged)

    with running_receiver(lambda _seen: Reply(503, body=b"")) as receiver:
        with client_of({**settings, "WEBHOOK_RETRIES": "1,1"}) as client:
            client.post("/screenshots", json={"url": TARGET, "webhook_url": url_of(receiver), "wait": 20})
            wait_until(lambda: bool(_deliveries(client, "pending")[0]["attempts"]))
        sent = len(receiver.seen)
        receiver.reply = lambda _seen: Reply(204, body=b"")
        file.rename(tmp_path / "out_of_reach")
        file.mkdir()
        with client_of(settings) as client:
            client.application.extensions[EXTENSION].resume()
            wait_until(has_looked)
            file.rmdir()
            (tmp_path / "out_of_reach").rename(file)
            wait_until(lambda: len(receiver.seen) > sent)


def test_receivers_that_let_everybody_wait_hold_up_no_jobs(upstream: Upstream, tmp_path: Path) -> None:
    may_answer = threading.Event()

    def held_up(_seen: Seen) -> Reply:
        may_answer.wait(20)
        return Reply(204, body=b"")

    settings = environment(
        upstream,
        tmp_path,
        WEBHOOK_SECRET=SECRET,
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
        JOB_CONCURRENCY="2",
    )
    with running_receiver(held_up) as receiver, client_of(settings) as client:
        for _ in range(4):
            client.post("/screenshots", json={"url": TARGET, "webhook_url": url_of(receiver), "wait": 5})
        wait_until(lambda: bool(receiver.seen))
        job = client.post("/screenshots", json={"url": f"{TARGET}?more", "wait": 5}).get_json()
        assert (job["status"], len(receiver.seen)) == ("completed", 1)
        may_answer.set()


def silent_until(is_over: threading.Event) -> Callable[[Seen], Reply]:
    """A receiver's answer, which comes when nobody waits for it any more."""

    def answer(_seen: Seen) -> Reply:
        is_over.wait(60)
        return Reply(204, body=b"")

    return answer


def test_a_receiver_that_is_gone_keeps_no_message_to_another_waiting(
    upstream: Upstream, tmp_path: Path
) -> None:
    is_over = threading.Event()
    settings = environment(
        upstream,
        tmp_path,
        WEBHOOK_SECRET=SECRET,
        WEBHOOK_TIMEOUT="1",
        WEBHOOK_RETRIES="60",
        WEBHOOK_SILENCES=str(MAX_SILENCES),
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
        JOB_CONCURRENCY="2",
    )
    with (
        running_receiver(silent_until(is_over)) as gone,
        running_receiver() as alive,
        client_of(settings) as client,
    ):
        for number in range(12):
            client.post("/screenshots", json={"url": TARGET, "webhook_url": url_of(gone, f"/{number}")})
        wait_until(lambda: len(gone.seen) == MAX_SILENCES)
        client.post("/screenshots", json={"url": TARGET, "webhook_url": url_of(alive)})
        wait_until(lambda: len(alive.seen) == 1)
        wait_until(lambda: _untried(client) == 12 - MAX_SILENCES, what="an end of every attempt")
        assert len(gone.seen) == MAX_SILENCES
        is_over.set()


def test_no_receiver_rests_where_the_operator_wants_none_to(upstream: Upstream, tmp_path: Path) -> None:
    is_over = threading.Event()
    settings = environment(
        upstream,
        tmp_path,
        WEBHOOK_SECRET=SECRET,
        WEBHOOK_TIMEOUT="1",
        WEBHOOK_RETRIES="60",
        WEBHOOK_SILENCES="1",
        WEBHOOK_REST="0",
        JOB_CONCURRENCY="2",
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
    )
    with running_receiver(silent_until(is_over)) as gone, client_of(settings) as client:
        for number in range(2):
            client.post("/screenshots", json={"url": TARGET, "webhook_url": url_of(gone, f"/{number}")})
        wait_until(lambda: {seen.path for seen in gone.seen} == {"/0", "/1"}, what="an attempt for each")
        is_over.set()


def _untried(client: FlaskClient, key: dict[str, str] | None = None) -> int:
    listed = client.get("/webhooks/deliveries", headers=key).get_json()["deliveries"]
    troubles = [attempt["trouble"] or "" for each in listed for attempt in each["attempts"]]
    return sum(trouble.startswith("Not tried") for trouble in troubles)


def test_a_callers_silent_receiver_keeps_no_host_from_others(upstream: Upstream, tmp_path: Path) -> None:
    is_over = threading.Event()

    def silent_at_one_path(seen: Seen) -> Reply:
        if seen.path == "/silent":
            is_over.wait(60)
        return Reply(204, body=b"")

    more = {"WEBHOOK_SECRET": SECRET, "WEBHOOK_TIMEOUT": "1", "WEBHOOK_RETRIES": "60", "JOB_CONCURRENCY": "2"}
    more["WEBHOOK_SILENCES"] = str(MAX_SILENCES)
    more |= {"ALLOWED_PRIVATE_TARGETS": "127.0.0.0/8", "ALLOW_ANONYMOUS": "false"}
    settings = environment(upstream, tmp_path, **more)
    with running_app(settings) as operators:
        mine, others = (make_key(operators, name) for name in ("mine", "others"))
    with running_receiver(silent_at_one_path) as receiver, client_of(settings) as client:

        def order(key: dict[str, str], path: str) -> None:
            body = {"url": TARGET, "webhook_url": url_of(receiver, path)}
            assert client.post("/screenshots", json=body, headers=key).status_code == 202

        for _ in range(MAX_SILENCES + 1):
            order(mine, "/silent")
        wait_until(lambda: _untried(client, mine) == 1, what="a message that is not tried")
        order(others, "/heard")
        wait_until(lambda: receiver.seen[-1].path == "/heard", what="the message to others")
        is_over.set()


def test_nobody_learns_of_anothers_messages_or_sends_them_again(upstream: Upstream, tmp_path: Path) -> None:
    settings = environment(
        upstream,
        tmp_path,
        WEBHOOK_SECRET=SECRET,
        ALLOWED_PRIVATE_TARGETS="127.0.0.0/8",
        ALLOW_ANONYMOUS="false",
    )
    with running_app(settings) as operators:
        mine, others = (make_key(operators, name) for name in ("mine", "others"))
    with running_receiver() as receiver, client_of(settings) as client:
        body = {"url": TARGET, "webhook_url": url_of(receiver), "wait": 20}
        client.post("/screenshots", json=body, headers=mine)
        wait_until(lambda: bool(receiver.seen))
        (delivery,) = client.get("/webhooks/deliveries", headers=mine).get_json()["deliveries"]
        assert client.get("/webhooks/deliveries", headers=others).get_json()["deliveries"] == []
        path = f"/webhooks/deliveries/{delivery['id']}"
        assert client.get(path, headers=others).status_code == 404
        assert client.post(f"{path}/redeliver", headers=others).status_code == 404
        assert client.get(path, headers=mine).status_code == 200
        assert len(receiver.seen) == 1


def test_a_receiver_that_fails_is_told_again_under_the_same_id(client: FlaskClient) -> None:
    statuses = iter([500, 301, 200])

    def reply(_seen: Seen) -> Reply:
        return Reply(next(statuses), body=b"")

    with running_receiver(reply) as receiver:
        body = {"url": TARGET, "webhook_url": url_of(receiver), "wait": 20}
        job = client.post("/screenshots", json=body).get_json()
        wait_until(lambda: len(receiver.seen) == 3)
        assert len({seen.headers["webhook-id"] for seen in receiver.seen}) == 1
    (delivery,) = _deliveries(client, "delivered")
    assert delivery["subject"] == job["job_id"]
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 301, 200]


def _deliveries(client: FlaskClient, status: str) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = []

    def have_ended() -> bool:
        shown[:] = client.get("/webhooks/deliveries").get_json()["deliveries"]
        return bool(shown) and all(each["status"] == status for each in shown)

    wait_until(have_ended)
    return shown


@pytest.mark.parametrize(("status", "end", "attempts"), [(410, "gone", 1), (503, "failed", 3)])
def test_a_message_can_be_sent_again(client: FlaskClient, status: int, end: str, attempts: int) -> None:
    with running_receiver(lambda _seen: Reply(status, body=b"")) as receiver:
        body = {"url": TARGET, "webhook_url": url_of(receiver), "wait": 20}
        client.post("/screenshots", json=body)
        (delivery,) = _deliveries(client, end)
        assert len(delivery["attempts"]) == len(receiver.seen) == attempts
        receiver.reply = lambda _seen: Reply(204, body=b"")
        again = client.post(f"/webhooks/deliveries/{delivery['id']}/redeliver")
        assert again.status_code == 202
        (delivery,) = _deliveries(client, "delivered")
        assert receiver.seen[-1].headers["webhook-id"] == delivery["id"]
    assert client.get(f"/webhooks/deliveries/{delivery['id']}").get_json() == delivery
