"""Maps of the spectra in a file of another program, and a table of maps for spreadsheets."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from callbacks.documents import FluorescenceFile
from callbacks.errors import CallbackError
from edge_fitting import DetectorResponse, EdgeFittingError, SpectrumProjection, calibrate_spectrum

from ._xrf_result import XRF_SCHEMA


def fit_fluorescence(
    file: FluorescenceFile,
    elements: Sequence[str],
    *,
    excitation_ev: float | None = None,
    nominal: DetectorResponse | None = None,
    angle_deg: float = 90.0,
) -> xr.Dataset:
    """Make maps of elements of the spectra that a file holds.

    Parameters
    ----------
    file : FluorescenceFile
        From `read_fluorescence`.
    elements : sequence of str
        What to look for.
    excitation_ev : float, optional
        Energy of the beam; by default that in the file.
    nominal : DetectorResponse, optional
        What is known of the energy scale; by default that in the file, else 10 eV a channel.
    angle_deg : float
        Angle between the beam and the way to the detector.

    Returns
    -------
    xarray.Dataset
        ``element_counts``, its sigma, and the summed spectrum, as of the technique ``xrf``.

    Raises
    ------
    CallbackError
        Nothing says the energy of the beam, or the spectra cannot be fitted.
    """
    energy_ev = excitation_ev or file.excitation_ev
    if energy_ev is None:
        raise CallbackError("the file does not say the energy of the beam; give excitation_ev")
    if nominal is None and file.channel_ev is not None:
        nominal = DetectorResponse(float(np.diff(file.channel_ev).mean()), float(file.channel_ev[0]))
    rows = file.counts.reshape(-1, file.counts.shape[-1])
    try:
        found = calibrate_spectrum(
            rows.sum(axis=0, dtype=np.float64), elements, energy_ev, nominal=nominal, angle_deg=angle_deg
        )
        fitted = SpectrumProjection(found.model, found.curve / len(rows)).fit(rows)
    except EdgeFittingError as error:
        raise CallbackError(f"the spectra cannot be fitted: {str(error).rstrip('.')}") from error
    n, shape = fitted.n_elements, (fitted.n_elements, *file.counts.shape[:2])
    window = found.model.window
    values = {
        "row_um": file.row_um,
        "column_um": file.column_um,
        "element_counts": fitted.counts[:, :n].T.reshape(shape),
        "element_counts_sigma": fitted.sigma[:, :n].T.reshape(shape),
        "element_counts_free": fitted.free[:, :n].T.reshape(shape),
        "channel_ev": found.model.response.energy_ev(window.channels),
        "summed_spectrum": rows[:, window.slice].sum(axis=0),
        "summed_fit": found.curve,
        "summed_background": found.background,
    }
    if file.i0 is not None:
        values["i0"] = file.i0
    about = {
        "technique": "xrf", "layout": file.layout, "elements": list(elements), "excitation_ev": energy_ev,
        "warnings": list(found.warnings), "raw_uid": file.layout, "final": True,
    }  # fmt: skip
    return XRF_SCHEMA.make(values, about, signal="element_counts")


def write_fluorescence_table(result: xr.Dataset, path: str | Path) -> Path:
    """Write the maps of a result as a table: a line for each point, in columns with their sigma.

    Returns
    -------
    Path
        The file, comma separated.
    """
    columns: dict[str, np.ndarray] = {}
    for k, name in enumerate(result.attrs["elements"]):
        for key in ("element_counts", "element_counts_sigma", "areal_density", "areal_density_sigma"):
            if key in result:
                columns[f"{name}_{key.removeprefix('element_')}"] = result[key].values[k]
    for key in map(str, result.data_vars):
        if result[key].dims == ("row", "column"):
            columns[key] = result[key].values
    target = Path(path)
    with target.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["row_um", "column_um", *columns])
        for row, row_um in enumerate(result["row_um"].values):
            for column, column_um in enumerate(result["column_um"].values):
                cells = (one[row, column] for one in columns.values())
                writer.writerow([f"{row_um:g}", f"{column_um:g}", *(_cell(one) for one in cells)])
    return target


def _cell(value: float) -> str:
    return f"{float(value):.7g}" if np.isfinite(value) else ""
