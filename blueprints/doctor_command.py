"""``flask doctor``: what is wrong with a deployment, and what to do about it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NoReturn

import click
import flask
from flask.cli import with_appcontext

from thumbnailer.diagnosis import PARTS, Examination, Finding, State, worst
from thumbnailer.diagnosis.examining import examine

#: Where the application keeps what makes the examination.
EXTENSION = "thumbnailer-doctor"

COLOURS = {State.OK: "green", State.WARNING: "yellow", State.FAILED: "red", State.SKIPPED: "cyan"}
LINE = "{part:<13}  {check:<18}  {tried}: {found} ({took})"


@click.command("doctor")
@click.option(
    "--only", multiple=True, type=click.Choice(PARTS), help="One part; may be repeated.  [default: all]"
)
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=20.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each check may take.",
)
@click.option("--strict", is_flag=True, help="Warnings count as failures.")
@click.option("--json", "is_json", is_flag=True, help="One JSON object, for programs.")
@with_appcontext
def doctor(only: tuple[str, ...], timeout: float, *, strict: bool, is_json: bool) -> None:
    """Check every configured part, say what is wrong and what to do about it.

    Nothing that lasts is changed, no capture is counted. Status 0: all is well; 1: something failed.
    """
    make: Callable[[], Examination] = flask.current_app.extensions[EXTENSION]
    findings = []
    for finding in examine(make(), seconds=timeout, only=frozenset(only)):
        findings.append(finding)
        if not is_json:
            _show(finding)
    state = worst(findings)
    if is_json:
        click.echo(json.dumps(_object(state, findings), indent=2))
    else:
        counts = Counter(finding.state for finding in findings)
        click.echo(f"\n{', '.join(f'{counts[one]} {one.value}' for one in State if counts[one])}")
    if state is State.FAILED or (strict and state is State.WARNING):
        click.get_current_context().exit(1)


def _show(finding: Finding) -> None:
    facts = {name: value for name, value in asdict(finding).items() if name != "state"}
    state = click.style(f"{finding.state.value:<8}", fg=COLOURS[finding.state], bold=True)
    click.echo(f"{state}  {LINE.format(**facts, took=_took(finding.seconds))}")
    if finding.advice:
        click.echo(f"{'':<10}{finding.advice} See {finding.docs}")


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _object(state: State, findings: Sequence[Finding]) -> dict[str, Any]:
    return {"status": state.value, "checks": [_described(finding) for finding in findings]}


def _described(finding: Finding) -> dict[str, Any]:
    facts = asdict(finding)
    return facts | {
        "advice": finding.advice or None,
        "docs": finding.docs or None,
        "seconds": round(finding.seconds, 4),
    }


def broken_command(command: click.Command, error: Exception) -> click.Command:
    """Stands in for a command of an application that could not be made: fails as that did."""

    def fail() -> NoReturn:
        raise error

    return click.Command(
        command.name,
        callback=fail,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
        short_help="Cannot run as things are: flask doctor says why.",
    )
