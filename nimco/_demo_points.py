"""How the demonstrations of point scans are run: one measurement after the other, live into Tiled, with the page."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import xarray as xr
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from rich.console import Console
from rich.table import Table

from nimco._compiling import compiling
from nimco._demo_page import print_page
from nimco._progress import ScanProgress
from nimco._server import TiledServer
from nimco._session import Session
from nimco._stopping import PauseOnSignal, ended_by_signal
from nimco._where import print_where, stored_and_waiting

_Beamline = TypeVar("_Beamline")
_Truth = TypeVar("_Truth")


def run_point_demo(
    names: Sequence[str],
    make_beamline: Callable[[], _Beamline],
    measure: Callable[[RunEngine, Session, _Beamline, str], tuple[xr.Dataset, _Truth]],
    table: Callable[[list[tuple[xr.Dataset, _Truth]]], Table],
    *,
    data_dir: Path,
    port: int,
    hold: bool,
    shown: str,
) -> None:
    """Measure, print what is found beside the truth, and say where it lies.

    Parameters
    ----------
    names : sequence of str
        What is measured: edges, or samples.
    make_beamline : callable
        Makes the twin.
    measure : callable
        Measures one of them; returns the result, and what is true.
    table : callable
        Makes the table of what was measured.
    data_dir, port, hold
        As for `nimco demo`.
    shown : str
        Variable of the results that the lines of Python open.
    """
    console = Console()
    picture = data_dir / "live.png"
    sessions: list[Session] = []
    with (
        ended_by_signal(lambda: stored_and_waiting(data_dir, sessions)),
        compiling(),
        TiledServer(data_dir, port=port) as server,
        ScanProgress(console) as progress,
        Session(server, plot_path=picture, observers=[progress]) as session,
        ExitStack() as watching,
    ):
        sessions.append(session)
        console.print(f"Tiled server at {server.uri}, data in {data_dir.resolve()}")
        page = print_page(console, watching, server, held=hold)
        beamline = make_beamline()
        run_engine = RunEngine(context_managers=[PauseOnSignal])
        run_engine.subscribe(session)
        found: list[tuple[xr.Dataset, _Truth]] = []
        interrupted = False
        try:
            for name in names:
                found.append(measure(run_engine, session, beamline, name))
        except RunEngineInterrupted:
            interrupted = True
            if run_engine.state == "paused":
                run_engine.abort("interrupted by the user")
        session.wait()
        progress.close()
        if found:
            console.print(table(found))
            results = [result for result, _ in found]
            for name, result in zip(names, results, strict=False):
                for warning in result.attrs["warnings"]:
                    console.print(f"note   {name}: {warning}", soft_wrap=True, highlight=False)
            held = hold and not interrupted
            print_where(console, server, results, picture, held=held, page=page, shown=shown)
        if hold and not interrupted:
            server.hold(console, until_enter=True)
