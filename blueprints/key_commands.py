"""``flask keys``: who may use the service."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from flask.cli import AppGroup

from blueprints.command_times import FutureTime, Span
from blueprints.services import services
from thumbnailer.errors import DatabaseUnavailable
from thumbnailer.host_patterns import HostPattern, parse_host_pattern
from thumbnailer.key_store import KeyStore
from thumbnailer.keys import (
    LIMITED,
    ApiKey,
    KeyTerms,
    Scope,
    check_limits,
    check_name,
    digest_of,
    new_id,
    new_token,
)

T = TypeVar("T")
Command = TypeVar("Command", bound=Callable[..., Any])

keys = AppGroup("keys", help="API keys: who may use the service, and for what.")


def _with_terms(command: Command) -> Command:
    """The options that say what a key may do."""
    options = (
        click.option(
            "--scope",
            "scopes",
            multiple=True,
            type=click.Choice([scope.value for scope in Scope]),
            help="What the key is for; may be repeated. [default: render]",
        ),
        click.option("--plan", help="A plan of PLANS, whose limits the key gets."),
        click.option(
            "--expires", type=FutureTime(), help="When the key expires: 30d, 2027-01-31, … [default: never]"
        ),
        click.option(
            "--limit",
            "limits",
            multiple=True,
            metavar="KIND=LIMIT",
            help=f"A limit of its own, such as 'thumb=100 per minute', for {', '.join(LIMITED)}.",
        ),
        click.option(
            "--daily-captures", type=click.IntRange(0), help="Captures that it may cause in a day (UTC)."
        ),
        click.option("--targets", help="Hosts it may photograph: example.com,*.example.com. [default: all]"),
        click.option("--referrers", help="Hosts of the pages that may use it in a browser. [default: all]"),
    )
    for option in reversed(options):
        command = option(command)
    return command


@keys.command("create")
@click.argument("name")
@_with_terms
def create(name: str, **given: Any) -> None:
    """Make a key and show it, this once."""
    terms = _terms(given)
    with _faults_told("NAME"):
        key, token = _store().create(name, terms)
    click.echo(f"Made the key {key.id} ({key.name}). It is shown this once only:", err=True)
    click.echo(token)


@keys.command("list")
def show() -> None:
    """List all keys, without their secrets."""
    with _faults_told("the database"):
        found = _store().load()
    row = "{:<12}  {:<24}  {:<9}  {:<28}  {:<10}  {:<10}  {}"
    click.echo(row.format("id", "name", "state", "scopes", "made", "ends", "bounds"))
    for key in found:
        facts = (
            key.id,
            key.name,
            _state(key),
            ",".join(sorted(key.terms.scopes)),
            _day(key.created_at),
            _day(key.terms.expires_at),
            _bounds(key.terms),
        )
        click.echo(row.format(*facts).rstrip())


@keys.command("revoke")
@click.argument("name")
def revoke(name: str) -> None:
    """Revoke the key with that name or id; all workers know within seconds."""
    with _faults_told("NAME"):
        key = _store().revoke(name)
    click.echo(f"Revoked the key {key.id} ({key.name}).")


@keys.command("plan")
@click.argument("name")
@click.argument("plan", required=False)
def put_on_plan(name: str, plan: str | None) -> None:
    """Put the key with that name or id on a plan; without PLAN, take it off its plan."""
    with _faults_told("PLAN"):
        plan = _known_plan(plan)
    with _faults_told("NAME"):
        key = _store().put_on_plan(name, plan)
    click.echo(f"The key {key.id} ({key.name}) is on {f'the plan {plan}' if plan else 'no plan'} now.")


@keys.command("rotate")
@click.argument("name")
@click.option(
    "--overlap", type=Span(), default="24h", show_default=True, help="How long the old secret still works."
)
def rotate(name: str, overlap: float) -> None:
    """Give the key with that name or id a new secret and show it, this once."""
    with _faults_told("NAME"):
        key, token = _store().rotate(name, overlap_seconds=overlap)
    until = datetime.fromtimestamp(key.previous_until or 0, UTC).isoformat(timespec="seconds")
    click.echo(f"The old secret of {key.id} ({key.name}) counts until {until}. The new one:", err=True)
    click.echo(token)


@keys.command("hash")
@click.argument("name")
@_with_terms
def make_entry(name: str, **given: Any) -> None:
    """Make a key for API_KEYS_FILE: the key on standard error, its entry on standard output."""
    terms = _terms(given)
    with _faults_told("NAME"):
        check_name(name)
    key_id = new_id()
    token = new_token(key_id)
    click.echo(f"{token}\n", err=True)
    click.echo("[[keys]]")
    click.echo(f'id = "{key_id}"\nname = "{name}"\ndigest = "{digest_of(token)}"')
    click.echo(f"scopes = {_array(sorted(terms.scopes))}")
    if terms.expires_at is not None:
        click.echo(f"expires = {datetime.fromtimestamp(terms.expires_at, UTC).isoformat(timespec='seconds')}")
    if terms.plan is not None:
        click.echo(f'plan = "{terms.plan}"')
    if terms.daily_captures is not None:
        click.echo(f"daily_captures = {terms.daily_captures}")
    for member, patterns in (("targets", terms.targets), ("referrers", terms.referrers)):
        if patterns:
            click.echo(f"{member} = {_array([str(pattern) for pattern in patterns])}")
    if terms.limits:
        limits = ", ".join(f'{kind} = "{limit}"' for kind, limit in terms.limits.items())
        click.echo(f"limits = {{ {limits} }}")


def _store() -> KeyStore:
    return KeyStore(services().database)


def _known_plan(plan: str | None) -> str | None:
    """A plan that PLANS has. Raises ValueError."""
    if plan is not None and plan not in services().keyring.plan_names:
        plans = ", ".join(services().keyring.plan_names) or "no plans"
        raise ValueError(f"there is no plan {plan}: PLANS has {plans}")
    return plan


def _terms(given: Mapping[str, Any]) -> KeyTerms:
    with _faults_told("--plan"):
        plan = _known_plan(given["plan"])
    with _faults_told("--limit"):
        written = [limit.partition("=") for limit in given["limits"]]
        named = {kind.strip(): limit.strip() for kind, _, limit in written}
        if len(named) < len(written):
            raise ValueError("must not be repeated for one kind")
        limits = check_limits(named)
    patterns = {}
    for option in ("targets", "referrers"):
        with _faults_told(f"--{option}"):
            patterns[option] = _host_patterns(given[option])
    return KeyTerms(
        scopes=frozenset(Scope(scope) for scope in given["scopes"] or ("render",)),
        plan=plan,
        limits=limits,
        daily_captures=given["daily_captures"],
        expires_at=given["expires"],
        **patterns,
    )


def _host_patterns(text: str | None) -> tuple[HostPattern, ...]:
    """None are all hosts; a list without any is somebody's empty variable. Raises ValueError."""
    if text is None:
        return ()
    patterns = tuple(parse_host_pattern(part) for part in text.split(",") if part.strip())
    if not patterns:
        raise ValueError("names no host; leave it out for all")
    return patterns


@contextmanager
def _faults_told(what: str) -> Iterator[None]:
    """Say what is wrong in one line instead of a trace."""
    try:
        yield
    except DatabaseUnavailable as error:
        raise click.ClickException(f"{error} ({error.__cause__})") from error
    except ValueError as error:
        raise click.ClickException(f"{what}: {error}") from None
    except LookupError as error:
        raise click.ClickException(f"{what}: there is no live key {error.args[0]}") from None


def _state(key: ApiKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "live" if key.is_live(time.time()) else "expired"


def _day(moment: float | None) -> str:
    return "-" if moment is None else datetime.fromtimestamp(moment, UTC).date().isoformat()


def _bounds(terms: KeyTerms) -> str:
    bounds = [f"plan={terms.plan}"] if terms.plan else []
    bounds += [f"{kind}={limit}" for kind, limit in terms.limits.items()]
    if terms.daily_captures is not None:
        bounds.append(f"daily_captures={terms.daily_captures}")
    bounds += [f"target={pattern}" for pattern in terms.targets]
    bounds += [f"referrer={pattern}" for pattern in terms.referrers]
    return "; ".join(bounds)


def _array(texts: list[str]) -> str:
    return "[" + ", ".join(f'"{text}"' for text in texts) + "]"
