"""Recorded energy scans from HDF5 files of the layouts in use, behind one type."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType

import numpy as np

from callbacks import RootMap
from edge_fitting import EDGES, EdgeFittingError, ReferenceSeries
from nimco._hdf5_file import READING_ERRORS, FrameStack, Hdf5File, memory_bytes
from nimco._recording import Recording, Truth
from nimco.errors import RecordingError
from scan_contract import pixel_size_slip

_KEV_BELOW = 100.0
# Transmission of a sample is near or below 1 even with noise and phase fringes; camera counts are not.
_TRANSMISSION_BELOW = 4.0
# What the live analysis holds for each pixel, whatever the number of energies, with room for frames on their way.
_BYTES_PER_PIXEL = 400
_MOST_REFERENCES = 1000
# Frames and flats that differ by more in exposure are not counted in the same unit.
_MOST_EXPOSURE_RATIO = 200.0


class RecordingFile:
    """Opens a recording; use as a context manager, the frames are readable inside it.

    Nothing large is read on opening: sizes, types, links and the sources of virtual datasets are looked at first,
    and what the memory here cannot hold is refused.

    Parameters
    ----------
    path : Path or str
        HDF5 file in the nimco layout (``frames``, ``flats``, ``dark``, ``energy_ev``), the DataExchange layout
        (``/exchange/data``, ``data_white`` or ``data_flat``, ``data_dark``, an energy axis) or the NSLS-II FXI
        export (``img_xanes``, ``img_bkg``, ``img_dark``, ``X_eng``).
    edge : str, optional
        The edge scanned; found from the energies when not given.
    no_dark : bool
        The detector counts photons: no dark frames are needed, and any there are left unused.
    roots : RootMap, optional
        Where folders that links and virtual datasets name are on this machine.

    Raises
    ------
    RecordingError
        On entering, if the file is missing, truncated, of no known layout, or contradicts itself.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        edge: str | None = None,
        no_dark: bool = False,
        roots: RootMap | None = None,
    ) -> None:
        self._path = Path(path)
        self._edge = edge
        self._no_dark = no_dark
        self._roots = roots or RootMap()
        self._file: Hdf5File | None = None

    def __enter__(self) -> Recording:
        self._file = Hdf5File(self._path, self._roots)
        try:
            return self._read(_Source(self._path, self._file, self._edge, self._no_dark))
        except RecordingError:
            self._file.close()
            raise
        except EdgeFittingError as error:
            self._file.close()
            raise RecordingError(
                f"{self._path}: the references in the file cannot be used: {error}"
            ) from error
        except (*READING_ERRORS, MemoryError) as error:
            self._file.close()
            reason = str(error) or type(error).__name__
            raise RecordingError(
                f"{self._path} is damaged: a dataset cannot be read ({reason}); copy it again."
            ) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def _read(self, source: "_Source") -> Recording:
        for marker, read in _LAYOUTS.items():
            if source.file.find(marker) is not None:
                return read(source)
        found = ", ".join(source.file.names[:8]) or "nothing"
        raise RecordingError(
            f"{self._path} has none of the layouts known here (it holds {found}); expected 'frames' + 'energy_ev', "
            "'exchange/data' (DataExchange) or 'img_xanes' + 'X_eng' (FXI export)."
        )


@dataclass(frozen=True)
class _Source:
    """What a reader of a layout is given."""

    path: Path
    file: Hdf5File
    edge: str | None
    no_dark: bool

    def frames(self, *names: str) -> FrameStack:
        for name in names:
            if (stack := self.file.frames(name)) is not None:
                return stack
        raise RecordingError(
            f"{self.path} has no dataset '{names[0]}', which its layout needs; export it again with it."
        )

    def darks(self, *names: str) -> FrameStack | None:
        """Dark frames; None where they are not to be used."""
        if self.no_dark:
            return None
        for name in names:
            dataset = self.file.find(name)
            if dataset is not None and dataset.size:
                return self.frames(name)
        raise RecordingError(
            f"{self.path} has no dark frames ('{names[0]}'); export it again with them, or say --no-dark if the "
            "detector counts photons or its darks are subtracted already."
        )

    def scalar(self, *names: str) -> float | None:
        """One positive number; None where nothing has any of the names or it is not positive."""
        for name in names:
            values = self.file.numbers(name)
            if values is None or not values.size:
                continue
            if np.ptp(values) > 1e-9 * np.abs(values).max():
                raise RecordingError(
                    f"{self.path}: '{name}' holds different values ({values.min():g} to {values.max():g}) where one "
                    "is needed; split the scan, or scale the frames to one."
                )
            if np.isfinite(values.flat[0]) and values.flat[0] > 0:
                return float(values.flat[0])
        return None

    def energies_ev(self, *names: str) -> tuple[np.ndarray, tuple[str, ...]]:
        for name in names:
            values = self.file.numbers(name)
            if values is not None:
                return _energies_ev(self.path, name, values)
        raise RecordingError(
            f"{self.path} has no dataset '{names[0]}', which its layout needs; export it again with it."
        )

    def exposures_s(self) -> tuple[float, float]:
        """Exposure of sample and flat frames; 1 s for both where the file is silent (only the ratio counts)."""
        sample = self.scalar("exposure_s", "exchange/exposure_s")
        flat = self.scalar("flat_exposure_s", "exchange/flat_exposure_s")
        if sample is None:
            return (1.0, 1.0)
        if flat is None:
            return sample, sample
        if max(sample, flat) > _MOST_EXPOSURE_RATIO * min(sample, flat):
            raise RecordingError(
                f"{self.path}: exposure_s is {sample:g} and flat_exposure_s {flat:g}; both are meant in seconds, "
                "correct the one that is not."
            )
        return sample, flat


