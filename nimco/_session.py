"""One measurement session: Tiled server, raw writer, live analysis, publisher and plot, joined up."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import xarray as xr

from callbacks import (
    Alarm,
    AlarmWatch,
    CallbackError,
    DocumentWorker,
    ForeignLayout,
    LiveSOC,
    LiveSOCPlot,
    RawRunWriter,
    RegisterChoice,
    SOCPublisher,
    waiting_in,
)
from edge_fitting import OffsetChoice, ReferenceSeries
from nimco._compiling import compile_kernels
from nimco._containers import TiledAccess
from nimco._learned_times import LearnedTimes
from scan_contract import is_energy_scan

Document = tuple[str, dict[str, Any]]
Consumer = Callable[[str, dict[str, Any]], object]


_CLOSE_TIMEOUT_S = 10.0
_POLL_INTERVAL_S = 0.2


class Session:
    """Everything behind a RunEngine: give it documents, it keeps, fits, publishes and shows them.

    Use as a context manager, or call `start` and `close`. ``RE.subscribe(session)`` is all a control session needs.

    Parameters
    ----------
    server : TiledServer or RemoteTiled
        A running server.
    references : ReferenceSeries or mapping of edge name to ReferenceSeries, optional
        By default those in the start documents.
    method : str
        Estimator of the live map, see `edge_fitting.fit_stack`.
    axis_offset : {"report", "fit"} or float
        What to do about an offset between the energy axes of scan and references, see `edge_fitting.fit_stack`.
    register : {"auto", "on", "off"}
        Whether frames are moved back by the drift of the sample, see `LiveSOC`.
    plot_path : Path or str, optional
        PNG that is refreshed with the map; where there is a display a window opens instead.
    observers : sequence of callables
        Further consumers of documents, for example a progress bar, each called on a thread of its own.
    layouts : sequence of ForeignLayout
        How to understand the runs of other plans.
    update_frames : int, optional
        New maps after so many frames however fast they come, see `LiveSOC`.
    soc_range : (float, float), optional
        Range of the colours of the plot, so that those of several scans compare.
    on_alarm : callable, optional
        Called with a `callbacks.Alarm` when one begins, and once more when it ends, on a thread of its own: a lost
        beam, frames left out, drift, saturation, a sample out of the field, what cannot be delivered.
        `callbacks.log_alarm` prints them.
    """

    def __init__(
        self,
        server: TiledAccess,
        *,
        references: ReferenceSeries | Mapping[str, ReferenceSeries] | None = None,
        method: str = "series",
        axis_offset: OffsetChoice = "report",
        register: RegisterChoice = "auto",
        plot_path: Path | str | None = None,
        observers: Sequence[Consumer] = (),
        layouts: Sequence[ForeignLayout] = (),
        update_frames: int | None = None,
        soc_range: tuple[float, float] | None = None,
        on_alarm: Callable[[Alarm], object] | None = None,
    ) -> None:
        spool = server.data_dir / "spool"
        self._server = server
        self._spool_dir = spool
        self.raw_writer = RawRunWriter(server.raw, spool_dir=spool)
        self._method = method
        self.live = LiveSOC(
            references,
            method=method,
            axis_offset=axis_offset,
            register=register,
            layouts=layouts,
            update_frames=update_frames,
        )
        self.publisher = SOCPublisher(server.maps, raw_container=server.raw, spool_dir=spool)
        self.plot = LiveSOCPlot(Path(plot_path), soc_range=soc_range) if plot_path is not None else None
        self._alarms = None if on_alarm is None else AlarmWatch(on_alarm, delivery=self._undelivered)
        self._observers: tuple[DocumentWorker, ...] = (
            LearnedTimes(server.data_dir),
            *(_Observer(consumer) for consumer in observers),
        )
        self._n_runs = self._n_successful = 0
        self._is_settled = True
        self._uids: list[str] = []
        self._closing = ExitStack()
        self._is_joined = self._is_closed = False

    def __enter__(self) -> "Session":
        return self.start()

    def start(self) -> "Session":
        """Join the parts and compile the fit; needed once, before the first document, where no ``with`` block does it.

        The first time on a machine compiling takes up to a minute.
        """
        if self._is_joined:
            return self
        self._is_joined = True
        # Closed in the reverse order: analysis first, then what it feeds, the raw data last.
        self._closing.callback(deliver_and_close, self.raw_writer)
        self._closing.callback(deliver_and_close, self.publisher)
        self.live.subscribe(self.publisher)
        if self.plot is not None:
            self._closing.callback(self.plot.close)
            self.live.subscribe(self.plot)
        if self._alarms is not None:
            self._closing.callback(self._alarms.close)
            self.live.subscribe(self._alarms)
        self._closing.callback(self.live.close)
        for observer in self._observers:
            self._closing.callback(observer.close)
        try:
            compile_kernels(self._method)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Finish the analysis of everything received, publish it and end the workers.

        What hangs is left behind: a subscriber or observer that does not return, and a server that takes nothing
        for ten seconds, hold this up for that long each, and are named. What the server did not take waits in the
        spool folder for the next session on the same data directory.
        """
        self._is_closed = True
        self._closing.close()

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take one document of a scan: only takes note of it, whatever it holds, and never raises."""
        self._is_settled = False
        if name == "start" and isinstance(doc, Mapping):
            self._n_runs += 1
            if is_energy_scan(doc) and "uid" in doc:
                self._uids.append(str(doc["uid"]))
        elif name == "stop" and isinstance(doc, Mapping):
            self._n_successful += doc.get("exit_status") == "success"
        self.raw_writer(name, doc)
        self.live(name, doc)
        for observer in self._observers:
            observer(name, doc)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until everything received is fitted, published and drawn, and the observers have had it."""
        self.live.wait(timeout_s)
        self.raw_writer.wait(timeout_s)
        self.publisher.wait(timeout_s)
        for sink in (self.plot, self._alarms):
            if sink is not None:
                sink.wait(timeout_s)
        for observer in self._observers:
            observer.wait(timeout_s)
        self._is_settled = True

    @property
    def is_complete(self) -> bool:
        """Whether every run received ended with success, and all of it has been waited for with `wait`."""
        return self._is_settled and self._n_successful == self._n_runs

    @property
    def n_runs(self) -> int:
        """Number of runs received."""
        return self._n_runs

    @property
    def errors(self) -> list[BaseException]:
        """What went wrong in the analysis, on the way to Tiled, in the plot or in an observer; the last of each."""
        parts = [self.live, self.raw_writer, self.publisher, self.plot, self._alarms, *self._observers]
        return [error for part in parts if part is not None for error in part.errors]

    def __repr__(self) -> str:
        state = " (closed)" if self._is_closed else ""
        lines = [
            f"nimco session on {self._server.uri}, data in {self._server.data_dir}{state}",
            f"  runs    {self._n_runs} received, {len(self._uids)} of them energy scans",
        ]
        for update in self.updates():
            about = update.attrs
            lines.append(
                f"  map     {about['raw_uid'][:8]} {about['edge'].replace('_', ' ')}: {about['n_frames']} of "
                f"{about['frames_expected']} frames, {about['exit_status'] or 'under way'}"
            )
        lines.append(
            f"  waiting {self.live.backlog} documents for the analysis, {self.raw_writer.backlog} documents and "
            f"{self.publisher.backlog} maps for Tiled"
        )
        lines.append(f"  raw     {self.raw_writer.delivery()}")
        if waiting := waiting_in(self._spool_dir):
            lines.append(f"  spool   {waiting} in {self._spool_dir}")
        if errors := self.errors:
            lines.append(f"  errors  {len(errors)}, the last: {errors[-1]}")
        return "\n".join(lines)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The alarms that stand now; none where no hook was given."""
        return () if self._alarms is None else self._alarms.standing

    def _undelivered(self) -> list[str]:
        state = self.raw_writer.delivery()
        if state.answers and not state.documents_in_memory and not state.runs_refused:
            return []
        return [f"{state}."]

    def updates(self) -> list[xr.Dataset]:
        """Return the last result of every energy scan so far that has one, in the order of the scans."""
        found = []
        for uid in self._uids:
            # A scan stopped before its first pair of flat and sample frame has no map.
            with suppress(CallbackError):
                found.append(self.live.latest(uid))
        return found


class _Observer(DocumentWorker):
    """A consumer of documents on a thread of its own: it may be slow, hang or raise without harm to anyone."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        super().__init__(
            f"observer {getattr(consumer, '__name__', type(consumer).__name__)}",
            close_timeout_s=_CLOSE_TIMEOUT_S,
        )

    def _handle(self, name: str, doc: dict[str, Any]) -> None:
        self._consumer(name, doc)


def deliver_and_close(sink: RawRunWriter | SOCPublisher, timeout_s: float = _CLOSE_TIMEOUT_S) -> None:
    """Close what delivers to Tiled once it has delivered, or nothing has moved for so many seconds."""
    deliver(sink, timeout_s)
    sink.close(timeout_s=_POLL_INTERVAL_S)


def deliver(sink: RawRunWriter | SOCPublisher, timeout_s: float) -> None:
    """Return once what was handed over is delivered, or nothing has moved for so many seconds."""

    def state() -> tuple[int, int]:
        return sink.backlog, sink.n_moved if isinstance(sink, SOCPublisher) else 0

    before, since = state(), time.monotonic()
    while before[0] and time.monotonic() - since < timeout_s:
        with suppress(CallbackError):
            sink.wait(_POLL_INTERVAL_S)
            break
        if (now := state()) != before:
            before, since = now, time.monotonic()
