"""`nimco reanalyse`: stored runs analysed anew, as new versions of their maps."""

import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import xarray as xr
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from callbacks import (
    CallbackError,
    DeliveryError,
    ForeignLayout,
    LiveSOCPlot,
    RegisterChoice,
    SOCPublisher,
    SOCVersion,
    open_soc,
    soc_versions,
)
from callbacks.techniques import EstimatorOptions
from edge_fitting import ReferenceSeries
from nimco._analysis_comparison import Outcome, comparison_table, draw_comparison, outcome_of
from nimco._axis_offset import parse_axis_offset
from nimco._compiling import compile_kernels
from nimco._layouts import read_layout, with_runs
from nimco._reanalysis import Choice, Reanalysis, expected_size
from nimco._reanalysis_store import ReanalysisStore, short_hash
from nimco._reference_library import ReferenceLibrary
from nimco._reference_options import references_by_edge
from nimco._report import summary_table
from nimco._selection import LeaveOut, parse_roots
from nimco._session import deliver
from nimco._soc_range import parse_soc_range
from nimco._stopping import ended_by_signal
from nimco._stored_data import served_directory
from nimco._stored_runs import Secret, StoredScanJob, check_energy_scan, find_run, is_full_field
from nimco._task_runners import task_runner
from nimco._tiled_client import KEY_REMEDY, given_key, open_tiled
from nimco._version import __version__
from nimco.errors import NimcoError
from scan_contract import is_energy_scan, read_contract

_STORE_FOLDER = "reanalysis"
# The map is all that the command is for: a slow server is waited for.
_DELIVERY_TIMEOUT_S = 60.0


def reanalyse(
    *,
    uids: Sequence[str],
    tiled: str | None,
    api_key_file: Path | None,
    references: list[str] | None,
    method: str,
    axis_offset: list[str] | None,
    register: RegisterChoice,
    leave_out: list[str] | None,
    no_dark: bool,
    root: list[str] | None,
    layout: Path | None,
    flat_run: str | None,
    dark_run: str | None,
    workers: int | None,
    scheduler: str | None,
    data_dir: Path,
    plot: Path | None,
    soc_range: str | None,
) -> None:
    """Analyse stored runs anew and publish the results as new versions."""
    offsets = [parse_axis_offset(text) for text in axis_offset or ["report"]]
    colours = parse_soc_range(soc_range)
    if colours is not None and plot is None:
        raise NimcoError(
            "--soc-range sets the colours of the picture; name the picture with --plot FILE.png."
        )
    if (flat_run or dark_run) and layout is None:
        raise NimcoError("--flat-run and --dark-run go with --layout: they belong to a run of other plans.")
    wanted, roots = LeaveOut(leave_out or []), parse_roots(root or [])
    foreign = None if layout is None else read_layout(layout)
    picture = None if plot is None else _Picture(plot, colours)
    with ExitStack() as serving:
        uri: str
        key: str | None
        if tiled is None:
            uri, key = served_directory(serving, data_dir)
        else:
            uri, key = tiled, given_key(api_key_file)
        client = open_tiled(uri, key, remedy=KEY_REMEDY)
        found = [find_run(client, uid) for uid in uids]
        stored = list({run.metadata["start"]["uid"]: run for run in found}.values())
        edges = [_checked_edge(run, foreign, wanted) for run in stored]
        corrections, foreign = _corrections(client, foreign, dark_run, flat_run)
        console = Console()
        series = _reference_sets(console, references or [], client, edges)
        choices = [
            Choice(
                _label(given, offset, len(series), len(offsets)),
                EstimatorOptions(
                    held, method, offset, register, {old: str(new) for old, new in roots.items()}
                ),
            )
            for (given, held), offset in itertools.product(series, offsets)
        ]
        store = ReanalysisStore(data_dir / _STORE_FOLDER)
        jobs: list[tuple[StoredScanJob, str, float, list[Choice]]] = []
        for run in stored:
            is_stack = foreign is not None or is_full_field(run)
            for options in _read_apart(choices, is_stack=is_stack):
                job = StoredScanJob(
                    uri=uri,
                    key=Secret(key),
                    uid=run.metadata["start"]["uid"],
                    options=options[0].options,
                    layout=foreign,
                    corrections=corrections,
                    leave_out=tuple(leave_out or ()),
                    no_dark=no_dark,
                )
                jobs.append((job, _name(job, run, is_stack=is_stack), _n_events(run), options))
        command = (
            f"command-{short_hash(*(name for _, name, _, _ in jobs), *(choice.name for choice in choices))}"
        )
        published = _Published(console, client, store, command, picture)
        with (
            ended_by_signal(lambda: _progress_sentence(published)),
            ExitStack() as closing,
        ):
            compile_kernels(method)
            for _, name, _, _ in jobs:
                closing.enter_context(store.held(name))
            runner = closing.enter_context(task_runner(workers, scheduler))
            progress = closing.enter_context(_progress(console))
            closing.callback(published.close)
            total = sum(expected_size(size, len(held)) for _, _, size, held in jobs)
            task = progress.add_task("", total=total)

            def on_progress(done: float, about: str) -> None:
                progress.update(task, advance=done, description=about)

            work = Reanalysis(store, runner, on_result=published.take, on_progress=on_progress)
            for job, name, size, held in jobs:
                left = [choice for choice in held if not published.has(job, choice)]
                on_progress(
                    expected_size(size, len(held)) - (expected_size(size, len(left)) if left else 0.0), ""
                )
                if left:
                    work.add(job, name, size, left)
            try:
                work.work()
            except NimcoError as error:
                raise NimcoError(f"{str(error).rstrip('.')}. {published.kept_sentence()}") from error
        published.show()
        if work.failures:
            said = [f"Run {job.uid} gives no map: {str(error).rstrip('.')}" for job, error in work.failures]
            raise NimcoError("; ".join(dict.fromkeys(said)) + ".")
        published.forget()


