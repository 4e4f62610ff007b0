"""`nimco analyse`: the live analysis in a process of its own, or a stored run analysed anew."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import xarray as xr
from rich.console import Console

from callbacks import (
    CallbackError,
    DeliveryError,
    DocumentStream,
    FollowedRuns,
    ForeignLayout,
    ForeignRuns,
    LiveSOC,
    LiveSOCPlot,
    RegisterChoice,
    SOCPublisher,
    documents_of,
    open_stream,
    soc_versions,
)
from edge_fitting import OffsetChoice, ReferenceSeries
from nimco._axis_offset import parse_axis_offset
from nimco._compiling import compile_kernels
from nimco._layouts import read_layout, with_runs
from nimco._reference_library import ReferenceLibrary
from nimco._reference_options import parse_reference_option, reference_series
from nimco._report import summary_table
from nimco._selection import LeaveOut, SelectedDocuments, parse_roots
from nimco._session import deliver_and_close
from nimco._soc_range import parse_soc_range
from nimco._stopping import ended_by_signal
from nimco._tiled_client import KEY_REMEDY, given_key, open_tiled
from nimco.errors import NimcoError
from scan_contract import is_energy_scan, read_contract

Consumer = Callable[[str, dict[str, Any]], None]

_STREAM_TIMEOUT_S = 5.0
# The map is all that the command is for: a slow server is waited for.
_DELIVERY_PATIENCE_S = 60.0


def analyse(
    *,
    source: str | None,
    run: str | None,
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
    flat_run: str | None,
    dark_run: str | None,
) -> None:
    """Analyse scans in a process of its own: as they are published, or as they are stored."""
    if (source is None) == (run is None):
        raise NimcoError(
            "Give what to analyse: --from zmq://127.0.0.1:5578 to follow scans, or --run UID for a stored one."
        )
    if (flat_run or dark_run) and (run is None or layout is None):
        raise NimcoError(
            "--flat-run and --dark-run go with --run and --layout: they belong to a run of other plans."
        )
    offset = parse_axis_offset(axis_offset)
    colours = parse_soc_range(soc_range)
    if colours is not None and plot is None:
        raise NimcoError(
            "--soc-range sets the colours of the picture; name the picture with --plot FILE.png."
        )
    console, began_s = Console(), time.time()
    analyses: list[_Analysis] = []
    # A service manager ends a follower with SIGTERM: that is no failure.
    with ended_by_signal(lambda: _progress_sentence(analyses), is_service=source is not None):
        wanted, roots = LeaveOut(leave_out or []), parse_roots(root or [])
        foreign = None if layout is None else read_layout(layout)
        stream = None if source is None else open_stream(source, trust_pickle=trust_pickle)
        client = None if tiled is None else connect(tiled, api_key_file)
        if stream is None and client is None:
            raise NimcoError(
                "A stored run is read from Tiled; name the server with --tiled http://127.0.0.1:8710."
            )
        _log_warnings()
        edge, stored, extra = None if foreign is None else foreign.edge, None, []
        if run is not None:
            stored = _stored_run(client, run)
            if foreign is None:
                _check_energy_scan(run, stored)
                scan = read_contract(stored.metadata["start"]).scan
                wanted.indices(scan.energies_ev)
                edge = scan.edge
            else:
                corrections = [
                    None if uid is None else _stored_run(client, uid) for uid in (dark_run, flat_run)
                ]
                extra = [found for found in corrections if found is not None]
                dark_uid, flat_uid = (
                    None if found is None else found.metadata["start"]["uid"] for found in corrections
                )
                foreign = with_runs(foreign, flat_uid=flat_uid, dark_uid=dark_uid)
        references = _references(console, reference or [], client, edge)
        options = _Options(references, method, offset, register, plot, colours, wanted, no_dark, roots)
        analyses.append(_Analysis(console, client, options))
        consumer = _consumer(analyses[0], foreign)
        if stream is not None:
            runs = FollowedRuns(consumer, None if client is None else client["raw"], since_s=began_s)
            to = f", maps to {tiled}" if tiled else ""
            with _following(stream, runs, analyses[0]) as receiving:
                console.print(f"Following {source}{to}", soft_wrap=True)
                while receiving.is_alive():
                    receiving.join(1.0)
        else:
            _analyse_stored(console, client, stored, analyses[0], consumer, extra)


def _progress_sentence(analyses: list["_Analysis"]) -> str:
    """Say what a stopped analysis has published."""
    if not analyses:
        return "nothing was analysed, nothing waits"
    n_maps, waiting = len(analyses[0].finished), analyses[0].n_waiting
    left = "nothing waits" if not waiting else f"{waiting} could not be delivered to Tiled and are lost"
    return (
        f"what was received is analysed, the maps of {n_maps} run(s) are final, and {left}; raw runs are as they "
        "were, analyse one anew with: nimco analyse --run UID"
    )


def connect(uri: str, api_key_file: Path | None) -> Any:
    """Return a client of a Tiled server that has raw runs and maps.

    Raises
    ------
    NimcoError
        It does not answer, refuses the key, or has no such containers.
    """
    return open_tiled(uri, given_key(api_key_file), remedy=KEY_REMEDY)


def _log_warnings() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")


def _references(
    console: Console, options: list[str], client: Any, edge: str | None
) -> ReferenceSeries | dict[str, ReferenceSeries] | None:
    """Return the references asked for; those of the library for the runs of their edge only."""
    if not options:
        return None
    library = None if client is None else partial(ReferenceLibrary, client)
    series, notes = reference_series(
        [parse_reference_option(option) for option in options], library=library, edge=edge
    )
    for note in notes:
        console.print(f"  reference {note}")
    edges = {source.get("edge") for source in series.sources}
    known = edges.pop() if len(edges) == 1 else None
    return series if known is None else {known: series}


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
        for subscriber in (self._publisher, self._plot):
            if subscriber is not None:
                self.live.subscribe(subscriber)

    @property
    def n_waiting(self) -> int:
        """Number of maps that are not in Tiled."""
        return 0 if self._publisher is None else self._publisher.backlog

    @property
    def undelivered(self) -> str | None:
        """Why maps did not get into Tiled, once this is closed; None where they did."""
        if self._publisher is None:
            return None
        refused = [error for error in self._publisher.errors if not isinstance(error, DeliveryError)]
        if refused:
            return str(refused[-1])
        return f"it took nothing for {_DELIVERY_PATIENCE_S:g} s" if self.n_waiting else None

    def close(self) -> None:
        with ExitStack() as closing:
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

    def _print_update(self, update: xr.Dataset) -> None:
        if update.attrs["final"]:
            self.finished.append(update)
            self._console.print(summary_table([update], {}))
            for warning in update.attrs["warnings"]:
                self._console.print(f"  {warning}", soft_wrap=True)
            self._console.print(f"run    {update.attrs['raw_uid']}", highlight=False)


def _stored_run(client: Any, uid: str) -> Any:
    try:
        stored = client["raw"][uid]
        stored.metadata["start"]
    except KeyError as error:
        raise NimcoError(f"There is no run {uid} in Tiled, or several whose uid begins like that.") from error
    return stored


def _check_energy_scan(uid: str, stored: Any) -> None:
    if not is_energy_scan(stored.metadata["start"]):
        raise NimcoError(
            f"Run {uid} is no energy scan of nimco (its start document has no xanes part); where other plans made it, "
            "say with --layout FILE how it is to be understood."
        )


def _consumer(analysis: _Analysis, layout: ForeignLayout | None) -> Consumer:
    """Return what takes the documents: the analysis, with what translates those of other plans before it."""
    if layout is None:
        return analysis.selected
    foreign = ForeignRuns([layout])

    def take(name: str, doc: dict[str, Any]) -> None:
        for told_name, told in foreign.translate(name, doc):
            analysis.selected(told_name, told)

    return take


def _analyse_stored(
    console: Console, client: Any, stored: Any, analysis: _Analysis, consumer: Consumer, before: list[Any]
) -> None:
    try:
        for part in (*before, *_with_interrupted(client["raw"], stored)):
            for name, doc in documents_of(part):
                consumer(name, doc)
        if "stop" not in stored.metadata:
            console.print("The run is not over yet: its map shows what is stored so far.")
        analysis.live.wait()
    finally:
        analysis.close()
    if reason := analysis.undelivered:
        raise NimcoError(
            f"The map of run {stored.metadata['start']['uid']} did not get into Tiled: {reason}; the raw run is as it "
            "was: give the command again once the server takes maps."
        )
    if not analysis.finished and "stop" in stored.metadata:
        reason = str(analysis.live.errors[-1]) if analysis.live.errors else "it holds no frames"
        raise NimcoError(f"Run {stored.metadata['start']['uid']} gives no map: {reason}.")


def _with_interrupted(raw: Any, stored: Any) -> list[Any]:
    """Return a stored run after the interrupted runs that it resumes."""
    runs = [stored]
    while (uid := _resumed(runs[0].metadata["start"])) and uid in raw:
        runs.insert(0, raw[uid])
    return runs


def _resumed(start: Mapping[str, Any]) -> str | None:
    """Return the run that a run goes on with; None for one that does not, or is of other plans."""
    return read_contract(start).scan.resumes if is_energy_scan(start) else None


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
