"""``flask sign``: a signed URL, for whoever sits at the service's machine."""

from __future__ import annotations

import re
from typing import Any

import click
from flask.cli import with_appcontext

from blueprints.key_commands import Moment
from blueprints.services import services
from blueprints.signable import SIGNABLE_ROUTES, judge_query, sign_query
from thumbnailer.errors import InvalidParameters, ThumbnailerError

UNIX_SECONDS = re.compile(r"\d{9,12}", re.ASCII)


class End(Moment):
    """A time to come, or the unix second itself."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        return float(value) if UNIX_SECONDS.fullmatch(value) else super().convert(value, param, ctx)


class QueryOption(click.ParamType[tuple[str, str]]):
    """``name=value``."""

    name = "name=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        name, equals, text = value.partition("=")
        if not equals:
            self.fail("must be such as thumb_width=400", param, ctx)
        return name, text


@click.command("sign")
@click.argument("url")
@click.option("--path", type=click.Choice(list(SIGNABLE_ROUTES)), default="/thumb", show_default=True)
@click.option("--exp", type=End(), help="When the URL ends: 30d, 12h, 2027-01-31, or unix seconds.")
@click.option("--option", "-o", "options", type=QueryOption(), multiple=True, help="Such as thumb_width=400.")
@with_appcontext
def sign(url: str, path: str, exp: float | None, options: tuple[tuple[str, str], ...]) -> None:
    """Sign the URL of a picture of the page at URL, with the first of SIGNING_KEYS."""
    texts = dict([("url", url), *options])
    if len(texts) < len(options) + 1:
        raise click.ClickException("An option must not be repeated.")
    try:
        judge_query(path, texts)
        signed = sign_query(path, texts, None if exp is None else int(exp))
    except InvalidParameters as error:
        faults = [f"{name}: {' '.join(messages)}" for name, messages in error.fields.items()]
        raise click.ClickException("\n".join(faults) or str(error)) from error
    except ThumbnailerError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{services().public_base_url or ''}{signed}")
