"""A whole beamline in one object: twin, RunEngine, Tiled server and session."""

from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._collector import DocumentCollector
from ._run_engine import close_run_engine
from ._server import temporary_server

if TYPE_CHECKING:
    import xarray as xr
    from bluesky import RunEngine

    from nimco import Session, TiledServer
    from sim_devices import SimBeamline


def devices_of(beamline: Any) -> tuple[Any, Any, Any, Any]:
    """Return what a full-field plan takes first: camera, energy, shutter and stage of a beamline."""
    return beamline.camera, beamline.energy, beamline.shutter, beamline.stage


class TwinSession:
    """The digital twin behind a RunEngine, with a session that maps and publishes what it measures.

    Use as a context manager.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the camera.
    seed : int
        Of everything that is random in the twin.
    server : TiledServer, optional
        A running server, by default a temporary one of its own.
    **options
        As for `nimco.Session`.

    Attributes
    ----------
    beamline : SimBeamline
        The devices.
    run_engine : RunEngine
        Calls return the uids of the runs.
    collector : DocumentCollector
        Keeps the documents.
    server : TiledServer
        Where raw runs and maps go.
    session : Session
        What fits and publishes.

    Examples
    --------
    ::

        with TwinSession((32, 32)) as twin:
            uids = twin.run(xanes_scan(*twin.devices, edge="Ni_K", i0=twin.beamline.i0, grid=grid))
            maps = twin.result(uids[0])
    """

    beamline: "SimBeamline"
    run_engine: "RunEngine"
    collector: DocumentCollector
    server: "TiledServer"
    session: "Session"

    def __init__(
        self,
        shape: tuple[int, int] = (32, 32),
        *,
        seed: int = 1,
        server: "TiledServer | None" = None,
        **options: Any,
    ) -> None:
        self._shape, self._seed, self._running, self._options = shape, seed, server, options
        self._closing = ExitStack()

    def __enter__(self) -> "TwinSession":
        from bluesky import RunEngine

        from nimco import Session
        from sim_devices import SimBeamline

        with ExitStack() as opened:
            self.beamline = SimBeamline(self._shape, seed=self._seed)
            self.run_engine = RunEngine({})
            opened.callback(close_run_engine, self.run_engine)
            self.collector = DocumentCollector(self.run_engine)
            self.server = self._running or opened.enter_context(temporary_server())
            self.session = opened.enter_context(Session(self.server, **self._options))
            self.run_engine.subscribe(self.session)
            self._closing = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    @property
    def devices(self) -> tuple[Any, Any, Any, Any]:
        """What a full-field plan takes first: camera, energy, shutter and stage."""
        return devices_of(self.beamline)

    def run(self, plan: Any, *, timeout_s: float = 300.0) -> tuple[str, ...]:
        """Run a plan, wait until all it measured is fitted and published, and return the uids of its runs.

        Raises
        ------
        BaseException
            What went wrong in the analysis or on the way to Tiled, the last of it.
        """
        before = len(self.collector.of("start"))
        self.run_engine(plan)
        self.session.wait(timeout_s)
        if errors := self.session.errors:
            raise errors[-1]
        return tuple(doc["uid"] for doc in self.collector.of("start")[before:])

    def result(self, uid: str, edge: str | None = None) -> "xr.Dataset":
        """Return the result of a run as a user reads it, from Tiled."""
        from callbacks import open_soc

        return open_soc(self.server.client(), uid, edge)
