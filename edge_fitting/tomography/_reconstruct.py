"""A volume of states of charge from the sums of its projections, slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as shift_image

from edge_fitting.base import FitStatus
from edge_fitting.errors import EdgeFittingError

from ._axis import RotationAxis, find_axis
from ._filtered_back_projection import FilteredBackProjection
from ._interleaved import InterleavedProjections
from ._projection_sums import EvenSums
from ._sum_functions import SumFunctions
from ._sums_fit import fit_sums

__all__ = [
    "ReconstructionSettings",
    "VolumeFit",
    "reconstruct",
    "reconstruct_depth",
    "reconstruct_interleaved",
]

Array = NDArray[np.float64]
Image = NDArray[np.float32]
CleanUp = Callable[[Image], Image]

_FEWEST_ANGLES = 3
# Slices that tell where there is material.
_LOOKED_AT = 16
# Of Otsu's threshold between air and material: the rim of a particle fills its voxels in part.
_OF_THRESHOLD = 0.6
_LEAST_SHIFT_PX = 0.05


@dataclass(frozen=True)
class ReconstructionSettings:
    """How volumes are reconstructed.

    Attributes
    ----------
    filter_name : {"hann", "ramp"}
        Window on the ramp filter.
    centre_px : float, optional
        Column of the axis of rotation; by default it is found.
    take_out_runout : bool
        Whether projections are moved back by the run-out of the axis that is found.
    clean_up : callable, optional
        Takes stripes out of a sinogram, (n_angles, cols), and returns it; it is given the sums with each function in
        turn. One that is not linear changes states of charge.
    """

    filter_name: str = "hann"
    centre_px: float | None = None
    take_out_runout: bool = True
    clean_up: CleanUp | None = field(default=None, repr=False)

    @property
    def is_linear(self) -> bool:
        """Whether nothing but linear steps stand between frames and sums in voxels."""
        return self.clean_up is None


@dataclass(frozen=True)
class VolumeFit:
    """What is known of every voxel, arrays of shape (z, y, x).

    Attributes
    ----------
    values : dict of str to ndarray of float32
        ``soc``, ``soc_sigma``, ``edge_energy_ev``, ``edge_energy_sigma_ev``, ``edge_jump``, ``r_factor``, ``noise``,
        NaN where there is none.
    attenuation : ndarray of float32
        Mean optical depth per voxel over the energies.
    status : ndarray of uint8
        `FitStatus`; NO_DATA where there is no material.
    axis : RotationAxis
        The axis of rotation.
    centre_px : float
        The column that was used for it.
    n_angles, n_frames : int
        Angles, and frames at each.
    n_completed : int
        Angles whose energies were not those of the others.
    """

    values: dict[str, Image]
    attenuation: Image
    status: NDArray[np.uint8]
    axis: RotationAxis
    centre_px: float
    n_angles: int
    n_frames: int
    n_completed: int


_NAMES = ("soc", "soc_sigma", "edge_energy_ev", "edge_energy_sigma_ev", "edge_jump", "r_factor", "noise")


def reconstruct(
    even: EvenSums, functions: SumFunctions, settings: ReconstructionSettings | None = None
) -> VolumeFit | None:
    """Reconstruct and fit a volume.

    Memory beside the sums is that of the result and of one slice of all functions.

    Parameters
    ----------
    even : EvenSums
        Sums of the same energies at every angle.
    functions : SumFunctions
        What they were summed with.
    settings : ReconstructionSettings, optional
        How.

    Returns
    -------
    VolumeFit or None
        None while there are too few angles or energies.

    Raises
    ------
    EdgeFittingError
        The axis of rotation is outside of the field.
    """
    if even.angles_deg.size < _FEWEST_ANGLES:
        return None
    mean = _mean_of(even.gram, functions)
    if mean is None:
        return None
    depth = np.tensordot(mean, even.sums, axes=(0, 1))
    placed = _Placed(even.sums, even.angles_deg, depth, settings or ReconstructionSettings())
    return _fit_slices(placed, mean, even.gram, even.n_frames, functions, even.n_completed)


def reconstruct_interleaved(
    projections: InterleavedProjections, settings: ReconstructionSettings | None = None
) -> VolumeFit | None:
    """Reconstruct and fit a volume whose energies have angles of their own.

    Parameters
    ----------
    projections : InterleavedProjections
        The projections.
    settings : ReconstructionSettings, optional
        How.

    Returns
    -------
    VolumeFit or None
        None while there are too few angles or energies.

    Raises
    ------
    EdgeFittingError
        As `reconstruct`.
    """
    gram, n_frames = projections.gram()
    mean = _mean_of(gram, projections.functions) if n_frames else None
    if mean is None:
        return None
    placed = _PlacedInterleaved(projections, settings or ReconstructionSettings())
    return _fit_slices(placed, mean, gram, n_frames, projections.functions, 0)


def _fit_slices(
    placed: _Placed | _PlacedInterleaved,
    mean: Image,
    gram: Array,
    n_frames: int,
    functions: SumFunctions,
    n_completed: int,
) -> VolumeFit | None:
    """Reconstruct and fit slice by slice."""
    rows, cols = placed.shape
    attenuation = np.empty((rows, cols, cols), np.float32)
    values = {name: np.full(attenuation.shape, np.nan, np.float32) for name in _NAMES}
    status = np.full(attenuation.shape, FitStatus.NO_DATA, np.uint8)
    least = _threshold(placed, mean, rows)
    for row in range(rows):
        slices = placed.slice(row)
        attenuation[row] = np.tensordot(mean, slices, axes=1)
        fit = fit_sums(slices, gram, n_frames, functions, attenuation[row] > least)
        if fit is None:
            return None
        for name, found in zip(_NAMES, fit.values, strict=True):
            values[name][row] = found
        status[row] = fit.status
    return VolumeFit(
        values,
        attenuation,
        status,
        placed.axis,
        placed.centre_px,
        placed.n_angles,
        n_frames,
        n_completed,
    )


def reconstruct_depth(
    depth: Image, angles_deg: Array, settings: ReconstructionSettings | None = None
) -> tuple[Image, RotationAxis, float] | None:
    """Reconstruct the optical depth per voxel at one energy: the morphology.

    Parameters
    ----------
    depth : ndarray of float32, shape (n_angles, rows, cols)
        Optical depth of the projections.
    angles_deg : ndarray, shape (n_angles,)
        Their angles.
    settings : ReconstructionSettings, optional
        How.

    Returns
    -------
    tuple or None
        The volume (z, y, x), the axis as it was found, and the column that was used for it; None with too few angles.
    """
    if angles_deg.size < _FEWEST_ANGLES:
        return None
    placed = _Placed(depth[:, None], angles_deg, depth, settings or ReconstructionSettings())
    volume = np.stack([placed.slice(row)[0] for row in range(depth.shape[1])])
    return volume, placed.axis, placed.centre_px


class _Placed:
    """Projections with their axis: those that hold the whole sample, moved back by the run-out."""

    def __init__(
        self, sums: Image, angles_deg: Array, depth: Image, settings: ReconstructionSettings
    ) -> None:
        self.axis = find_axis(depth, angles_deg)
        inside = np.ones(angles_deg.size, np.bool_) if self.axis.is_truncated else self.axis.is_inside
        self.sums = sums if inside.all() else sums[inside]
        if settings.take_out_runout and not self.axis.is_truncated:
            self._move_back(self.axis.shift_px[inside], self.sums is sums)
        self.centre_px = self.axis.centre_px if settings.centre_px is None else settings.centre_px
        self._clean_up = settings.clean_up
        self.n_angles, self.shape = int(self.sums.shape[0]), sums.shape[2:]
        self._projector = FilteredBackProjection(
            angles_deg[inside], sums.shape[-1], self.centre_px, filter_name=settings.filter_name
        )

    def _move_back(self, shift_px: Array, is_shared: bool) -> None:
        if not np.abs(shift_px).max() > _LEAST_SHIFT_PX:
            return
        if is_shared:
            self.sums = self.sums.copy()
        for images, (down, right) in zip(self.sums, shift_px, strict=True):
            for image in images:
                shift_image(image.copy(), (-down, -right), output=image, order=3, mode="nearest")

    def slice(self, row: int, functions: Image | None = None) -> Image:
        """Return one slice of all functions, (n_functions, cols, cols), or of one combination of them."""
        sinogram = np.ascontiguousarray(self.sums[:, :, row])
        if functions is not None:
            sinogram = np.tensordot(sinogram, functions, axes=(1, 0))[:, None]
        if self._clean_up is not None:
            for k in range(sinogram.shape[1]):
                sinogram[:, k] = self._clean_up(sinogram[:, k])
        return self._projector.slice(sinogram)


class _PlacedInterleaved:
    """Interleaved projections with their axis."""

    def __init__(self, projections: InterleavedProjections, settings: ReconstructionSettings) -> None:
        groups = projections.groups()
        places = np.sort(np.concatenate(list(groups.values())))
        self.axis = find_axis(projections.alike()[places], projections.angles_deg[places])
        self.centre_px = self.axis.centre_px if settings.centre_px is None else settings.centre_px
        self.n_angles, self.shape = int(places.size), projections.shape
        self._images = projections.images
        self._projections = projections
        self._projectors = {
            index: FilteredBackProjection(
                projections.angles_deg[own],
                projections.shape[1],
                self.centre_px,
                filter_name=settings.filter_name,
            )
            for index, own in groups.items()
        }
        if settings.take_out_runout and np.abs(self.axis.shift_px).max() > _LEAST_SHIFT_PX:
            self._images = self._images.copy()
            for place, (down, right) in zip(places, self.axis.shift_px, strict=True):
                self._images[place] = shift_image(
                    self._images[place], (-down, -right), order=3, mode="nearest"
                )

    def slice(self, row: int, functions: Image | None = None) -> Image:
        """Return one slice of all functions, or of one combination of them."""
        sums = self._projections.slice(row, self._projectors, self._images)
        return sums if functions is None else np.tensordot(functions, sums, axes=1)[None]


def _mean_of(gram: Array, functions: SumFunctions) -> NDArray[np.float32] | None:
    """Return what gives the mean optical depth from sums: the first function of the basis is one everywhere."""
    weights = functions.gram_of_basis(gram)[0, 0]
    if not weights > 0.0:
        return None
    mean = np.zeros(functions.size)
    mean[: functions.n_basis] = functions.to_basis(np.eye(functions.n_basis))[0] / weights
    return mean.astype(np.float32)


def _threshold(placed: _Placed | _PlacedInterleaved, mean: NDArray[np.float32], rows: int) -> float:
    """Return the mean optical depth per voxel above which there is material."""
    from skimage.filters import threshold_otsu  # takes long to import, and live maps do without

    looked = [
        placed.slice(row, mean)[0] for row in np.linspace(0, rows - 1, min(rows, _LOOKED_AT)).astype(int)
    ]
    seen = np.stack(looked)
    if not np.ptp(seen) > 0.0:
        raise EdgeFittingError(
            "the projections show nothing: their mean optical depth is the same everywhere"
        )
    return _OF_THRESHOLD * float(threshold_otsu(seen))
