"""Stored runs analysed anew: read once, fitted as often as asked for, piece by piece, and published."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import xarray as xr

from callbacks import CallbackError
from callbacks.techniques import EstimatorOptions, StackedScan, StackFit, Tile, provenance_of_scan
from edge_fitting import EdgeFittingError
from nimco._reanalysis_store import ReanalysisStore, short_hash
from nimco._reanalysis_tasks import read_task, tile_task, whole_task
from nimco._stored_runs import StoredScanJob
from nimco._task_runners import Runner
from nimco._version import __version__
from nimco.errors import NimcoError

_LOOK_S = 0.5
# What a fit takes beside reading its run, for the time left.
_FIT_SHARE = 0.1
_TILE_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Choice:
    """One set of parameters.

    Attributes
    ----------
    label : str
        What tells it from the others; empty where there is only one.
    options : EstimatorOptions
        What is asked for of the analysis.
    """

    label: str
    options: EstimatorOptions

    @property
    def name(self) -> str:
        """A name for files."""
        given = self.options.references
        references = (
            None
            if given is None
            else {edge: series.to_dict() for edge, series in given.items()}
            if isinstance(given, Mapping)
            else given.to_dict()
        )
        return f"fit-{short_hash(self.options.method, self.options.axis_offset, references, __version__)}"


@dataclass
class _Fit:
    """One run by one set of parameters, while it is under way."""

    choice: Choice
    fit: StackFit
    provenance: Mapping[str, Any]
    tiles: list[Tile]
    done: set[Tile] = field(default_factory=set)


@dataclass
class _Run:
    """One run under way."""

    job: StoredScanJob
    name: str
    size: float
    choices: list[Choice]
    fits: list[_Fit] = field(default_factory=list)
    left: int = 0
    failed: bool = False


class _Piece(NamedTuple):
    """A piece of work that was handed over."""

    run: _Run
    fit: _Fit | None
    tile: Tile | None
    part: float


class Reanalysis:
    """Does the work of a reanalysis: what is kept in the store from an earlier start is not done again.

    Parameters
    ----------
    store : ReanalysisStore
        Keeps what is done.
    runner : Runner
        Does the pieces.
    on_result : callable
        Takes the job, the choice and the result of each fit; whatever it raises ends the work.
    on_progress : callable
        Told how much more is done, in the sizes that runs were given with, and what goes on.
    tile_bytes : int
        How much of the frames of a run to fit at once.

    Attributes
    ----------
    failures : list of (StoredScanJob, Exception)
        Runs that gave no result; the others were gone on with.
    """

    def __init__(
        self,
        store: ReanalysisStore,
        runner: Runner,
        *,
        on_result: Callable[[StoredScanJob, Choice, xr.Dataset], object],
        on_progress: Callable[[float, str], object],
        tile_bytes: int | None = None,
    ) -> None:
        self._store, self._runner = store, runner
        self._on_result, self._on_progress = on_result, on_progress
        self._tile_bytes = _TILE_BYTES if tile_bytes is None else tile_bytes
        self._waiting: deque[Callable[[], tuple[Future[Any], _Piece]]] = deque()
        self._running: dict[Future[Any], _Piece] = {}
        self.failures: list[tuple[StoredScanJob, Exception]] = []

    def add(self, job: StoredScanJob, name: str, size: float, choices: Sequence[Choice]) -> None:
        """Add a run.

        Parameters
        ----------
        job : StoredScanJob
            The run.
        name : str
            Its name in the store.
        size : float
            How much work reading it is.
        choices : sequence of Choice
            By what to analyse it.
        """
        run = _Run(job, name, size, list(choices))
        self._waiting.append(partial(self._read, run))

    def work(self) -> None:
        """Do everything.

        Raises
        ------
        NimcoError
            Those who work have gone away.
        """
        while self._waiting or self._running:
            while self._waiting and len(self._running) < self._runner.n_at_once:
                future, piece = self._waiting.popleft()()
                self._running[future] = piece
            done, _ = wait(self._running, _LOOK_S, FIRST_COMPLETED)
            for future in done:
                self._take(self._running.pop(future), future)
            if not done:
                self._runner.check()

    def _read(self, run: _Run) -> tuple[Future[Any], _Piece]:
        about = f"reading run {run.job.uid[:8]}"
        self._on_progress(0.0, about)
        part = run.size
        arguments: tuple[Any, ...] = (run.job, run.name, self._store.address)
        if self._runner.is_here:
            step = run.size / max(run.size, 1.0)
            done = [0.0]

            def on_document(name: str) -> None:
                if name == "event" and done[0] + step <= run.size:
                    done[0] += step
                    self._on_progress(step, about)

            future = self._runner.submit(read_task, *arguments, on_document)
            part -= done[0]
        else:
            future = self._runner.submit(read_task, *arguments)
        return future, _Piece(run, None, None, part)

    def _take(self, piece: _Piece, future: Future[Any]) -> None:
        run = piece.run
        # Nothing here cancels: a scheduler that goes away takes its futures along.
        error = CancelledError() if future.cancelled() else future.exception()
        if error is not None:
            if (said := self._runner.explain(error)) is not None:
                raise said from error
            if not isinstance(error, (NimcoError, CallbackError, EdgeFittingError)):
                raise error
            self._fail(run, error)
            return
        if run.failed:
            return
        value = future.result()
        try:
            if piece.fit is None:
                self._begin_fits(run, value)
            elif len(piece.fit.tiles) == 1:
                self._finish(run, piece.fit, value)
            else:
                assert piece.tile is not None
                self._store.keep(run.name, _part(piece.fit, piece.tile), value)
                self._add_tile(run, piece.fit, piece.tile)
        except (CallbackError, EdgeFittingError) as problem:
            self._fail(run, problem)
        self._on_progress(piece.part, f"fitting run {run.job.uid[:8]}")

    def _fail(self, run: _Run, error: Exception) -> None:
        if not run.failed:
            run.failed = True
            self.failures.append((run.job, error))
            self._store.remove(run.name)

    def _begin_fits(self, run: _Run, read: StackedScan | xr.Dataset) -> None:
        if isinstance(read, xr.Dataset):  # point spectra are analysed as they are read
            self._store.remove(run.name)
            self._on_result(run.job, run.choices[0], read)
            return
        pieces = []
        for choice in run.choices:
            fit = StackFit(read, self._store.scan_path(run.name), choice.options, tile_bytes=self._tile_bytes)
            _check_covered(run.job, choice, fit)
            about = f"{choice.name}-about"
            provenance = self._store.kept(run.name, about)
            if provenance is None:
                provenance = provenance_of_scan(read, choice.options)
                self._store.keep(run.name, about, provenance)
            one = _Fit(choice, fit, provenance, fit.tiles)
            run.fits.append(one)
            pieces += [(one, tile) for tile in one.tiles]
        run.left = len(run.fits)
        share = _FIT_SHARE * run.size * len(run.fits) / len(pieces)
        for one, tile in reversed(pieces):
            if len(one.tiles) > 1 and self._store.kept(run.name, _part(one, tile)) is not None:
                self._on_progress(share, f"fitting run {run.job.uid[:8]}")
                self._add_tile(run, one, tile)
            else:
                # In front: a run is done with before the next is read, so that the disk holds few of them.
                self._waiting.appendleft(partial(self._fit, run, one, tile, share))

    def _fit(self, run: _Run, one: _Fit, tile: Tile, part: float) -> tuple[Future[Any], _Piece]:
        about = run.job, run.name, self._store.address, one.choice.options
        if len(one.tiles) == 1:
            future = self._runner.submit(whole_task, *about, self._tile_bytes, one.provenance)
        else:
            future = self._runner.submit(tile_task, *about, tile, self._tile_bytes)
        return future, _Piece(run, one, tile, part)

    def _add_tile(self, run: _Run, one: _Fit, tile: Tile) -> None:
        one.done.add(tile)
        if len(one.done) == len(one.tiles):
            fitted = [(each, self._store.kept(run.name, _part(one, each))) for each in one.tiles]
            self._finish(run, one, one.fit.result(fitted, one.provenance))

    def _finish(self, run: _Run, one: _Fit, result: xr.Dataset) -> None:
        self._on_result(run.job, one.choice, result)
        run.left -= 1
        if not run.left:
            self._store.remove(run.name)


def expected_size(size: float, n_choices: int) -> float:
    """Return how much work a run is in all, that takes so much to read."""
    return size * (1.0 + _FIT_SHARE * n_choices)


def _part(one: _Fit, tile: Tile) -> str:
    return f"{one.choice.name}-rows-{tile.first}-{tile.stop}"


def _check_covered(job: StoredScanJob, choice: Choice, fit: StackFit) -> None:
    """Refuse references of the command line that do not cover the scan: of a stored run they can be chosen better."""
    if not fit.refused or choice.options.references is None:
        return
    energies = sorted({loss.energy_ev for loss in fit.refused})
    raise CallbackError(
        f"{len(energies)} energies of run {job.uid[:8]} from {energies[0]:g} to {energies[-1]:g} eV cannot be fitted "
        f"({fit.refused[0].reason}); give other references, or leave these energies out with --leave-out "
        f"{energies[0]:g}-{energies[-1]:g}"
    )
