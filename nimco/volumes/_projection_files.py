"""Rotation series of DataExchange, NXtomo and FXI (NSLS-II) files."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt

from callbacks import RootMap
from nimco._hdf5_file import FrameStack, Hdf5File
from nimco.errors import NimcoError, ProjectionError

from ._projections import Projections, RotationSeries
from ._volume import NM

Array = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

_EV = {"ev": 1.0, "kev": 1000.0, "j": 1.0 / 1.602176634e-19, "joule": 1.0 / 1.602176634e-19}
_LOWEST_EV, _HIGHEST_EV = 100.0, 200_000.0
_SAMPLE, _FLAT, _DARK = 0, 1, 2  # image_key of NXtomo
_ENERGIES = (
    "measurement/instrument/monochromator/energy", "exchange/energy", "process/acquisition/energy", "energy",
)  # fmt: skip
_PIXELS = (
    "measurement/instrument/detection_system/objective/resolution", "measurement/instrument/detector/pixel_size",
    "exchange/pixel_size",
)  # fmt: skip


def open_projections(
    paths: Sequence[Path | str], *, energies_ev: npt.ArrayLike | None = None, is_partial: bool = False
) -> RotationSeries:
    """Open rotation series, a file an energy; nothing but angles is read before it is asked for.

    Parameters
    ----------
    paths : sequence of Path
        Files of DataExchange (``exchange/data``, ``data_white``, ``data_dark``, ``theta``), NXtomo (``image_key``,
        ``rotation_angle``) or exports of FXI scans (``img_tomo``, ``img_bkg``, ``img_dark``, ``angle``, ``X_eng``). An
        NXtomo file may hold several entries.
    energies_ev : array_like, optional
        Energy of each series in the order of the files, before what they say.
    is_partial : bool
        Whether angles that cover less than 180 degrees are allowed.

    Returns
    -------
    RotationSeries
        Files stay open until it is closed.

    Raises
    ------
    ProjectionError, RecordingError
        Angles, energies, flats or darks are missing, frames are, or files do not belong together.

    Notes
    -----
    An energy without a unit is in keV below 100, else in eV: no other reading is an X-ray energy. Angles without a unit
    are in degrees. DataExchange: F. De Carlo et al., J. Synchrotron Rad. 21, 1224 (2014). NXtomo: the NeXus manual.
    """
    if not paths:
        raise ProjectionError("there are no files of projections to read.")
    with ExitStack() as files:
        found: list[Projections] = []
        given = None if energies_ev is None else np.atleast_1d(np.asarray(energies_ev, np.float64))
        for path in map(Path, paths):
            file = Hdf5File(path, RootMap())
            files.callback(file.close)
            for reader in _readers(file):
                energy = None
                if given is not None:
                    energy = float(given[len(found)]) if len(found) < given.size else np.nan
                found.append(reader.read(energy))
        if given is not None and given.size != len(found):
            raise ProjectionError(
                f"{given.size} energies were given for {len(found)} series; give one for each, in the order "
                "of the files."
            )
        return RotationSeries(found, files.pop_all(), is_partial=is_partial)


def _readers(file: Hdf5File) -> list["_Layout"]:
    entries = [name for name in file.names if _has(file, f"{name}/instrument/detector/image_key")]
    if entries:
        return [_NXtomo(file, entry) for entry in entries]
    if _has(file, "exchange/data"):
        return [_DataExchange(file)]
    if _has(file, "img_tomo"):
        return [_Fxi(file)]
    raise ProjectionError(
        f"{file.path} is no rotation series: it has neither exchange/data (DataExchange), image_key (NXtomo) nor "
        f"img_tomo (FXI); at its top it has {', '.join(file.names[:12]) or 'nothing'}."
    )


def _has(file: Hdf5File, name: str) -> bool:
    try:
        return file.find(name) is not None
    except NimcoError as error:
        if "is a group" in str(error):
            return False
        raise


class _Layout:
    """Where one kind of file keeps what a series needs."""

    frames, flats, darks, angles = "", "", "", ""
    energies: tuple[str, ...] = ()
    pixels: tuple[str, ...] = ()

    def __init__(self, file: Hdf5File, entry: str = "") -> None:
        self._file, self._entry = file, entry
        self._where = f"{file.path}{f', {entry}' if entry else ''}"

    def read(self, energy_ev: float | None) -> Projections:
        frames = self._stack(self.frames, "no projections")
        energy = self._checked(self._energy() if energy_ev is None else energy_ev)
        sample, flat, dark = self._kinds(frames)
        flats = self._stack(self.flats, f"no flats at {energy:g} eV: without them no optical depth is known")
        darks = self._stack(self.darks, f"no darks at {energy:g} eV: without them the light is not known")
        chosen_flats = np.arange(len(flats)) if flat is None else flat
        chosen_darks = np.arange(len(darks)) if dark is None else dark
        for what, held, chosen in (
            ("projections", frames, sample),
            ("flats", flats, chosen_flats),
            ("darks", darks, chosen_darks),
        ):
            self._complete(what, held, chosen, frames, energy)
        return Projections(
            source=self._where,
            energy_ev=energy,
            angles_deg=self._angles(len(frames), sample),
            frames=frames,
            flats=flats,
            darks=darks,
            chosen=sample,
            chosen_flats=chosen_flats,
            chosen_darks=chosen_darks,
            pixel_size_nm=self._pixel_size(),
        )

    def _kinds(self, frames: FrameStack) -> tuple[Indices, Indices | None, Indices | None]:
        return np.arange(len(frames)), None, None

    def _named(self, name: str) -> str:
        return f"{self._entry}/{name}" if self._entry else name

    def _stack(self, name: str, otherwise: str) -> FrameStack:
        stack = self._file.frames(self._named(name)) if _has(self._file, self._named(name)) else None
        if stack is None or not len(stack):
            raise ProjectionError(f"{self._where} has {otherwise} ('{self._named(name)}').")
        return stack

    def _complete(
        self, what: str, held: FrameStack, chosen: Indices, frames: FrameStack, energy_ev: float
    ) -> None:
        if not chosen.size:
            raise ProjectionError(f"{self._where} has no {what} at {energy_ev:g} eV.")
        if held.shape[1:] != frames.shape[1:]:
            raise ProjectionError(
                f"{self._where}: the {what} have {held.shape[1:]} pixels and the projections {frames.shape[1:]}."
            )
        missing = int(held.missing[chosen].sum())
        if missing:
            raise ProjectionError(
                f"{self._where}: {missing} of {chosen.size} {what} at {energy_ev:g} eV were never written: half a "
                "series; copy the file again."
            )

    def _angles(self, n_frames: int, sample: Indices) -> Array:
        name = self._named(self.angles)
        values = self._file.numbers(name) if _has(self._file, name) else None
        if values is None:
            raise ProjectionError(f"{self._where} has no angles ('{name}').")
        values = values.ravel()
        if values.size != n_frames:
            raise ProjectionError(
                f"{self._where} has {values.size} angles for {n_frames} frames; angles or frames are missing."
            )
        values = values[sample]
        if not np.isfinite(values).all():
            raise ProjectionError(
                f"{self._where}: {int((~np.isfinite(values)).sum())} angles are no numbers."
            )
        unit = self._unit(name)
        if unit.startswith("rad"):
            return np.degrees(values)
        if unit and not unit.startswith("deg") and unit != "°":
            raise ProjectionError(f"{self._where}: angles in {unit!r} are neither degrees nor radians.")
        return values

    def _energy(self) -> float:
        for name in map(self._named, self.energies):
            if not _has(self._file, name):
                continue
            values = self._file.numbers(name)
            if values is None or not values.size:
                continue
            if np.ptp(values) > 1e-6 * abs(float(values.flat[0])):
                raise ProjectionError(
                    f"{self._where}: '{name}' holds {values.size} energies for one rotation series; give energies_ev."
                )
            unit, value = self._unit(name), float(values.flat[0])
            if unit and unit not in _EV:
                raise ProjectionError(f"{self._where}: an energy in {unit!r} is none; give energies_ev.")
            return value * (_EV[unit] if unit else 1000.0 if value < _LOWEST_EV else 1.0)
        raise ProjectionError(f"{self._where} does not say its energy; give energies_ev.")

    def _checked(self, energy_ev: float) -> float:
        if not _LOWEST_EV <= energy_ev <= _HIGHEST_EV:
            raise ProjectionError(f"{self._where}: {energy_ev:g} eV is no X-ray energy; check the unit.")
        return energy_ev

    def _pixel_size(self) -> float | None:
        for name in map(self._named, self.pixels):
            if _has(self._file, name):
                values, factor = self._file.numbers(name), NM.get(self._unit(name))
                if values is not None and values.size and factor is not None and float(values.flat[0]) > 0:
                    return factor * float(values.flat[0])
        return None

    def _unit(self, name: str) -> str:
        dataset = self._file.find(name)
        held = "" if dataset is None else dataset.attrs.get("units", dataset.attrs.get("unit", ""))
        text = held.decode("utf-8", "replace") if isinstance(held, bytes) else str(held)
        return text.strip().lower()


class _DataExchange(_Layout):
    frames, flats, darks = "exchange/data", "exchange/data_white", "exchange/data_dark"
    angles = "exchange/theta"
    energies, pixels = _ENERGIES, _PIXELS


class _Fxi(_Layout):
    frames, flats, darks, angles = "img_tomo", "img_bkg", "img_dark", "angle"
    energies = ("X_eng",)

    def _stack(self, name: str, otherwise: str) -> FrameStack:
        # Small exports keep the mean of flats and darks only.
        return super()._stack(name if _has(self._file, name) else f"{name}_avg", otherwise)


class _NXtomo(_Layout):
    frames = flats = darks = "instrument/detector/data"
    angles = "sample/rotation_angle"
    energies = (
        "instrument/beam/incident_energy",
        "beam/incident_energy",
        "instrument/beam/energy",
        "beam/energy",
    )
    pixels = ("sample/x_pixel_size", "instrument/detector/x_pixel_size")

    def _kinds(self, frames: FrameStack) -> tuple[Indices, Indices | None, Indices | None]:
        keys = self._file.numbers(self._named("instrument/detector/image_key"))
        if keys is None or keys.size != len(frames):
            n_keys = 0 if keys is None else keys.size
            raise ProjectionError(
                f"{self._where} has an image_key for {n_keys} of {len(frames)} frames: half a series; copy the file "
                "again."
            )
        sample, flat, dark = (np.flatnonzero(keys.ravel() == kind) for kind in (_SAMPLE, _FLAT, _DARK))
        return sample, flat, dark
