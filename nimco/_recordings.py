"""Recorded energy scans from HDF5 files of the layouts in use, behind one type."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import h5py
import hdf5plugin  # noqa: F401  (registers the compression filters beamlines write with)
import numpy as np

from edge_fitting import EDGES, ReferenceSeries
from nimco._errors import RecordingError

_KEV_BELOW = 100.0
# Transmission of a sample is near or below 1 even with noise and phase fringes; camera counts are not.
_TRANSMISSION_BELOW = 4.0


@dataclass(frozen=True)
class Truth:
    """What a simulated recording knows of itself: maps of shape (rows, cols)."""

    soc: np.ndarray
    edge_jump: np.ndarray


@dataclass(frozen=True)
class Recording:
    """A recorded energy scan, frames left in the file until asked for.

    Attributes
    ----------
    path : Path
        The file.
    layout : str
        Which layout was recognised.
    edge : str
        Key of `edge_fitting.EDGES`.
    energies_ev : numpy.ndarray
        Photon energy of each frame (eV), shape (n,), in the order of acquisition.
    frames : h5py.Dataset
        Sample frames, shape (n, rows, cols).
    flats : h5py.Dataset or numpy.ndarray
        Open-beam frames, shape (n_flat, rows, cols); one per energy when `flats_per_energy`.
    flats_per_energy : bool
        Whether flat k belongs to energy k; otherwise all flats belong to all energies.
    darks : numpy.ndarray
        Dark frames, shape (n_dark, rows, cols).
    i0 : numpy.ndarray or None
        Incident intensity at each energy, the same for frame and flat of that energy.
    exposure_s, flat_exposure_s : float
        Exposure times of the sample and open-beam frames.
    pixel_size_nm : float or None
        Size of a pixel at the sample.
    references : ReferenceSeries or None
        Reference spectra stored in the file.
    truth : Truth or None
        Known answer, where the file is simulated.
    notes : tuple of str
        What was recognised or decided while reading, for the user.
    """

    path: Path
    layout: str
    edge: str
    energies_ev: np.ndarray
    frames: h5py.Dataset
    flats: h5py.Dataset | np.ndarray
    flats_per_energy: bool
    darks: np.ndarray
    i0: np.ndarray | None
    exposure_s: float
    flat_exposure_s: float
    pixel_size_nm: float | None
    references: ReferenceSeries | None
    truth: Truth | None
    notes: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a frame."""
        return self.frames.shape[1], self.frames.shape[2]


class RecordingFile:
    """Opens a recording; use as a context manager, the frames are readable inside it.

    Parameters
    ----------
    path : Path or str
        HDF5 file in the nimco layout (``frames``, ``flats``, ``dark``, ``energy_ev``), the DataExchange layout
        (``/exchange/data``, ``data_white`` or ``data_flat``, ``data_dark``, an energy axis) or the NSLS-II FXI
        export (``img_xanes``, ``img_bkg``, ``img_dark``, ``X_eng``).
    edge : str, optional
        The edge scanned; found from the energies when not given.

    Raises
    ------
    RecordingError
        On entering, if the file is missing, truncated, of no known layout, or contradicts itself.
    """

    def __init__(self, path: Path | str, *, edge: str | None = None) -> None:
        self._path = Path(path)
        self._edge = edge
        self._file: h5py.File | None = None

    def __enter__(self) -> Recording:
        if not self._path.is_file():
            raise RecordingError(f"There is no file {self._path}; check the path.")
        try:
            self._file = h5py.File(self._path, "r")
        except OSError as error:
            raise RecordingError(
                f"{self._path} cannot be opened as HDF5: it is truncated or of another format; copy it again "
                "from the beamline, or export it as HDF5."
            ) from error
        try:
            return self._read(self._file)
        except RecordingError:
            self._file.close()
            raise
        except (OSError, KeyError) as error:
            self._file.close()
            raise RecordingError(
                f"{self._path} is damaged: a dataset cannot be read ({error}); copy it again."
            ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, file: h5py.File) -> Recording:
        for marker, read in _LAYOUTS.items():
            if marker in file:
                return read(self._path, file, self._edge)
        found = ", ".join(sorted(file)[:8]) or "nothing"
        raise RecordingError(
            f"{self._path} has none of the layouts known here (it holds {found}); expected 'frames' + 'energy_ev', "
            "'exchange/data' (DataExchange) or 'img_xanes' + 'X_eng' (FXI export)."
        )