def _checked_edge(run: Any, foreign: ForeignLayout | None, wanted: LeaveOut) -> str | None:
    """Return the edge of a run, once it is known to be one that can be analysed."""
    start = run.metadata["start"]
    if foreign is not None and not is_energy_scan(start):
        return foreign.edge
    check_energy_scan(start["uid"], run)
    scan = read_contract(start).scan
    wanted.indices(scan.energies_ev)
    return scan.edge


def _corrections(
    client: Any, foreign: ForeignLayout | None, dark_run: str | None, flat_run: str | None
) -> tuple[tuple[str, ...], ForeignLayout | None]:
    if foreign is None:
        return (), None
    dark_uid, flat_uid = (
        None if uid is None else str(find_run(client, uid).metadata["start"]["uid"])
        for uid in (dark_run, flat_run)
    )
    named = with_runs(foreign, flat_uid=flat_uid, dark_uid=dark_uid)
    return tuple(uid for uid in (dark_uid, flat_uid) if uid is not None), named


def _reference_sets(
    console: Console, sets: list[str], client: Any, edges: Sequence[str | None]
) -> list[tuple[str, ReferenceSeries | dict[str, ReferenceSeries] | None]]:
    """Return the sets of references to analyse with, each with its text; those of the runs where none is given."""
    if not sets:
        return [("", None)]
    distinct = set(edges)
    edge = distinct.pop() if len(distinct) == 1 else None
    found: list[tuple[str, ReferenceSeries | dict[str, ReferenceSeries] | None]] = []
    for text in sets:
        series, notes = references_by_edge(
            [part.strip() for part in text.split(",") if part.strip()],
            library=lambda: ReferenceLibrary(client),
            edge=edge,
        )
        for note in notes:
            console.print(f"  reference {note}", highlight=False, soft_wrap=True)
        found.append((text, series))
    return found


def _label(references: str, offset: Any, n_sets: int, n_offsets: int) -> str:
    parts = []
    if n_sets > 1:
        parts.append(", ".join(Path(part).name for part in references.split(",")))
    if n_offsets > 1:
        parts.append(f"axis offset {offset if isinstance(offset, str) else f'{offset:+g} eV'}")
    return "; ".join(parts)


def _read_apart(choices: list[Choice], *, is_stack: bool) -> list[list[Choice]]:
    """Group the choices that a run has to be read once for: registration follows the references."""
    if not is_stack:
        return [[choice] for choice in choices]  # point spectra are analysed as they are read
    if choices[0].options.register == "off":
        return [choices]
    groups: dict[int, list[Choice]] = {}
    for choice in choices:
        groups.setdefault(id(choice.options.references), []).append(choice)
    return list(groups.values())


def _name(job: StoredScanJob, run: Any, *, is_stack: bool) -> str:
    """Return the name of a run in the store: another one for whatever changes the frames that are fitted."""
    options, stop = job.options, run.metadata.get("stop")
    references = None if is_stack and options.register == "off" else Choice("", options).name
    return f"{job.uid[:8]}-" + short_hash(
        job.uid,
        time.time_ns() if stop is None else stop.get("uid"),  # of a run that goes on there is more each time
        repr(job.layout),
        job.corrections,
        job.leave_out,
        job.no_dark,
        options.register,
        dict(options.root_map),
        references,
        __version__,
    )


def _n_events(run: Any) -> float:
    counted = (run.metadata.get("stop") or {}).get("num_events") or {}
    return float(sum(counted.values()) or 100)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
    ) as progress:
        yield progress


class _Picture:
    """The picture: of one result that of the live analysis, of several their comparison."""

    def __init__(self, path: Path, soc_range: tuple[float, float] | None) -> None:
        self._path, self._soc_range = path, soc_range
        self._plot = LiveSOCPlot(path, show=False, soc_range=soc_range)
        self._n = 0

    def take(self, result: xr.Dataset) -> None:
        """Draw the first result."""
        self._n += 1
        if self._n == 1:
            self._plot(result)

    def finish(self, outcomes: list[Outcome]) -> None:
        """Draw the comparison, where there is something to compare."""
        self._plot.close()
        if len(outcomes) > 1:
            draw_comparison(outcomes, self._path, self._soc_range)


