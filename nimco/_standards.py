"""Reference series from standards measured on the same beamline as the sample."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bluesky import RunEngine

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import LiveSpectrum
from edge_fitting import ReferenceSeries, edge_name

if TYPE_CHECKING:  # an extra brings it; it can be without
    from sim_devices import SimBeamline


def measure_standards(
    run_engine: RunEngine,
    beamline: "SimBeamline",
    edge: str,
    *,
    socs: Sequence[float],
    grid: EnergyGrid,
) -> ReferenceSeries:
    """Measure pellets of known state of charge as a user would, and make a reference series of them.

    Parameters
    ----------
    run_engine : RunEngine
        Runs the scans.
    beamline : SimBeamline
        Its standards are loaded one after the other; the electrode is back in place at the end.
    edge : str
        Key of `edge_fitting.EDGES`.
    socs : sequence of float
        State of charge of each standard, two or more.
    grid : EnergyGrid
        Energies of the scans.

    Returns
    -------
    ReferenceSeries

    Raises
    ------
    CallbackError
        If a scan of a standard gave no spectrum.
    """
    edge = edge_name(edge)
    spectra = LiveSpectrum()
    token = run_engine.subscribe(spectra)
    measured = []
    try:
        for soc in socs:
            standard = {"name": f"standard SOC {soc:.2f}", "soc": soc}
            beamline.load_standard(edge, soc)
            uids: Any = run_engine(
                xanes_scan(
                    beamline.camera,
                    beamline.energy,
                    beamline.shutter,
                    beamline.stage,
                    edge=edge,
                    grid=grid,
                    i0=beamline.i0,
                    pixel_size_nm=beamline.pixel_size_nm,
                    md={"standard": standard},
                )
            )
            spectra.wait()
            energy_ev, optical_depth, _ = spectra.spectrum(uids[-1])
            measured.append((energy_ev, optical_depth))
    finally:
        beamline.load_electrode()
        run_engine.unsubscribe(token)
        spectra.close()
    axis = measured[0][0]
    # Readbacks of repeated moves differ by the encoder's noise: one axis for all.
    mu = np.stack([np.interp(axis, energy_ev, optical_depth) for energy_ev, optical_depth in measured])
    return ReferenceSeries(axis, mu, np.asarray(socs, dtype=float))