def _read_native(path: Path, file: h5py.File, edge: str | None) -> Recording:
    energies, notes = _energies_ev(path, _dataset(path, file, "energy_ev", "energy"))
    references = None
    if "reference/mu" in file:
        references = ReferenceSeries(energies, file["reference/mu"][:], file["reference/soc"][:])
        notes = (*notes, f"{references.soc.size} reference spectra stored in the file")
    truth = None
    if "truth/soc" in file and "truth/edge_jump" in file:
        truth = Truth(file["truth/soc"][:], file["truth/edge_jump"][:])
    return _checked(
        path,
        "nimco",
        edge,
        energies,
        file["frames"],
        flats=_dataset(path, file, "flats"),
        darks=_dataset(path, file, "dark", "darks")[:],
        i0=file["i0"][:] if "i0" in file else None,
        exposures_s=_exposures(file),
        pixel_size_nm=_scalar(file, "pixel_size_nm"),
        references=references,
        truth=truth,
        notes=notes,
    )


def _read_data_exchange(path: Path, file: h5py.File, edge: str | None) -> Recording:
    axis = _dataset(
        path,
        file,
        "exchange/energy",
        "exchange/energy_ev",
        "exchange/energies",
        "energy",
        "process/acquisition/energy",
        "measurement/instrument/monochromator/energy",
    )
    energies, notes = _energies_ev(path, axis)
    return _checked(
        path,
        "DataExchange",
        edge,
        energies,
        file["exchange/data"],
        flats=_dataset(path, file, "exchange/data_white", "exchange/data_flat"),
        darks=_dataset(path, file, "exchange/data_dark")[:],
        i0=file["exchange/i0"][:] if "exchange/i0" in file else None,
        exposures_s=_exposures(file),
        pixel_size_nm=_scalar(file, "exchange/pixel_size_nm"),
        references=None,
        truth=None,
        notes=notes,
    )


def _read_fxi(path: Path, file: h5py.File, edge: str | None) -> Recording:
    energies, notes = _energies_ev(path, _dataset(path, file, "X_eng"))
    frames = file["img_xanes"]
    flats = _dataset(path, file, "img_bkg")
    darks = _dataset(path, file, "img_dark")[:]
    # The facility's export script divides by the flats before it writes; dividing again would be wrong.
    if frames.dtype.kind == "f" and frames.ndim == 3 and float(np.nanmedian(frames[0])) < _TRANSMISSION_BELOW:
        rows_cols = frames.shape[1:]
        flats, darks = np.ones((1, *rows_cols), np.float32), np.zeros((1, *rows_cols), np.float32)
        notes = (*notes, "img_xanes holds transmission (already divided by the flats): used as it is")
    return _checked(
        path,
        "FXI export",
        edge,
        energies,
        frames,
        flats=flats,
        darks=darks,
        i0=None,
        exposures_s=_exposures(file),
        pixel_size_nm=_scalar(file, "pixel_size_nm", "pixel_size"),
        references=None,
        truth=None,
        notes=notes,
    )


_LAYOUTS: dict[str, Callable[[Path, h5py.File, str | None], Recording]] = {
    "frames": _read_native,
    "exchange/data": _read_data_exchange,
    "img_xanes": _read_fxi,
}


