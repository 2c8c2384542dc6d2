"""What the commands share: options of pictures on a command line, and faults told in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from thumbnailer.errors import CacheUnavailable, DatabaseUnavailable, InvalidParameters, ThumbnailerError

Command = TypeVar("Command", bound=Callable[..., Any])


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


def takes_options(*names: str) -> Callable[[Command], Command]:
    """Let a command take the options of a picture, by ``names`` such as ``--option``, any number of times."""
    return click.option(
        *names,
        "options",
        type=QueryOption(),
        multiple=True,
        help="An option of GET /thumb, such as thumb_width=400; may be repeated.",
    )


def texts_of(options: Sequence[tuple[str, str]], **more: str) -> dict[str, str]:
    """The options by name, and ``more``. Raises ``ClickException`` where one is there twice."""
    texts = more | dict(options)
    if len(texts) < len(options) + len(more):
        raise click.ClickException("An option must not be repeated.")
    return texts


@contextmanager
def faults_told() -> Iterator[None]:
    """Say what is wrong in one line instead of a trace."""
    try:
        yield
    except ThumbnailerError as error:
        raise click.ClickException(told(error)) from error


def told(error: ThumbnailerError) -> str:
    """What is wrong, field by field where fields are at fault; of what does not answer, with the cause."""
    if isinstance(error, InvalidParameters) and error.fields:
        return "\n".join(f"{name}: {' '.join(messages)}" for name, messages in error.fields.items())
    is_ours = isinstance(error, CacheUnavailable | DatabaseUnavailable)
    return f"{error} ({error.__cause__})" if is_ours and error.__cause__ else str(error)
