"""One measurement session: Tiled server, raw writer, live analysis, publisher and plot, joined up."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from callbacks import (
    CallbackError,
    ForeignLayout,
    LiveSOC,
    LiveSOCPlot,
    RawRunWriter,
    SOCPublisher,
    SOCUpdate,
)
from edge_fitting import ReferenceSeries
from nimco._compiling import compile_kernels
from nimco._containers import TiledAccess
from nimco._learned_times import LearnedTimes

Document = tuple[str, dict[str, Any]]
Consumer = Callable[[str, dict[str, Any]], None]


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
    plot_path : Path or str, optional
        PNG that is refreshed with the map; where there is a display a window opens instead.
    observers : sequence of callables
        Further consumers of documents, for example a progress bar.
    layouts : sequence of ForeignLayout
        How to understand the runs of other plans.
    """

    def __init__(
        self,
        server: TiledAccess,
        *,
        references: ReferenceSeries | Mapping[str, ReferenceSeries] | None = None,
        method: str = "series",
        plot_path: Path | str | None = None,
        observers: Sequence[Consumer] = (),
        layouts: Sequence[ForeignLayout] = (),
    ) -> None:
        spool = server.data_dir / "spool"
        self.raw_writer = RawRunWriter(server.raw, spool_dir=spool)
        self._method = method
        self.live = LiveSOC(references, method=method, layouts=layouts)
        self.publisher = SOCPublisher(server.maps, raw_container=server.raw, spool_dir=spool)
        self.plot = LiveSOCPlot(Path(plot_path)) if plot_path is not None else None
        self._durations = LearnedTimes(server.data_dir)
        self._observers: tuple[Consumer, ...] = (self._durations, *observers)
        self._uids: list[str] = []
        self._closing = ExitStack()

    def __enter__(self) -> "Session":
        return self.start()

    def start(self) -> "Session":
        """Join the parts and compile the fit; needed once, before the first document, where no ``with`` block does it.

        The first time on a machine compiling takes up to a minute.
        """
        # Closed in the reverse order: analysis first, then what it feeds, the raw data last.
        self._closing.callback(self.raw_writer.close)
        self._closing.callback(self.publisher.close)
        self.live.subscribe(self.publisher)
        if self.plot is not None:
            self._closing.callback(self.plot.close)
            self.live.subscribe(self.plot)
        self._closing.callback(self.live.close)
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
        """Finish the analysis of everything received, publish it and end the workers."""
        self._closing.close()

    def __call__(self, name: str, doc: dict[str, Any]) -> None:
        """Take one document of a scan; never blocks on the analysis and never raises."""
        if name == "start" and "xanes" in doc:
            self._uids.append(doc["uid"])
        self.raw_writer(name, doc)
        self.live(name, doc)
        for observer in self._observers:
            observer(name, doc)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until everything received is fitted, published and drawn."""
        self.live.wait(timeout_s)
        self.raw_writer.wait(timeout_s)
        self.publisher.wait(timeout_s)
        if self.plot is not None:
            self.plot.wait(timeout_s)
        self._durations.wait()

    def updates(self) -> list[SOCUpdate]:
        """Return the last update of every energy scan so far that has one, in the order of the scans."""
        found = []
        for uid in self._uids:
            # A scan stopped before its first pair of flat and sample frame has no map.
            with suppress(CallbackError):
                found.append(self.live.latest(uid))
        return found
