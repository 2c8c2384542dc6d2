"""Alerts and dashboard: sound, and about what the service really tells."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from blueprints.problems import PROBLEMS
from tests.support.markdown import anchors, tables
from tests.support.processes import executable, free_port, running, wait_until
from tests.support.service import PROJECT, TARGET, Service, running_service, snapapi_environment
from tests.support.upstream import Upstream
from thumbnailer import errors
from thumbnailer.terms import CacheStatus

PROMETHEUS = PROJECT / "deploy/prometheus"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERT_TESTS = yaml.safe_load((PROMETHEUS / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
DASHBOARD = json.loads((PROJECT / "deploy/grafana/dashboard.json").read_text(encoding="utf-8"))
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
DRAWN = [panel for panel in PANELS if panel["type"] != "row"]
RUNBOOK = PROJECT / "docs/monitoring.md"

#: What Prometheus itself adds, or makes.
PROMETHEUS_LABELS = {"job", "instance"}
PROMETHEUS_METRICS = {"up"}

Told = dict[str, set[frozenset[tuple[str, str]]]]


def in_promql(expression: str) -> str:
    """An expression of the dashboard with Grafana's variables filled in."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")


EXPRESSIONS = {rule["alert"]: rule["expr"] for rule in ALERTS} | {
    f"{panel['title']} {target['refId']}": in_promql(target["expr"])
    for panel in DRAWN
    for target in panel["targets"]
}


