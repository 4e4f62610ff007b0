"""A rotation series from files: projections at each energy with flats and darks, read as they are needed."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from nimco._hdf5_file import READING_ERRORS, FrameStack
from nimco.errors import ProjectionError

Array = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]

_LEAST_SPAN_DEG = 170.0
_SAME_ENERGY_EV = 1e-3


@dataclass(frozen=True)
class Projection:
    """One projection.

    Attributes
    ----------
    place : int
        Which of the angles of its series.
    energy_index : int
        Which of the energies.
    energy_ev, angle_deg : float
        Where it was taken.
    depth : ndarray of float32, (rows, cols)
        Optical depth; NaN where the light was no more than the dark.
    """

    place: int
    energy_index: int
    energy_ev: float
    angle_deg: float
    depth: Image


@dataclass(frozen=True, eq=False)
class Projections:
    """The projections of one energy; frames are read one at a time while the files are open.

    Attributes
    ----------
    source : str
        Where they are from.
    energy_ev : float
        Photon energy.
    angles_deg : ndarray, (n,)
        Angle of each.
    frames, flats, darks : FrameStack
        Counts of the sample, without the sample and without light.
    chosen, chosen_flats, chosen_darks : ndarray of int
        Which frames of the stacks these are.
    pixel_size_nm : float or None
        Size of a pixel in the sample, where the file says it with a unit.
    """

    source: str
    energy_ev: float
    angles_deg: Array
    frames: FrameStack
    flats: FrameStack
    darks: FrameStack
    chosen: npt.NDArray[np.intp]
    chosen_flats: npt.NDArray[np.intp]
    chosen_darks: npt.NDArray[np.intp]
    pixel_size_nm: float | None = None
    _light: dict[str, Image] = field(default_factory=dict, repr=False)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.frames.shape[1], self.frames.shape[2]

    def __len__(self) -> int:
        return self.angles_deg.size

    def depth(self, place: int) -> Image:
        """Return the optical depth of one projection.

        Raises
        ------
        ProjectionError
            The frame cannot be read.
        """
        dark, light = self._mean("dark"), self._light_without_sample()
        counts = self._frame(self.frames, int(self.chosen[place])) - dark
        with np.errstate(invalid="ignore", divide="ignore"):
            depth = -np.log(counts / light)
        return np.where(np.isfinite(depth), depth, np.float32(np.nan)).astype(np.float32)

    def _light_without_sample(self) -> Image:
        if "light" not in self._light:
            light = self._mean("flat") - self._mean("dark")
            if not (light > 0).mean() > 0.5:
                raise ProjectionError(
                    f"{self.source}: the flats at {self.energy_ev:g} eV are no brighter than the darks; check which "
                    "are which."
                )
            self._light["light"] = light
        return self._light["light"]

    def _mean(self, kind: str) -> Image:
        if kind not in self._light:
            stack, chosen = (
                (self.flats, self.chosen_flats) if kind == "flat" else (self.darks, self.chosen_darks)
            )
            total = np.zeros(self.shape, np.float64)
            for index in chosen:
                total += self._frame(stack, int(index))
            self._light[kind] = (total / chosen.size).astype(np.float32)
        return self._light[kind]

    def _frame(self, stack: FrameStack, index: int) -> Image:
        try:
            return np.asarray(stack[index], dtype=np.float32)
        except READING_ERRORS as error:
            reason = (str(error) or type(error).__name__).splitlines()[0][:120]
            raise ProjectionError(f"{self.source}: frame {index} cannot be read ({reason}).") from error


class RotationSeries:
    """Rotation series at one or more energies; use as a context manager.

    Parameters
    ----------
    energies : sequence of Projections
        One for each energy.
    files : ExitStack
        What is closed at the end.

    Raises
    ------
    ProjectionError
        They do not belong together.
    """

    def __init__(self, energies: list[Projections], files: ExitStack, *, is_partial: bool = False) -> None:
        self._files = files
        self.energies = sorted(energies, key=lambda one: one.energy_ev)
        self._check(is_partial)
        self.angles_deg = np.unique(np.concatenate([one.angles_deg for one in self.energies]))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._files.close()

    @property
    def energies_ev(self) -> Array:
        """Photon energies, rising."""
        return np.array([one.energy_ev for one in self.energies])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of a projection."""
        return self.energies[0].shape

    @property
    def pixel_size_nm(self) -> float | None:
        """Size of a pixel, where a file says it."""
        return next((one.pixel_size_nm for one in self.energies if one.pixel_size_nm is not None), None)

    def __len__(self) -> int:
        return sum(map(len, self.energies))

    def __iter__(self) -> Iterator[Projection]:
        """Yield projection by projection, energy by energy; one frame is in memory at a time."""
        for index, one in enumerate(self.energies):
            places = np.searchsorted(self.angles_deg, one.angles_deg)
            for number, place in enumerate(places):
                angle = float(one.angles_deg[number])
                yield Projection(int(place), index, one.energy_ev, angle, one.depth(number))

    def _check(self, is_partial: bool) -> None:
        first = self.energies[0]
        for before, one in zip(self.energies, self.energies[1:], strict=False):
            if one.shape != first.shape:
                raise ProjectionError(
                    f"{one.source}: projections of {one.shape} pixels where {first.source} has {first.shape}; give "
                    "files of one series."
                )
            if one.energy_ev - before.energy_ev < _SAME_ENERGY_EV:
                raise ProjectionError(
                    f"{one.source} and {before.source} are both of {one.energy_ev:g} eV; leave one out."
                )
        sizes = {one.pixel_size_nm for one in self.energies} - {None}
        if len(sizes) > 1:
            low, high = min(filter(None, sizes)), max(filter(None, sizes))
            if high - low > 0.2 * low:
                raise ProjectionError(
                    f"the files have pixels of {low:g} and {high:g} nm; give files of one series."
                )
        if is_partial:
            return
        for one in self.energies:
            step = float(np.median(np.diff(np.sort(one.angles_deg)))) if len(one) > 1 else 0.0
            span = float(np.ptp(one.angles_deg)) + step
            if span < _LEAST_SPAN_DEG:
                raise ProjectionError(
                    f"{one.source}: {len(one)} angles at {one.energy_ev:g} eV cover {span:.0f} of 180 degrees: half "
                    "a series; copy the file again, or allow it with is_partial."
                )
