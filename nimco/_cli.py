"""The command line `nimco`."""

import logging
import sys

import typer

from beamline_devices import DeviceError
from beamline_plans import PlanError
from callbacks import CallbackError
from edge_fitting import EdgeFittingError
from nimco._cmd_analyse import analyse
from nimco._cmd_demo import demo
from nimco._cmd_dry_run import dry_run_command
from nimco._cmd_export import export
from nimco._cmd_ioc import ioc
from nimco._cmd_replay import replay
from nimco._cmd_serve import serve
from nimco._errors import NimcoError

_USER_ERRORS = (NimcoError, CallbackError, EdgeFittingError, PlanError, DeviceError)


def build_app() -> typer.Typer:
    """Build the command line application."""
    app = typer.Typer(
        name="nimco",
        help="Live state-of-charge maps from energy scans across the Ni, Mn and Co absorption edges.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.command()(demo)
    app.command()(replay)
    app.command(name="dry-run")(dry_run_command)
    app.command()(serve)
    app.command()(analyse)
    app.command()(export)
    app.command()(ioc)
    return app


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2, never a traceback."""
    _log_in_single_lines()
    try:
        build_app()()
    except _USER_ERRORS as error:
        print(f"nimco: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except KeyboardInterrupt:
        print("nimco: stopped by Ctrl-C.", file=sys.stderr)  # noqa: T201
        sys.exit(2)


class _SingleLine(logging.Formatter):
    """A log record as one line: tracebacks of an aborted plan tell a user nothing."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.name}: {record.getMessage()}"


def _log_in_single_lines() -> None:
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_SingleLine())
    logging.getLogger().addHandler(handler)
