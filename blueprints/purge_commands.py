"""``flask purge``: purges by page, host, or everything, for whoever sits at the service's machine."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from blueprints.command_lines import faults_told
from blueprints.command_times import PastTime
from blueprints.services import services
from thumbnailer.purging import scopes_of


@click.command("purge")
@click.argument("urls", metavar="[URL]...", nargs=-1)
@click.option(
    "--host", "hosts", multiple=True, help="example.com, or *.example.com for all below it as well."
)
@click.option("--everything", is_flag=True, help="Purge all pages.")
@click.option(
    "--before",
    type=PastTime(),
    help="Purge only what was captured before this date or time, such as 2027-01-31.",
)
@with_appcontext
def purge(urls: tuple[str, ...], hosts: tuple[str, ...], *, everything: bool, before: float | None) -> None:
    """Purge the pictures of the pages at URL, of hosts, or all: within five seconds no worker serves them."""
    if not services().is_cache_shared:
        raise click.ClickException(
            "The cache is each process's own memory: only POST /cache/purge reaches it."
        )
    if not (urls or hosts or everything):
        raise click.ClickException("Name a URL, --host or --everything.")
    with faults_told():
        scopes = scopes_of(urls, hosts, is_everything=everything)
        report = services().purger.purge(scopes, before=before)
    click.echo(
        f"Deleted {report.captures} captures and {report.renditions} thumbnails, "
        f"forgot {report.failures} failures."
    )
    if services().tag_headers:
        click.echo("Tags for caches downstream: " + " ".join(scope.tag for scope in scopes))
