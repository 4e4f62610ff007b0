"""The command line `nimco`."""

import logging
import os
import sys
from typing import Annotated

import typer

from nimco import _commands
from nimco._references_commands import build_references_app
from nimco._stopping import STOPPED_CODE, StoppedError, exit_at_once, ignore_signals
from nimco._version import __version__
from nimco.errors import NimcoError


def build_app() -> typer.Typer:
    """Build the command line application."""
    app = typer.Typer(
        name="nimco",
        help="Live state-of-charge maps from energy scans across the Ni, Mn and Co absorption edges.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    app.command()(_commands.demo)
    app.command()(_commands.replay)
    app.command(name="dry-run")(_commands.dry_run)
    app.command()(_commands.serve)
    app.command()(_commands.monitor)
    app.command()(_commands.analyse)
    app.command()(_commands.reanalyse)
    app.command()(_commands.export)
    app.command()(_commands.report)
    app.command()(_commands.compare)
    app.command()(_commands.series)
    app.command()(_commands.mosaic)
    app.command()(_commands.volume)
    app.command()(_commands.ioc)
    app.add_typer(build_references_app(), name="references")
    return app


def main() -> None:
    """Run the command line; a user's mistake is one sentence and exit code 2, never a traceback."""
    exit_at_once()
    _log_in_single_lines()
    try:
        build_app()()
    except StoppedError as error:
        ignore_signals()
        print(f"nimco: {error}", file=sys.stderr, flush=True)  # noqa: T201
        sys.stdout.flush()
        # All is closed; what still runs (a compilation, a request to a dead server) is not waited for.
        os._exit(STOPPED_CODE)
    except Exception as error:
        if not isinstance(error, _user_errors()):
            raise
        print(f"nimco: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    finally:
        ignore_signals()


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nimco {__version__}")  # noqa: T201
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    pass


def _user_errors() -> tuple[type[Exception], ...]:
    # By the time one of them is raised its package has been imported; help and mistyped options need none.
    from beamline_devices import DeviceError
    from beamline_plans import PlanError
    from callbacks import CallbackError
    from edge_fitting import EdgeFittingError
    from scan_contract import ContractError, MissingPackageError

    return (
        MissingPackageError,
        NimcoError,
        CallbackError,
        EdgeFittingError,
        PlanError,
        DeviceError,
        ContractError,
    )


class _SingleLine(logging.Formatter):
    """A log record as one line: tracebacks of an aborted plan tell a user nothing."""

    def format(self, record: logging.LogRecord) -> str:
        return f"{record.name}: {record.getMessage()}"


def _log_in_single_lines() -> None:
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_SingleLine())
    logging.getLogger().addHandler(handler)