def _read_native(source: _Source) -> Recording:
    file = source.file
    energies, notes = source.energies_ev("energy_ev", "energy")
    frames = source.frames("frames")
    return _checked(
        source,
        "nimco",
        energies,
        frames,
        flats=source.frames("flats"),
        darks=source.darks("dark", "darks"),
        i0=file.numbers("i0"),
        pixel_size_nm=source.scalar("pixel_size_nm"),
        references=_stored_references(source, energies),
        truth=_stored_truth(source, frames),
        notes=notes,
    )


def _stored_references(source: _Source, energies_ev: np.ndarray) -> ReferenceSeries | None:
    soc = source.file.numbers("reference/soc")
    if soc is None or source.file.find("reference/mu") is None:
        return None
    if soc.size > _MOST_REFERENCES:
        raise RecordingError(f"{source.path}: 'reference/soc' holds {soc.size} states of charge.")
    mu = source.file.numbers("reference/mu", (soc.size, energies_ev.size))
    assert mu is not None
    return ReferenceSeries(energies_ev, mu, soc)


def _stored_truth(source: _Source, frames: FrameStack) -> Truth | None:
    if source.file.find("truth/soc") is None or source.file.find("truth/edge_jump") is None:
        return None
    _check_memory(source, frames)
    shape = (frames.shape[1], frames.shape[2])
    soc, jump = source.file.numbers("truth/soc", shape), source.file.numbers("truth/edge_jump", shape)
    assert soc is not None
    assert jump is not None
    return Truth(soc, jump, source.file.numbers("truth/drift_px", (frames.shape[0], 2)))


def _read_data_exchange(source: _Source) -> Recording:
    energies, notes = source.energies_ev(
        "exchange/energy",
        "exchange/energy_ev",
        "exchange/energies",
        "energy",
        "process/acquisition/energy",
        "measurement/instrument/monochromator/energy",
    )
    return _checked(
        source,
        "DataExchange",
        energies,
        source.frames("exchange/data"),
        flats=source.frames("exchange/data_white", "exchange/data_flat"),
        darks=source.darks("exchange/data_dark"),
        i0=source.file.numbers("exchange/i0"),
        pixel_size_nm=source.scalar("exchange/pixel_size_nm"),
        references=None,
        truth=None,
        notes=notes,
    )


def _read_fxi(source: _Source) -> Recording:
    energies, notes = source.energies_ev("X_eng")
    frames = source.frames("img_xanes")
    _check_memory(source, frames)
    # The facility's export script divides by the flats before it writes; dividing again would be wrong.
    first = int(np.argmin(frames.missing))
    if frames.dtype.kind == "f" and float(np.nanmedian(frames[first])) < _TRANSMISSION_BELOW:
        rows_cols = frames.shape[1:]
        flats: FrameStack = _made(np.ones((1, *rows_cols), np.float32))
        darks: FrameStack | None = _made(np.zeros((1, *rows_cols), np.float32))
        notes = (*notes, "img_xanes holds transmission (already divided by the flats): used as it is")
    else:
        flats, darks = source.frames("img_bkg"), source.darks("img_dark")
    return _checked(
        source,
        "FXI export",
        energies,
        frames,
        flats=flats,
        darks=darks,
        i0=None,
        pixel_size_nm=source.scalar("pixel_size_nm", "pixel_size"),
        references=None,
        truth=None,
        notes=notes,
    )


_LAYOUTS: dict[str, Callable[[_Source], Recording]] = {
    "frames": _read_native,
    "exchange/data": _read_data_exchange,
    "img_xanes": _read_fxi,
}