def _checked(
    path: Path,
    layout: str,
    edge: str | None,
    energies_ev: np.ndarray,
    frames: h5py.Dataset,
    *,
    flats: h5py.Dataset | np.ndarray,
    darks: np.ndarray,
    i0: np.ndarray | None,
    exposures_s: tuple[float, float],
    pixel_size_nm: float | None,
    references: ReferenceSeries | None,
    truth: Truth | None,
    notes: tuple[str, ...],
) -> Recording:
    """Make a `Recording`, refusing one whose parts do not fit together."""
    n = energies_ev.size
    if frames.ndim != 3 or frames.shape[0] != n:
        raise RecordingError(
            f"{path}: {n} energies but frames of shape {frames.shape}; expected ({n}, rows, cols)."
        )
    rows_cols = frames.shape[1:]
    if darks.ndim == 2:
        darks = darks[np.newaxis]
    if flats.ndim == 2:
        flats = flats[np.newaxis]
    for name, stack in (("flat", flats), ("dark", darks)):
        if stack.ndim != 3 or stack.shape[1:] != rows_cols or stack.shape[0] == 0:
            raise RecordingError(
                f"{path}: {name} frames of shape {stack.shape} do not fit sample frames of {rows_cols}; "
                "export them with the same binning and region."
            )
    if i0 is not None and i0.shape != (n,):
        raise RecordingError(f"{path}: i0 has shape {i0.shape} for {n} energies; expected ({n},).")
    flats_per_energy = bool(flats.shape[0] == n)
    if not flats_per_energy:
        notes = (*notes, f"{flats.shape[0]} flats for {n} energies: their mean is used at every energy")
        if i0 is not None:
            i0 = None
            notes = (*notes, "i0 left out: the flats have no i0 of their own to compare with")
    return Recording(
        path=path,
        layout=layout,
        edge=edge or _edge_of(path, energies_ev),
        energies_ev=energies_ev,
        frames=frames,
        flats=flats,
        flats_per_energy=flats_per_energy,
        darks=darks,
        i0=i0,
        exposure_s=exposures_s[0],
        flat_exposure_s=exposures_s[1],
        pixel_size_nm=pixel_size_nm,
        references=references,
        truth=truth,
        notes=notes,
    )


def _dataset(path: Path, file: h5py.File, *names: str) -> h5py.Dataset:
    for name in names:
        if name in file:
            return file[name]
    raise RecordingError(
        f"{path} has no dataset '{names[0]}', which its layout needs; export it again with it."
    )


def _scalar(file: h5py.File, *names: str) -> float | None:
    for name in names:
        if name in file:
            values = np.asarray(file[name][()], dtype=float).ravel()
            if values.size and np.isfinite(values[0]) and values[0] > 0:
                return float(values[0])
    return None


def _exposures(file: h5py.File) -> tuple[float, float]:
    """Exposure of sample and flat frames; 1 s stands for both where the file is silent (only the ratio counts)."""
    sample = _scalar(file, "exposure_s", "exchange/exposure_s")
    flat = _scalar(file, "flat_exposure_s", "exchange/flat_exposure_s")
    if sample is None:
        return (1.0, 1.0)
    return sample, sample if flat is None else flat


def _energies_ev(path: Path, dataset: h5py.Dataset) -> tuple[np.ndarray, tuple[str, ...]]:
    energies = np.asarray(dataset[()], dtype=float).ravel()
    if energies.size == 0:
        raise RecordingError(f"{path}: the energy axis '{dataset.name}' is empty.")
    if not np.isfinite(energies).all() or energies.min() <= 0:
        bad = int(np.flatnonzero(~np.isfinite(energies) | (energies <= 0))[0])
        raise RecordingError(
            f"{path}: energy {bad} in '{dataset.name}' is {energies[bad]}; correct the file."
        )
    if energies.max() < _KEV_BELOW:
        return energies * 1000.0, (f"energies in '{dataset.name}' are in keV, converted to eV",)
    return energies, (f"energies in '{dataset.name}' are in eV",)


def _edge_of(path: Path, energies_ev: np.ndarray) -> str:
    inside = [e for e in EDGES.values() if energies_ev.min() < e.energy_ev < energies_ev.max()]
    if not inside:
        raise RecordingError(
            f"{path}: energies {energies_ev.min():.1f} to {energies_ev.max():.1f} eV cross no Ni, Mn or Co edge; "
            "if the axis is shifted, say which edge it is with --edge."
        )
    # A soft X-ray scan may cross L3 and L2 of one element; the L3 edge, the lower one, is the one fitted.
    return min(inside, key=lambda e: e.energy_ev).name
