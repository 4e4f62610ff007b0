"""`nimco analyse`: the live analysis in a process of its own."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import xarray as xr
from rich.console import Console

from callbacks import (
    Alarm,
    AlarmWatch,
    CallbackError,
    DocumentStream,
    FollowedRuns,
    ForeignLayout,
    ForeignRuns,
    LiveSOC,
    LiveSOCPlot,
    RegisterChoice,
    SOCPublisher,
    open_stream,
    soc_versions,
)
from edge_fitting import OffsetChoice, ReferenceSeries
from nimco._axis_offset import parse_axis_offset
from nimco._compiling import compile_kernels
from nimco._layouts import read_layout
from nimco._reference_library import ReferenceLibrary
from nimco._reference_options import references_by_edge
from nimco._report import summary_table
from nimco._selection import LeaveOut, SelectedDocuments, parse_roots
from nimco._session import deliver_and_close
from nimco._soc_range import parse_soc_range
from nimco._stopping import ended_by_signal
from nimco._tiled_client import connect
from nimco.errors import NimcoError

Consumer = Callable[[str, dict[str, Any]], None]

_STREAM_TIMEOUT_S = 5.0
# The map is all that the command is for: a slow server is waited for.
_DELIVERY_PATIENCE_S = 60.0


def analyse(
    *,
    source: str,
    tiled: str | None,
    api_key_file: Path | None,
    reference: list[str] | None,
    method: str,
    plot: Path | None,
    soc_range: str | None,
    axis_offset: str,
    register: RegisterChoice,
    leave_out: list[str] | None,
    no_dark: bool,
    root: list[str] | None,
    trust_pickle: bool,
    layout: Path | None,
) -> None:
    """Analyse scans in a process of its own, as they are published."""
    offset = parse_axis_offset(axis_offset)
    colours = parse_soc_range(soc_range)
    if colours is not None and plot is None:
        raise NimcoError(
            "--soc-range sets the colours of the picture; name the picture with --plot FILE.png."
        )
    console, began_s = Console(), time.time()
    analyses: list[_Analysis] = []
    # A service manager ends a follower with SIGTERM: that is no failure.
    with ended_by_signal(lambda: _progress_sentence(analyses), is_service=True):
        wanted, roots = LeaveOut(leave_out or []), parse_roots(root or [])
        foreign = None if layout is None else read_layout(layout)
        stream = open_stream(source, trust_pickle=trust_pickle)
        client = None if tiled is None else connect(tiled, api_key_file)
        logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
        edge = None if foreign is None else foreign.edge
        references = _references(console, reference or [], client, edge)
        options = _Options(references, method, offset, register, plot, colours, wanted, no_dark, roots)
        analyses.append(_Analysis(console, client, options))
        consumer = _consumer(analyses[0], foreign)
        runs = FollowedRuns(consumer, None if client is None else client["raw"], since_s=began_s)
        to = f", maps to {tiled}" if tiled else ""
        with _following(stream, runs, analyses[0]) as receiving:
            console.print(f"Following {source}{to}", soft_wrap=True)
            while receiving.is_alive():
                receiving.join(1.0)


def _progress_sentence(analyses: list["_Analysis"]) -> str:
    """Say what a stopped analysis has published."""
    if not analyses:
        return "nothing was analysed, nothing waits"
    n_maps, waiting = len(analyses[0].finished), analyses[0].n_waiting
    left = "nothing waits" if not waiting else f"{waiting} could not be delivered to Tiled and are lost"
    return (
        f"what was received is analysed, the maps of {n_maps} run(s) are final, and {left}; raw runs are as they "
        "were, analyse one anew with: nimco reanalyse UID"
    )


def _references(
    console: Console, options: list[str], client: Any, edge: str | None
) -> ReferenceSeries | dict[str, ReferenceSeries] | None:
    """Return the references asked for; those of the library for the runs of their edge only."""
    if not options:
        return None
    library = None if client is None else partial(ReferenceLibrary, client)
    series, notes = references_by_edge(options, library=library, edge=edge)
    for note in notes:
        console.print(f"  reference {note}")
    return series


@dataclass(frozen=True)
class _Options:
    """What was asked for of the analysis."""

    references: ReferenceSeries | dict[str, ReferenceSeries] | None
    method: str
    axis_offset: OffsetChoice
    register: RegisterChoice
    plot: Path | None
    soc_range: tuple[float, float] | None
    leave_out: LeaveOut
    no_dark: bool
    roots: Mapping[str, Path]


class _Analysis:
    """The live analysis with everything that listens to it."""

    def __init__(self, console: Console, client: Any, options: _Options) -> None:
        compile_kernels(options.method)
        self.finished: list[xr.Dataset] = []
        self._console = console
        self._client = client
        self._publisher = (
            None if client is None else SOCPublisher(client["maps"], raw_container=client["raw"])
        )
        self._plot = (
            None
            if options.plot is None
            else LiveSOCPlot(options.plot, show=False, soc_range=options.soc_range)
        )
        self.live = LiveSOC(
            options.references,
            method=options.method,
            axis_offset=options.axis_offset,
            register=options.register,
            subscribers=[self._print_update],
            root_map=options.roots,
        )
        self.selected = SelectedDocuments(self.live, options.leave_out, no_dark=options.no_dark)
        self._alarms = AlarmWatch(self._print_alarm)
        for subscriber in (self._publisher, self._plot, self._alarms):
            if subscriber is not None:
                self.live.subscribe(subscriber)

    @property
    def n_waiting(self) -> int:
        """Number of maps that are not in Tiled."""
        return 0 if self._publisher is None else self._publisher.backlog

    def close(self) -> None:
        with ExitStack() as closing:
            closing.callback(self._alarms.close)
            if self._plot is not None:
                closing.callback(self._plot.close)
            if self._publisher is not None:
                closing.callback(deliver_and_close, self._publisher, _DELIVERY_PATIENCE_S)
            closing.callback(self.live.close)
        self._print_versions()

    def _print_versions(self) -> None:
        """Say which version a map became that was published beside a former one, and where that one is."""
        if self._client is None:
            return
        for update in self.finished:
            uid, edge = update.attrs["raw_uid"], update.attrs["edge"]
            try:
                versions = soc_versions(self._client, uid, edge)
            except (CallbackError, KeyError, httpx.HTTPError, OSError):
                continue  # it could not be delivered, which the publisher has said
            own = next(
                (held for held in versions if held.analysed_s == update.attrs["analysis"]["began_s"]), None
            )
            former = [held.version for held in versions if own is not None and held.version < own.version]
            if own is not None and former:
                self._console.print(
                    f"maps   of run {uid[:8]} at {edge} are version {own.version} now; the former map is kept as "
                    f"version {former[-1]}: open_soc(client, {uid[:8]!r}, {edge!r}, version={former[-1]})",
                    soft_wrap=True,
                    highlight=False,
                )

    def _print_alarm(self, alarm: Alarm) -> None:
        when = datetime.fromtimestamp(alarm.ended_s or alarm.began_s)
        self._console.print(f"{when:%H:%M:%S} {alarm}", soft_wrap=True, highlight=False, markup=False)

    def _print_update(self, update: xr.Dataset) -> None:
        if update.attrs["final"]:
            self.finished.append(update)
            self._console.print(summary_table([update], {}))
            for warning in update.attrs["warnings"]:
                self._console.print(f"  {warning}", soft_wrap=True)
            self._console.print(f"run    {update.attrs['raw_uid']}", highlight=False)


def _consumer(analysis: _Analysis, layout: ForeignLayout | None) -> Consumer:
    """Return what takes the documents: the analysis, with what translates those of other plans before it."""
    if layout is None:
        return analysis.selected
    foreign = ForeignRuns([layout])

    def take(name: str, doc: dict[str, Any]) -> None:
        for told_name, told in foreign.translate(name, doc):
            analysis.selected(told_name, told)

    return take


@contextmanager
def _following(stream: DocumentStream, runs: FollowedRuns, analysis: _Analysis) -> Iterator[threading.Thread]:
    """Receive documents on a thread of its own; then analyse and publish what has come."""
    receiving = threading.Thread(target=stream.run, args=(runs,), name="document stream", daemon=True)
    with ExitStack() as closing:
        closing.callback(analysis.close)
        closing.callback(runs.close)
        closing.callback(receiving.join, _STREAM_TIMEOUT_S)
        closing.callback(stream.stop)
        receiving.start()
        yield receiving
