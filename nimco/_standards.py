"""Reference series from standards measured on the same beamline as the sample."""

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from bluesky import RunEngine

from beamline_plans import EnergyGrid, xanes_scan
from callbacks import LiveSpectrum
from edge_fitting import EdgeFittingError, FoilCalibration, ReferenceSeries, edge_name
from nimco._library_entries import ReferenceCalibration, check_name
from nimco._reference_library import ReferenceLibrary
from nimco.errors import ReferenceLibraryError

if TYPE_CHECKING:  # an extra brings it; it can be without
    from sim_devices import SimBeamline

_LOG = logging.getLogger("nimco")


def measure_standards(
    run_engine: RunEngine,
    beamline: "SimBeamline",
    edge: str,
    *,
    socs: Sequence[float],
    grid: EnergyGrid,
    composition: str | None = None,
    library: ReferenceLibrary | None = None,
    calibration: ReferenceCalibration | FoilCalibration | None = None,
) -> ReferenceSeries:
    """Measure pellets of known state of charge as a user would, and make a reference series of them.

    Parameters
    ----------
    run_engine : RunEngine
        Runs the scans.
    beamline : SimBeamline
        Its standards are loaded one after the other; the electrode is back in place at the end. Where the scan of a
        standard is paused, the standard stays until the scan has been resumed or aborted.
    edge : str
        Key of `edge_fitting.EDGES`.
    socs : sequence of float
        State of charge of each standard, two or more.
    grid : EnergyGrid
        Energies of the scans.

    composition : str, optional
        What the standards are made of; needed for the library.
    library : ReferenceLibrary, optional
        Keeps the spectra as measured, on the calibrated axis, as ``COMPOSITION EDGE SOC 0.5``. What it does not take
        is said in the log and costs no measurement.
    calibration : ReferenceCalibration or FoilCalibration, optional
        What the axis of these scans is calibrated with; its shift is added to the energies that go into the library.
        Needed for it. After `beamline_plans.calibrate_energy` the shift is 0: ``ReferenceCalibration("Ni")``.

    Returns
    -------
    ReferenceSeries
        On the axis of the scans, as a scan of the sample on the same day needs it; its ``sources`` name the runs, or
        the entries of the library.

    Raises
    ------
    CallbackError
        If a scan of a standard gave no spectrum.
    ReferenceLibraryError
        Before anything is measured: what the library needs is not said, or it cannot be reached.
    """
    edge = edge_name(edge)
    keep = None if library is None else _LibraryWriter(library, edge, composition, calibration)
    spectra = LiveSpectrum()
    token = run_engine.subscribe(spectra)
    measured, sources = [], []
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
            source = {"name": standard["name"], "source": str(uids[-1])}
            sources.append(source if keep is None else keep(energy_ev, optical_depth, soc, source))
    finally:
        if run_engine.state == "idle":
            beamline.load_electrode()
        else:
            _LOG.warning(
                "the scan of %s is paused and the standard stays in its place, so that no frame shows anything else; "
                "after RE.resume() or RE.abort() put the sample back with load_electrode() and measure the standards "
                "again",
                standard["name"],
            )
        run_engine.unsubscribe(token)
        spectra.close()
    axis = measured[0][0]
    # Readbacks of repeated moves differ by the encoder's noise: one axis for all.
    mu = np.stack([np.interp(axis, energy_ev, optical_depth) for energy_ev, optical_depth in measured])
    return ReferenceSeries(axis, mu, np.asarray(socs, dtype=float), sources=sources)


class _LibraryWriter:
    """Puts measured standards into the library."""

    def __init__(
        self,
        library: ReferenceLibrary,
        edge: str,
        composition: str | None,
        calibration: ReferenceCalibration | FoilCalibration | None,
    ) -> None:
        if composition is None or calibration is None:
            what = "composition" if composition is None else "calibration of the energy axis"
            raise ReferenceLibraryError(
                f"standards go into the reference library with composition= and calibration=; the {what} is missing."
            )
        self._library, self._edge, self._composition = library, edge, composition
        self._calibration = ReferenceCalibration.of(calibration, edge)
        check_name(self._name(0.0))
        library.find(edge=edge)  # whether it can be reached

    def _name(self, soc: float) -> str:
        return f"{self._composition} {self._edge} SOC {soc:g}"

    def __call__(
        self, energy_ev: np.ndarray, optical_depth: np.ndarray, soc: float, source: dict[str, Any]
    ) -> dict[str, Any]:
        """Add one spectrum and return where it came from; what cannot be added is said and keeps the source it had."""
        try:
            entry = self._library.add(
                self._name(soc),
                energy_ev + self._calibration.shift_ev,
                optical_depth,
                edge=self._edge,
                composition=self._composition,
                calibration=self._calibration,
                soc=soc,
                source=source["source"],
            )
        except (ReferenceLibraryError, EdgeFittingError) as error:
            _LOG.error("%s is measured but not in the reference library: %s", source["name"], error)
            return source
        origin = entry.origin()
        if self._calibration.shift_ev:
            # The series stays on the axis of the scans: what the entry was shifted by was not added to it.
            for key in ("foil", "definition", "shift_ev"):
                del origin[key]
            origin["energy_axis"] = "as scanned, without the shift of the entry"
        return origin
