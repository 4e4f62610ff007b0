"""Fluorescence maps in HDF5 files of other programs: PyXRF, XRF-Maps, and NeXus in the manner of NXfluo."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from callbacks.errors import DocumentError

Array = npt.NDArray[np.float64]

_I0_NAMES = ("i0", "sclr1_ch4", "us_ic", "ic_us", "upstream_ionchamber", "us_ic:cts", "monitor")


@dataclass(frozen=True, eq=False)
class FluorescenceFile:
    """Spectra of a raster from a file.

    Attributes
    ----------
    layout : str
        Whose file it is: ``pyxrf``, ``xrf-maps`` or ``nexus``.
    counts : ndarray, shape (rows, columns, channels)
        Counts, of all detector elements together.
    i0 : ndarray or None, shape (rows, columns)
        Incident intensity, where the file has it.
    row_um, column_um : ndarray
        Positions as the file has them; numbers of rows and columns where it has none.
    channel_ev : ndarray or None, shape (channels,)
        Energies of the channels, where the file has them.
    excitation_ev : float or None
        Energy of the beam.
    """

    layout: str
    counts: npt.NDArray[Any]
    i0: Array | None
    row_um: Array
    column_um: Array
    channel_ev: Array | None
    excitation_ev: float | None


def read_fluorescence(path: str | Path) -> FluorescenceFile:
    """Read the spectra of a map from a file of PyXRF, XRF-Maps, or NeXus.

    Raises
    ------
    DocumentError
        The file cannot be opened, is of none of these layouts, or holds no map of spectra.
    """
    try:
        with h5py.File(path, "r") as file:
            for found, read in _LAYOUTS:
                if found(file):
                    return read(file)
            held = ", ".join(file) or "nothing"
    except OSError as error:
        raise DocumentError(f"{path} cannot be read as HDF5 ({error}); give the file of a map") from error
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise DocumentError(f"{path} does not hold what its layout promises: {error}") from error
    raise DocumentError(
        f"{path} is no file of PyXRF (xrfmap/detsum/counts), XRF-Maps (MAPS/Spectra/mca_arr) or NeXus (NXfluo); it "
        f"holds {held}"
    )


def _pyxrf(file: h5py.File) -> FluorescenceFile:
    group = file["xrfmap"]
    if "detsum" in group and "counts" in group["detsum"]:
        counts = np.asarray(group["detsum/counts"])
    else:
        each = [
            np.asarray(group[name]["counts"])
            for name in group
            if name.startswith("det") and "counts" in group[name]
        ]
        if not each:
            raise KeyError("xrfmap holds no counts")
        counts = np.sum(each, axis=0)
    i0 = None
    if "scalers" in group:
        i0 = _i0(_names(group["scalers/name"]), np.moveaxis(np.asarray(group["scalers/val"]), -1, 0))
    axes = [np.arange(size, dtype=float) for size in counts.shape[:2]]
    if "positions" in group:
        named = dict(
            zip(_names(group["positions/name"]), np.asarray(group["positions/pos"], float), strict=False)
        )
        if "y_pos" in named and "x_pos" in named:
            axes = [named["y_pos"].mean(axis=1), named["x_pos"].mean(axis=0)]
    about = dict(group["scan_metadata"].attrs) if "scan_metadata" in group else {}
    energy_kev = about.get("instrument_mono_incident_energy")
    return _made("pyxrf", counts, i0, axes, None, None if energy_kev is None else 1000.0 * float(energy_kev))


def _xrf_maps(file: h5py.File) -> FluorescenceFile:
    group = file["MAPS"]
    new = "Spectra" in group
    counts = np.moveaxis(np.asarray(group["Spectra/mca_arr" if new else "mca_arr"]), 0, -1)
    scan = group["Scan"] if new else group
    axes = [np.asarray(scan[name], float) for name in ("y_axis", "x_axis")]
    names, values = ("Scalers/Names", "Scalers/Values") if new else ("scaler_names", "scalers")
    i0 = _i0(_names(group[names]), np.asarray(group[values])) if names in group and values in group else None
    energy = "Spectra/Energy" if new else "energy"
    channel_ev = _in_ev(np.asarray(group[energy], float)) if energy in group else None
    return _made("xrf-maps", counts, i0, axes, channel_ev, None)


def _nexus(file: h5py.File) -> FluorescenceFile:
    entry = _nexus_entry(file)
    assert entry is not None
    detector = entry["instrument/fluorescence"]
    counts = np.asarray(detector["data"])
    channel_ev = _in_ev(np.asarray(detector["energy"], float)) if "energy" in detector else None
    axes = [np.arange(size, dtype=float) for size in counts.shape[:2]]
    for place, name in enumerate(("y", "x")):
        if "data" in entry and name in entry["data"] and entry["data"][name].shape == (counts.shape[place],):
            axes[place] = np.asarray(entry["data"][name], float)
    i0 = np.asarray(entry["monitor/data"], float) if "monitor/data" in entry else None
    mono = "instrument/monochromator"
    energy = None
    if f"{mono}/energy" in entry:
        energy = float(_in_ev(np.atleast_1d(np.asarray(entry[f"{mono}/energy"], float)))[0])
    elif f"{mono}/wavelength" in entry:
        energy = 12398.42 / float(np.asarray(entry[f"{mono}/wavelength"]))
    return _made("nexus", counts, i0, axes, channel_ev, energy)


def _made(
    layout: str, counts: Any, i0: Any, axes: list[Any], channel_ev: Any, excitation_ev: float | None
) -> FluorescenceFile:
    if counts.ndim != 3:
        raise ValueError(f"spectra of the shape {counts.shape} are no map")
    if i0 is not None and i0.shape != counts.shape[:2]:
        i0 = None
    if channel_ev is not None and channel_ev.shape != counts.shape[2:]:
        channel_ev = None
    return FluorescenceFile(layout, counts, i0, axes[0], axes[1], channel_ev, excitation_ev)


def _nexus_entry(file: h5py.File) -> Any:
    for name in file:
        if isinstance(file[name], h5py.Group) and "instrument/fluorescence/data" in file[name]:
            return file[name]
    return None


def _names(values: Any) -> list[str]:
    return [one.decode() if isinstance(one, bytes) else str(one) for one in np.asarray(values).ravel()]


def _i0(names: list[str], values: Any) -> Array | None:
    for name, value in zip(names, values, strict=False):
        if name.lower() in _I0_NAMES:
            return np.asarray(value, float)
    return None


def _in_ev(energy: Any) -> Array:
    """Return energies in eV that a file may hold in keV."""
    return np.asarray(energy * 1000.0 if np.nanmax(energy) < 200.0 else energy, float)


_LAYOUTS: tuple[tuple[Callable[[h5py.File], bool], Callable[[h5py.File], FluorescenceFile]], ...] = (
    (lambda file: "xrfmap" in file, _pyxrf),
    (
        lambda file: "MAPS" in file and ("Spectra/mca_arr" in file["MAPS"] or "mca_arr" in file["MAPS"]),
        _xrf_maps,
    ),
    (lambda file: _nexus_entry(file) is not None, _nexus),
)
