"""``flask sign``: a signed URL, for whoever sits at the service's machine."""

from __future__ import annotations

import click
from flask.cli import with_appcontext

from blueprints.command_lines import faults_told, takes_options, texts_of
from blueprints.command_times import FutureTimeOrUnix
from blueprints.services import services
from blueprints.signable import SIGNABLE_ROUTES, judge_query, sign_query


@click.command("sign")
@click.argument("url")
@click.option("--path", type=click.Choice(list(SIGNABLE_ROUTES)), default="/thumb", show_default=True)
@click.option(
    "--exp", type=FutureTimeOrUnix(), help="When the URL ends: 30d, 12h, 2027-01-31, or unix seconds."
)
@takes_options("--option", "-o")
@with_appcontext
def sign(url: str, path: str, exp: float | None, options: tuple[tuple[str, str], ...]) -> None:
    """Sign the URL of a picture of the page at URL, with the first of SIGNING_KEYS."""
    texts = texts_of(options, url=url)
    with faults_told():
        judge_query(path, texts)
        signed = sign_query(path, texts, None if exp is None else int(exp))
    click.echo(f"{services().public_base_url or ''}{signed}")