def promtool(*arguments: str | Path, folder: Path = PROMETHEUS) -> subprocess.CompletedProcess[str]:
    command = [executable("promtool"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


# --- the alerts ---------------------------------------------------------------------------------


def test_prometheus_understands_the_alerts() -> None:
    checked = promtool("check", "rules", "alerts.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_alerts_fire_when_they_are_to_and_only_then() -> None:
    tested = promtool("test", "rules", "alerts.test.yml")
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_slip_in_an_alert_would_be_found(tmp_path: Path) -> None:
    text = (PROMETHEUS / "alerts.yml").read_text(encoding="utf-8")
    assert text.count("> 0.05") == 1
    (tmp_path / "alerts.yml").write_text(text.replace("> 0.05", "> 0.5"))
    (tmp_path / "alerts.test.yml").write_bytes((PROMETHEUS / "alerts.test.yml").read_bytes())
    tested = promtool("test", "rules", "alerts.test.yml", folder=tmp_path)
    assert tested.returncode != 0
    assert "ThumbnailerAnswersErrors" in tested.stdout + tested.stderr


def test_every_alert_has_been_seen_to_fire_and_to_be_silent() -> None:
    cases = [case for test in ALERT_TESTS for case in test["alert_rule_test"]]
    named = {rule["alert"] for rule in ALERTS}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == named
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == named


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    page, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert PROJECT / page == RUNBOOK
    assert anchor == rule["alert"].lower()
    assert anchor in anchors(RUNBOOK)


def test_the_runbook_speaks_of_no_other_alert() -> None:
    rows = [row for rows in tables(RUNBOOK.read_text(encoding="utf-8")) for row in rows if "alert" in row]
    told = [re.findall(r"`(\w+)`", row["alert"])[0] for row in rows]
    assert told == [rule["alert"] for rule in ALERTS]


# --- the dashboard --------------------------------------------------------------------------------


def test_panels_have_names_of_their_own_and_do_not_overlap() -> None:
    for key in ("id", "title"):
        assert len({panel[key] for panel in PANELS}) == len(PANELS)
    for panel in PANELS:
        place = panel["gridPos"]
        assert place["x"] >= 0
        assert place["x"] + place["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in PANELS], 2):
        is_beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        is_above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert is_beside or is_above, (one, other)


def test_the_data_source_is_the_readers_choice() -> None:
    variables = {each["name"]: each for each in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    chosen = {"type": "prometheus", "uid": "${datasource}"}
    for panel in DRAWN:
        assert panel["datasource"] == chosen
        for target in panel["targets"]:
            assert target["datasource"] == chosen
            names = {name for name in re.findall(r"\$(\w+)", target["expr"]) if not name.startswith("__")}
            assert names == {"instance"} <= set(variables)
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), target["expr"]


def test_prometheus_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"panel_{n}", "expr": text} for n, text in enumerate(EXPRESSIONS.values())]
    wrapped = {"groups": [{"name": "dashboard", "rules": rules}]}
    (tmp_path / "dashboard.yml").write_text(yaml.safe_dump(wrapped), encoding="utf-8")
    checked = promtool("check", "rules", "dashboard.yml", folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr


# --- both, against a service that has done work ------------------------------------------------------


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with Upstream() as upstream:
        settings = snapapi_environment(
            upstream.url, WEB_CONCURRENCY="2", TMPDIR=str(folder), CAPTURE_BUDGET="1000"
        )
        with running_service(folder, settings) as service:
            for url in (TARGET, TARGET, "nonsense"):
                requests.get(f"{service.url}/thumb", params={"url": url}, timeout=20)
            job = {"url": f"{TARGET}?job", "wait": 20}
            done = requests.post(f"{service.url}/screenshots", json=job, timeout=30)
            assert done.json()["status"] == "completed"
            yield service


@pytest.fixture(scope="module")
def told(service: Service) -> Told:
    """The labels of every sample, by the name under which Prometheus keeps it."""
    found: Told = {}
    for family in text_string_to_metric_families(requests.get(f"{service.url}/metrics", timeout=20).text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).add(frozenset(sample.labels.items()))
    return found


def selectors(expression: str) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """The metrics in an expression, with the labels and values that they are chosen by."""
    for name, braces in re.findall(
        r"\b(thumbnailer_\w+|up\b)(\{[^}]*\})?", re.sub(r"by \(.*?\)", "", expression)
    ):
        yield name, re.findall(r'(\w+)(?:=|!=|=~|!~)"([^"]*)"', braces)


@pytest.mark.parametrize("expression", EXPRESSIONS.values(), ids=EXPRESSIONS.keys())
def test_what_is_asked_for_is_told(expression: str, told: Told) -> None:
    values = {
        "cache": {*CacheStatus, "replay", "pending", "none"},
        "outcome": {"delivered", *(name for name in vars(errors) if name[0].isupper())},
        "problem": set(PROBLEMS),
        "route": {"/health", "/ready", "/metrics"},
        "status": {"200", "502"},
    }
    asked = list(selectors(expression))
    assert asked
    labels = set(PROMETHEUS_LABELS)
    for name, chosen in asked:
        assert name in told or name in PROMETHEUS_METRICS, name
        own = {label: {value} for each in told.get(name, ()) for label, value in each}
        for each in told.get(name, ()):
            for label, value in each:
                own[label].add(value)
        labels |= set(own)
        for label, wanted in chosen:
            if label in PROMETHEUS_LABELS:
                continue
            assert label in own, f"{name} has no {label}"
            known = values.get(label, own[label])
            for alternative in wanted.split("|"):
                assert any(re.fullmatch(alternative, value) for value in known), alternative
    grouped = {
        label.strip() for group in re.findall(r"by \((.*?)\)", expression) for label in group.split(",")
    }
    assert grouped <= labels


def test_every_metric_is_documented_and_no_other(told: Told) -> None:
    text = RUNBOOK.read_text(encoding="utf-8")
    rows = [row for rows in tables(text) for row in rows if "metric" in row]
    documented = {
        name: set(re.findall(r"`(\w+)`", row["labels"]))
        for row in rows
        for name in re.findall(r"`(\w+)`", row["metric"])
    }
    found = {
        re.sub(r"_seconds_(bucket|sum|count)$", "_seconds", name): {
            label for each in sets for label, _ in each
        }
        - {"le"}
        for name, sets in told.items()
        if not name.endswith("_created")
    }
    assert documented == found


def shipped_prometheus(folder: Path, port: int) -> Path:
    """The configuration as it is shipped, for a service on this port, asked each second."""
    shipped = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text(encoding="utf-8"))
    shipped["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    assert shipped["rule_files"] == ["/etc/prometheus/alerts.yml"]
    shipped["rule_files"] = [str(PROMETHEUS / "alerts.yml")]
    for scrape in shipped["scrape_configs"]:
        del scrape["dns_sd_configs"]
        targets = [f"127.0.0.1:{port}"] if scrape["job_name"] == "thumbnailer" else []
        scrape["static_configs"] = [{"targets": targets}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(shipped), encoding="utf-8")
    return folder / "prometheus.yml"


def test_the_shipped_prometheus_reads_the_service_and_answers_the_dashboard(
    service: Service, tmp_path: Path
) -> None:
    port = free_port()
    config = shipped_prometheus(tmp_path, service.port)
    command = [executable("prometheus"), f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}"]
    with running(command, port=port, log=tmp_path / "log"):

        def asked(expression: str) -> list[Any]:
            answer = requests.get(
                f"http://127.0.0.1:{port}/api/v1/query", params={"query": expression}, timeout=20
            )
            assert answer.status_code == 200, f"{expression}: {answer.text}"
            return list(answer.json()["data"]["result"])

        wait_until(lambda: requests.get(f"http://127.0.0.1:{port}/-/ready", timeout=20).status_code == 200)
        wait_until(lambda: any(float(one["value"][1]) >= 2 for one in asked("count_over_time(up[1m])")))
        silent = {name for name, expression in EXPRESSIONS.items() if not asked(expression)}
        assert asked('up{job="thumbnailer"}')[0]["value"][1] == "1"
    drawn = {f"{panel['title']} {target['refId']}" for panel in DRAWN for target in panel["targets"]}
    # Nothing is refused any more, and there are no rates of what does not happen.
    assert silent & drawn <= {"Refusals and failures by reason A"}


def test_prometheus_and_what_it_reads_are_sound(tmp_path: Path) -> None:
    checked = promtool("check", "config", shipped_prometheus(tmp_path, 8000), folder=tmp_path)
    assert checked.returncode == 0, checked.stdout + checked.stderr