def _checked(
    source: _Source,
    layout: str,
    energies_ev: np.ndarray,
    frames: FrameStack,
    *,
    flats: FrameStack,
    darks: FrameStack | None,
    i0: np.ndarray | None,
    pixel_size_nm: float | None,
    references: ReferenceSeries | None,
    truth: Truth | None,
    notes: tuple[str, ...],
) -> Recording:
    """Make a `Recording`, refusing one whose parts do not fit together."""
    path, n = source.path, energies_ev.size
    if frames.shape[0] != n:
        raise RecordingError(
            f"{path}: {n} energies but frames of shape {frames.shape}; expected ({n}, rows, cols)"
            + (": the energy is the last axis, move it to the front." if frames.shape[-1] == n else ".")
        )
    _check_memory(source, frames)
    rows_cols = frames.shape[1:]
    for name, stack in (("flat", flats), ("dark", darks)):
        if stack is not None and (stack.shape[1:] != rows_cols or len(stack) == 0):
            raise RecordingError(
                f"{path}: {name} frames of shape {stack.shape} do not fit sample frames of {rows_cols}; "
                "export them with the same binning and region."
            )
    if i0 is not None and i0.shape != (n,):
        raise RecordingError(f"{path}: i0 has shape {i0.shape} for {n} energies; expected ({n},).")
    if darks is None:
        darks = _made(np.zeros((0, *rows_cols), np.float32))
        notes = (*notes, "no dark frames are subtracted")
    flats_per_energy = bool(flats.shape[0] == n)
    missing = frames.missing | (flats.missing if flats_per_energy else False)
    if missing.all():
        raise RecordingError(
            f"{path}: the frames were never written, or the files they are in are not there; copy all of them, or say "
            "with --root OLD=NEW where they are now."
        )
    for name, stack in (("flat", flats), ("dark", darks)):
        if stack.missing.any() and not (name == "flat" and flats_per_energy):
            raise RecordingError(
                f"{path}: {int(stack.missing.sum())} of {len(stack)} {name} frames were never written, or the files "
                "they are in are not there; copy all of them."
            )
    if not flats_per_energy:
        notes = (*notes, f"{flats.shape[0]} flats for {n} energies: their mean is used at every energy")
        if i0 is not None:
            i0 = None
            notes = (*notes, "i0 left out: the flats have no i0 of their own to compare with")
    if pixel_size_nm is not None and (slip := pixel_size_slip(pixel_size_nm)):
        pixel_size_nm, notes = None, (*notes, f"pixel size left out: it is {slip}")
    exposure_s, flat_exposure_s = source.exposures_s()
    recording = Recording(
        path=path,
        layout=layout,
        edge=source.edge or _edge_of(path, energies_ev),
        energies_ev=energies_ev,
        frames=frames,
        flats=flats,
        flats_per_energy=flats_per_energy,
        darks=darks,
        i0=i0,
        exposure_s=exposure_s,
        flat_exposure_s=flat_exposure_s,
        pixel_size_nm=pixel_size_nm,
        references=references,
        truth=truth,
        notes=notes,
    )
    return recording.without(np.flatnonzero(missing).tolist(), "their frames or flats are not in the file")


def _made(stack: np.ndarray) -> FrameStack:
    return FrameStack(stack, np.zeros(stack.shape[0], bool))


def _check_memory(source: _Source, frames: FrameStack) -> None:
    needed = prod(frames.shape[1:]) * _BYTES_PER_PIXEL
    if needed > memory_bytes():
        raise RecordingError(
            f"{source.path}: the analysis of frames of {frames.shape[1]} x {frames.shape[2]} px takes about "
            f"{needed / 1e9:.1f} GB of memory, and {memory_bytes() / 1e9:.1f} GB are allowed here; crop or bin them."
        )


def _energies_ev(path: Path, name: str, values: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    energies = values.ravel()
    if energies.size == 0:
        raise RecordingError(f"{path}: the energy axis '{name}' is empty.")
    if values.ndim > 1 and max(values.shape) != values.size:
        raise RecordingError(f"{path}: the energy axis '{name}' has shape {values.shape}; expected (n,).")
    if not np.isfinite(energies).all() or energies.min() <= 0:
        bad = int(np.flatnonzero(~np.isfinite(energies) | (energies <= 0))[0])
        raise RecordingError(f"{path}: energy {bad} in '{name}' is {energies[bad]}; correct the file.")
    if energies.max() < _KEV_BELOW:
        return energies * 1000.0, (f"energies in '{name}' are in keV, converted to eV",)
    if energies.min() < _KEV_BELOW:
        raise RecordingError(
            f"{path}: the energies in '{name}' go from {energies.min():g} to {energies.max():g}, neither all in keV "
            "nor all in eV; correct the file."
        )
    return energies, (f"energies in '{name}' are in eV",)


def _edge_of(path: Path, energies_ev: np.ndarray) -> str:
    inside = [e for e in EDGES.values() if energies_ev.min() < e.energy_ev < energies_ev.max()]
    if not inside:
        raise RecordingError(
            f"{path}: energies {energies_ev.min():.1f} to {energies_ev.max():.1f} eV cross no Ni, Mn or Co edge; "
            "if the axis is shifted, say which edge it is with --edge."
        )
    # A soft X-ray scan may cross L3 and L2 of one element; the L3 edge, the lower one, is the one fitted.
    return min(inside, key=lambda e: e.energy_ev).name
