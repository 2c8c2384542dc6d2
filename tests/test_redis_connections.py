"""The connections to Redis outlast firewalls, and need no network."""

from __future__ import annotations

import tempfile
from pathlib import Path

import redis

from tests.support.processes import executable, free_port, running, running_redis
from tests.support.service import TARGET, client_of, snapapi_environment
from tests.support.upstream import Upstream

#: How Linux writes, in /proc/net/tcp, that the next thing to do for a connection is to keep it alive.
KEEPALIVE_TIMER = "02"


def ports_kept_alive() -> set[int]:
    """The local ports of this machine's connections that are idle and kept alive (Linux's proc_net_tcp)."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[1].partition(":")[2], 16) for row in rows if row[5].startswith(KEEPALIVE_TIMER)}


def test_idle_connections_are_kept_alive_so_that_no_firewall_forgets_them(
    upstream: Upstream, tmp_path: Path
) -> None:
    with (
        running_redis(tmp_path) as url,
        redis.Redis.from_url(url) as looker,
        client_of(snapapi_environment(upstream.url, REDIS_URL=url)) as client,
    ):
        for _ in range(2):
            assert client.get("/thumb", query_string={"url": TARGET}).status_code == 200
        assert client.get("/ready").status_code == 200
        own = looker.client_info()["addr"]
        ports = {int(one["addr"].rpartition(":")[2]) for one in looker.client_list() if one["addr"] != own}
        assert len(ports) >= 4  # of the cache, the locks, the breakers and the limits
        assert ports <= ports_kept_alive()


def test_a_redis_may_be_reached_by_a_socket(upstream: Upstream) -> None:
    with tempfile.TemporaryDirectory() as name:  # a socket's path may have 107 characters
        port, path = free_port(), Path(name) / "redis.sock"
        command = [executable("redis-server"), "--port", str(port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--dir", name, "--unixsocket", str(path)]
        url = f"unix://{path}?db=1"
        with (
            running(command, port=port, log=Path(name) / "log"),
            client_of(snapapi_environment(upstream.url, REDIS_URL=url)) as client,
            redis.Redis.from_url(url) as looker,
        ):
            answers = [client.get("/thumb", query_string={"url": TARGET}) for _ in range(2)]
            assert [answer.headers["X-Cache"] for answer in answers] == ["MISS", "HIT"]
            assert set(client.get("/ready").get_json()["parts"].values()) == {"ok"}
            assert client.post("/screenshots", json={"url": TARGET}).status_code == 202
            assert looker.llen("thumbnailer:queue:thumbnailer") == 1
