"""The commands of ``flask``, also where the service itself cannot be made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click
from flask import Flask
from flask.cli import FlaskGroup

from blueprints import (
    capture_commands,
    database_commands,
    doctor_command,
    key_commands,
    purge_commands,
    sign_commands,
)
from config import ConfigurationError, Reading
from thumbnailer.diagnosis import Examination

COMMANDS = (
    capture_commands.thumb,
    capture_commands.warm,
    purge_commands.purge,
    sign_commands.sign,
    key_commands.keys,
    database_commands.db,
)


def is_for_a_command() -> bool:
    """Whether ``flask`` looks for one of the application's own commands, which may be ``flask doctor``."""
    context = click.get_current_context(silent=True)
    return context is not None and isinstance(context.command, FlaskGroup)


def add_commands(app: Flask, read: Callable[[], Reading], failure: Exception | None) -> None:
    """Give ``app`` its commands; those of a service with a ``failure`` say that, and the doctor why.

    ``read`` reads the settings as far as they can be read.
    """
    for command in COMMANDS:
        app.cli.add_command(doctor_command.broken_command(command, _told(failure)) if failure else command)
    app.cli.add_command(doctor_command.doctor)
    app.extensions[doctor_command.EXTENSION] = partial(_plan_examination, read, failure)


def _told(failure: Exception) -> Exception:
    """Faults of the configuration need no trace."""
    return click.ClickException(str(failure)) if isinstance(failure, ConfigurationError) else failure


def _plan_examination(read: Callable[[], Reading], failure: Exception | None) -> Examination:
    """Made for ``flask doctor`` alone, so it is loaded for nobody else."""
    from wiring.diagnosis import plan_examination

    return plan_examination(read(), failure)