class _Published:
    """Publishes the results of a command, and remembers them for a later start of the same command."""

    def __init__(
        self,
        console: Console,
        client: Any,
        store: ReanalysisStore,
        command: str,
        picture: _Picture | None,
    ) -> None:
        self._console, self._client, self._picture = console, client, picture
        self._journal = store.folder / f"{command}.json"
        self._store = store
        self._publisher = SOCPublisher(client["maps"], raw_container=client["raw"])
        self._outcomes: list[Outcome] = []
        self._before: dict[str, dict[str, Any]] = {}
        with suppress(OSError, ValueError):
            self._before = json.loads(self._journal.read_text())
        self._done = dict(self._before)

    @property
    def n_done(self) -> int:
        """Number of results that are in Tiled."""
        return len(self._done)

    def has(self, job: StoredScanJob, choice: Choice) -> bool:
        """Return whether an earlier start of the command has published this; it is compared with the others then."""
        about = self._before.get(_key(job, choice))
        if about is None:
            return False
        try:
            version = self._version(about["uid"], about["edge"], about["began_s"])
            if version is None:
                return False
            result = open_soc(self._client, about["uid"], about["edge"], version.version)
        except (CallbackError, KeyError, httpx.HTTPError, OSError):
            return False
        self._console.print(
            f"run {job.uid[:8]} {choice.label} is done already: version {version.version}",
            highlight=False,
            soft_wrap=True,
        )
        self._outcomes.append(outcome_of(result, choice.label, version.version))
        return True

    def take(self, job: StoredScanJob, choice: Choice, result: xr.Dataset) -> None:
        """Publish a result.

        Raises
        ------
        NimcoError
            Tiled does not take it.
        """
        n_errors = len(self._publisher.errors)
        self._publisher(result)
        deliver(self._publisher, _DELIVERY_TIMEOUT_S)
        refused = [
            error for error in self._publisher.errors[n_errors:] if not isinstance(error, DeliveryError)
        ]
        if refused or self._publisher.backlog:
            reason = str(refused[-1]) if refused else f"it took nothing for {_DELIVERY_TIMEOUT_S:g} s"
            raise NimcoError(
                f"The map of run {job.uid} did not get into Tiled: {reason}; the raw run is as it was: give the "
                "command again once the server takes maps."
            )
        about = result.attrs
        edge, began_s = str(about["edge"]), about["analysis"]["began_s"]
        if about.get("final"):
            self._done[_key(job, choice)] = {"uid": job.uid, "edge": edge, "began_s": began_s}
            self._store.write_text(self._journal.name, json.dumps(self._done))
        if self._picture is not None:
            self._picture.take(result)
        version = self._version(job.uid, edge, began_s)
        self._outcomes.append(outcome_of(result, choice.label, None if version is None else version.version))
        self._say(job, choice, result, version)

    def show(self) -> None:
        """Print the comparison and draw the picture."""
        if len(self._outcomes) > 1:
            self._console.print(comparison_table(self._outcomes))
        if self._picture is not None and self._outcomes:
            self._picture.finish(self._outcomes)

    def forget(self) -> None:
        """All is done: the same command does it anew."""
        self._journal.unlink(missing_ok=True)

    def close(self) -> None:
        """Let the publisher go."""
        self._publisher.close(timeout_s=0.0)

    def kept_sentence(self) -> str:
        """Say what a later start of the same command goes on from."""
        return (
            f"{self.n_done} of the results are in Tiled, and what was read and fitted is kept in "
            f"{self._store.folder}: give the same command again and it goes on from there"
        )

    def _version(self, uid: str, edge: str, began_s: float) -> SOCVersion | None:
        try:
            held = soc_versions(self._client, uid, edge)
        except (CallbackError, KeyError, httpx.HTTPError, OSError):
            return None
        return next((one for one in held if one.analysed_s == began_s), None)

    def _say(
        self, job: StoredScanJob, choice: Choice, result: xr.Dataset, version: SOCVersion | None
    ) -> None:
        about = result.attrs
        say: Callable[[str], None] = lambda text: self._console.print(  # noqa: E731
            text, highlight=False, soft_wrap=True
        )
        if "pixels" in about and len(self._outcomes) == 1:
            self._console.print(summary_table([result], {}))
        for warning in about.get("warnings", ()):
            say(f"  {warning}")
        if not about.get("final"):
            say("The run is not over yet: its map shows what is stored so far.")
        if version is not None and version.version > 1:
            former = version.version - 1
            uid, edge = job.uid[:8], about["edge"]
            say(
                f"maps   of run {uid} at {edge} are version {version.version} now; the former map is kept as version "
                f"{former}: open_soc(client, {uid!r}, {edge!r}, version={former})"
            )
        say(f"run    {job.uid}{f' ({choice.label})' if choice.label else ''}")


def _progress_sentence(published: _Published) -> str:
    """Say what a stopped reanalysis has done."""
    return published.kept_sentence()


def _key(job: StoredScanJob, choice: Choice) -> str:
    return f"{job.uid} {choice.name}"
