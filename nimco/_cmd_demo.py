"""`nimco demo`: a simulated beamline, a real scan, a live map."""

from contextlib import ExitStack
from pathlib import Path

import xarray as xr
from bluesky import RunEngine
from bluesky.utils import RunEngineInterrupted
from rich.console import Console

from beamline_plans import EnergyGrid, multi_edge_xanes
from callbacks import RegisterChoice
from edge_fitting import edge_names
from nimco._compiling import compiling
from nimco._demo_page import print_page
from nimco._measurement_report import write_report
from nimco._progress import ScanProgress
from nimco._report import TruthError, print_warnings, summary_table, truth_error
from nimco._server import TiledServer
from nimco._session import Session
from nimco._soc_range import parse_soc_range
from nimco._standards import measure_standards
from nimco._stopping import PauseOnSignal, ended_by_signal
from nimco._where import print_where, stored_and_waiting
from sim_devices import SimBeamline

_STANDARD_SOCS = (0.0, 0.5, 1.0)
# The simulated scan takes seconds; its map grows in so many frames as that of a real one would.
_FRAMES_PER_MAP = 4
# Below this edge jump the counting noise of one pixel is a large part of the edge.
_TRUTH_JUMP = 0.2


def demo(
    *,
    edges: str,
    data_dir: Path,
    size: int,
    seed: int,
    port: int,
    hold: bool,
    soc_range: str | None,
    register: RegisterChoice = "auto",
) -> None:
    """Run a simulated XANES scan with a live state-of-charge map, published to Tiled."""
    console = Console()
    names = edge_names(edges)
    colours = parse_soc_range(soc_range)
    picture = data_dir / "live.png"
    sessions: list[Session] = []
    with (
        ended_by_signal(lambda: stored_and_waiting(data_dir, sessions)),
        compiling(),
        TiledServer(data_dir, port=port) as server,
        ScanProgress(console) as progress,
        Session(
            server,
            plot_path=picture,
            observers=[progress],
            update_frames=_FRAMES_PER_MAP,
            soc_range=colours,
            register=register,
        ) as session,
        ExitStack() as watching,
    ):
        sessions.append(session)
        console.print(f"Tiled server at {server.uri}, data in {data_dir.resolve()}")
        page = print_page(console, watching, server, held=hold)
        beamline = SimBeamline((size, size), seed=seed)
        run_engine = RunEngine(context_managers=[PauseOnSignal])
        run_engine.subscribe(session)
        interrupted = _measure(run_engine, beamline, names)
        session.wait()
        updates = session.updates()
        progress.close()
        if updates:
            console.print(summary_table(updates, _errors(beamline, updates)))
            print_warnings(console, updates)
            print_where(console, server, updates, picture, held=hold and not interrupted, page=page)
            group = str(updates[0].attrs["scan_group"])
            written = write_report(group, updates, data_dir.resolve() / "reports" / f"{group[:8]}.html")
            console.print(f"report {written}", highlight=False, soft_wrap=True)
        if hold and not interrupted:
            server.hold(console, until_enter=True)


def _measure(run_engine: RunEngine, beamline: SimBeamline, names: list[str]) -> bool:
    """Measure the standards, then the electrode. True if the user stopped it."""
    try:
        references = {
            name: measure_standards(
                run_engine, beamline, name, socs=_STANDARD_SOCS, grid=EnergyGrid.preset("default", name)
            )
            for name in names
        }
        run_engine(
            multi_edge_xanes(
                beamline.camera,
                beamline.energy,
                beamline.shutter,
                beamline.stage,
                edges=names,
                # The first map after eight frames, and not when the scan has passed the white line.
                order="informative",
                i0=beamline.i0,
                references={name: series.to_dict() for name, series in references.items()},
                pixel_size_nm=beamline.pixel_size_nm,
                md={"sample": {"name": "simulated NMC622 electrode"}},
            )
        )
    except RunEngineInterrupted:
        if run_engine.state == "paused":  # a plan that cannot be paused has been aborted already
            run_engine.abort("interrupted by the user")
        return True
    return False


def _errors(beamline: SimBeamline, updates: list[xr.Dataset]) -> dict[str, list[tuple[str, TruthError]]]:
    errors = {}
    for update in updates:
        truth = beamline.truth(update.attrs["edge"])
        inside = truth.mask & (truth.jump > _TRUTH_JUMP)
        errors[update.attrs["raw_uid"]] = [
            (
                f"SOC error (RMS), jump > {_TRUTH_JUMP:g}",
                truth_error(update["soc"].values, truth.soc, inside),
            ),
            (
                f"edge energy error (eV), jump > {_TRUTH_JUMP:g}",
                truth_error(update["edge_energy_ev"].values, truth.edge_energy_ev, inside),
            ),
        ]
    return errors
