"""What is kept of the projections of a rotation series, by what its contract and references allow."""

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edge_fitting import (
    EdgeFittingError,
    InterleavedProjections,
    ProjectionSums,
    ReconstructionSettings,
    ReferenceSeries,
    SumFunctions,
    SumsFit,
    VolumeFit,
    fit_sums,
    reconstruct,
    reconstruct_depth,
    reconstruct_interleaved,
)
from scan_contract import TomographyContract

Image = npt.NDArray[np.float32]
Array = npt.NDArray[np.float64]

# Of the memory that is free: the rest is for the volume, and for others.
_SHARE_OF_MEMORY = 0.6
_LARGEST_BINNING = 8


@dataclass(frozen=True)
class Volume:
    """A reconstruction: fit of the voxels, or their optical depth alone."""

    attenuation: Image
    fit: VolumeFit | None
    centre_px: float
    centre_sigma_px: float
    is_truncated: bool
    n_left_out: int
    n_completed: int


class ProjectionStore(Protocol):
    """Projections of one run."""

    def push(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        """Add one."""

    def retract(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        """Take one out again."""

    def volume(self, settings: ReconstructionSettings, binning: int) -> Volume | None:
        """Reconstruct what there is, with so many pixels put together; None while it is too little."""

    def projected(self) -> tuple[int, SumsFit] | None:
        """Return the place of an angle whose energies are complete so far, and its fit."""

    def per_angle(self) -> tuple[npt.NDArray[np.int64], Array]:
        """Return the projections at each angle, and the sum of their mean optical depth."""


class SummedStore:
    """Sums of projections that share their angles."""

    def __init__(
        self, functions: SumFunctions, angles_deg: tuple[float, ...], shape: tuple[int, int]
    ) -> None:
        self.sums = ProjectionSums(functions, angles_deg, shape)
        self._last = 0

    def push(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        self.sums.push(place, energy_index, energy_ev, depth, weight)
        self._last = place

    def retract(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        self.sums.retract(place, energy_index, energy_ev, depth, weight)

    def merge(self, other: "SummedStore") -> None:
        self.sums.merge(other.sums)

    def volume(self, settings: ReconstructionSettings, binning: int) -> Volume | None:
        sums = self.sums
        even = sums.even() if binning == 1 else _binned(sums, binning).even()
        fit = None if even is None else reconstruct(even, sums.functions, _for_binning(settings, binning))
        if even is None or fit is None:
            return None
        left_out = int((sums.n_frames > 0).sum()) - fit.n_angles
        return _of_fit(fit, left_out)

    def projected(self) -> tuple[int, SumsFit] | None:
        frames = self.sums.n_frames
        most = int(frames.max())
        place = self._last if frames[self._last] == most else int(np.argmax(frames))
        fit = fit_sums(self.sums.sums[place], self.sums.grams[place], most, self.sums.functions)
        return None if fit is None or not np.isfinite(fit.values[0]).any() else (place, fit)

    def per_angle(self) -> tuple[npt.NDArray[np.int64], Array]:
        functions, grams = self.sums.functions, self.sums.grams
        first = functions.to_basis(np.eye(functions.n_basis))[0]
        total = self.sums.sums[:, : functions.n_basis].sum(axis=(2, 3), dtype=np.float64) @ first
        weight = np.array([functions.gram_of_basis(gram)[0, 0] for gram in grams])
        return self.sums.n_frames, np.divide(total, weight, out=np.zeros_like(total), where=weight > 0.0)


class InterleavedStore:
    """Projections whose angles belong to one energy each."""

    def __init__(
        self, functions: SumFunctions, angles_deg: tuple[float, ...], shape: tuple[int, int]
    ) -> None:
        self.projections = InterleavedProjections(functions, angles_deg, shape)
        self.n_frames: npt.NDArray[np.int64] = np.zeros(len(angles_deg), np.int64)

    def push(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        self.projections.push(place, energy_index, energy_ev, depth, weight)
        self.n_frames[place] += 1

    def retract(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        self.projections.retract(place, energy_index, energy_ev, depth, weight)
        self.n_frames[place] -= 1

    def merge(self, other: "InterleavedStore") -> None:
        self.projections.merge(other.projections)
        self.n_frames += other.n_frames

    def volume(self, settings: ReconstructionSettings, binning: int) -> Volume | None:
        if binning != 1:
            return None  # each prefix needs all its energies anew: too much for a look on the way
        fit = reconstruct_interleaved(self.projections, settings)
        return None if fit is None else _of_fit(fit, int((self.n_frames > 0).sum()) - fit.n_angles)

    def projected(self) -> tuple[int, SumsFit] | None:
        return None

    def per_angle(self) -> tuple[npt.NDArray[np.int64], Array]:
        return self.n_frames, self.projections.images.sum(axis=(1, 2), dtype=np.float64)


class DepthStore:
    """Mean optical depth of the projections at each angle, for the morphology."""

    def __init__(self, angles_deg: tuple[float, ...], shape: tuple[int, int]) -> None:
        self._angles_deg = np.asarray(angles_deg, np.float64)
        self._total: Image = np.zeros((len(angles_deg), *shape), np.float32)
        self._weight = np.zeros(len(angles_deg))
        self.n_frames: npt.NDArray[np.int64] = np.zeros(len(angles_deg), np.int64)

    def push(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        self._total[place] += np.float32(weight) * depth
        self._weight[place] += weight
        self.n_frames[place] += 1

    def retract(self, place: int, energy_index: int, energy_ev: float, depth: Image, weight: float) -> None:
        self._total[place] -= np.float32(weight) * depth
        self._weight[place] -= weight
        self.n_frames[place] -= 1

    def merge(self, other: "DepthStore") -> None:
        self._total += other._total
        self._weight += other._weight
        self.n_frames += other.n_frames

    def volume(self, settings: ReconstructionSettings, binning: int) -> Volume | None:
        taken = np.flatnonzero(self.n_frames > 0)
        depth = self._total[taken] / self._weight[taken].astype(np.float32)[:, None, None]
        if binning > 1:
            depth = _bin(depth, binning)
        found = reconstruct_depth(depth, self._angles_deg[taken], _for_binning(settings, binning))
        if found is None:
            return None
        volume, axis, centre_px = found
        left_out = 0 if axis.is_truncated else int((~axis.is_inside).sum())
        return Volume(volume, None, centre_px, axis.sigma_px, axis.is_truncated, left_out, 0)

    def projected(self) -> tuple[int, SumsFit] | None:
        return None

    def per_angle(self) -> tuple[npt.NDArray[np.int64], Array]:
        total = self._total.sum(axis=(1, 2), dtype=np.float64)
        return self.n_frames, np.divide(
            total, self._weight, out=np.zeros_like(total), where=self._weight > 0.0
        )


def make_store(
    scan: TomographyContract, references: ReferenceSeries | None, shape: tuple[int, int]
) -> tuple[SummedStore | InterleavedStore | DepthStore, str | None]:
    """Make what keeps the projections of a run, and say why there will be no state of charge, if so."""
    if references is None:
        why = "there are no references" if len(scan.energies_ev) > 1 else None
        return DepthStore(scan.angles_deg, shape), why
    try:
        weights = np.asarray(scan.exposure_s) * scan.repeats / np.mean(scan.exposure_s)
        functions = SumFunctions(references, scan.energies_ev, weights)
    except EdgeFittingError as error:
        return DepthStore(scan.angles_deg, shape), str(error).rstrip(".")
    if scan.is_interleaved:
        return InterleavedStore(functions, scan.angles_deg, shape), None
    return SummedStore(functions, scan.angles_deg, shape), None


def fitting_binning(
    scan: TomographyContract, references: ReferenceSeries | None, shape: tuple[int, int]
) -> tuple[int, str | None]:
    """Return how many pixels have to be put together for the sums to fit into memory, and what to say of it."""
    n_functions = 1 if references is None or scan.is_interleaved else 14
    needed = len(scan.angles_deg) * n_functions * shape[0] * shape[1] * 4
    free = _free_bytes() * _SHARE_OF_MEMORY
    binning = 1
    while needed / binning**2 > free and binning < _LARGEST_BINNING:
        binning *= 2
    if binning == 1:
        return 1, None
    return binning, (
        f"the sums of {len(scan.angles_deg)} projections of {shape[0]} x {shape[1]} pixels take {needed / 1e9:.1f} GB "
        f"where {free / 1e9:.1f} GB may be used: {binning} x {binning} pixels are put together; for all of them give "
        f"fewer rows ({max(int(shape[0] * free / needed), 1)} fit at a time) or more memory"
    )


def bin_image(image: Image, binning: int) -> Image:
    """Return the means over squares of pixels; what does not fill one is left out."""
    return _bin(image, binning)


def _bin(images: Image, binning: int) -> Image:
    rows, cols = images.shape[-2] // binning, images.shape[-1] // binning
    cut = images[..., : rows * binning, : cols * binning]
    squares = cut.reshape(*images.shape[:-2], rows, binning, cols, binning)
    means: Image = squares.mean(axis=(-3, -1), dtype=np.float32)
    return means


def _binned(sums: ProjectionSums, binning: int) -> ProjectionSums:
    shape = sums.shape[0] // binning, sums.shape[1] // binning
    small = ProjectionSums.__new__(ProjectionSums)
    small.functions, small.angles_deg, small.shape = sums.functions, sums.angles_deg, shape
    small.sums, small.grams, small.n_frames = _bin(sums.sums, binning), sums.grams, sums.n_frames
    return small


def _for_binning(settings: ReconstructionSettings, binning: int) -> ReconstructionSettings:
    if binning == 1 or settings.centre_px is None:
        return settings
    centre = (settings.centre_px + 0.5) / binning - 0.5
    return ReconstructionSettings(settings.filter_name, centre, settings.take_out_runout, settings.clean_up)


def _of_fit(fit: VolumeFit, n_left_out: int) -> Volume:
    return Volume(
        fit.attenuation,
        fit,
        fit.centre_px,
        fit.axis.sigma_px,
        fit.axis.is_truncated,
        n_left_out,
        fit.n_completed,
    )


def _free_bytes() -> float:
    try:
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (ValueError, OSError):  # not every system tells
        return float("inf")
