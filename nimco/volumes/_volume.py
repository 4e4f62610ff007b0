"""A reconstructed volume: its arrays, and the size of its voxels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from nimco.errors import VolumeError

ARRAYS = ("density", "soc", "soc_sigma", "mask", "particles", "cracks")
"""Arrays that a volume may hold."""

NM = {
    "m": 1e9, "mm": 1e6, "um": 1e3, "µm": 1e3, "μm": 1e3, "micron": 1e3, "microns": 1e3, "nm": 1.0, "a": 0.1,
    "angstrom": 0.1, "å": 0.1, "cm": 1e7, "meter": 1e9, "metre": 1e9, "millimeter": 1e6, "millimetre": 1e6,
    "micrometer": 1e3, "micrometre": 1e3, "nanometer": 1.0, "nanometre": 1.0,
}  # fmt: skip
"""Nanometres a unit of length, by what files call it in lower case."""

_NM_LIMITS = (0.1, 1e6)
_NOT_CUBIC = 1e-3


@dataclass(frozen=True, eq=False)
class Volume:
    """A volume, (planes, rows, columns).

    Attributes
    ----------
    density : ndarray
        Density, absorption or edge jump.
    voxel_size_nm : float
        Edge of a voxel, which is a cube.
    soc, soc_sigma : ndarray, optional
        State of charge and its standard deviation.
    mask : ndarray of bool, optional
        Where the volume can be used.
    particles, cracks : ndarray, optional
        Particle of each voxel, and its crack: 1 wide, 2 fine.
    source : str
        Where it is from.

    Raises
    ------
    VolumeError
        The arrays do not fit together, or the voxel size is none.
    """

    density: npt.NDArray[Any]
    voxel_size_nm: float
    soc: npt.NDArray[Any] | None = None
    soc_sigma: npt.NDArray[Any] | None = None
    mask: npt.NDArray[Any] | None = None
    particles: npt.NDArray[Any] | None = None
    cracks: npt.NDArray[Any] | None = None
    source: str = ""

    def __post_init__(self) -> None:
        where = self.source or "the volume"
        if self.density.ndim != 3:
            raise VolumeError(
                f"{where}: the density has shape {self.density.shape} where (planes, rows, columns) are needed."
            )
        for name, array in self.arrays():
            if array.shape != self.density.shape:
                raise VolumeError(
                    f"{where}: {name} has shape {array.shape} but the density has {self.density.shape}; give volumes "
                    "on one grid."
                )
        if self.soc_sigma is not None and self.soc is None:
            raise VolumeError(f"{where}: there is a sigma of the state of charge but no state of charge.")
        check_voxel_size(self.voxel_size_nm, where)

    def arrays(self) -> Iterator[tuple[str, npt.NDArray[Any]]]:
        """Yield name and values of the arrays there are."""
        for name in ARRAYS:
            array = getattr(self, name)
            if array is not None:
                yield name, array


def check_voxel_size(voxel_size_nm: float, where: str) -> float:
    """Return the size of a voxel.

    Raises
    ------
    VolumeError
        It is no length that a voxel can have.
    """
    if not _NM_LIMITS[0] <= voxel_size_nm <= _NM_LIMITS[1]:
        raise VolumeError(
            f"{where}: a voxel of {voxel_size_nm:g} nm is none; voxels are {_NM_LIMITS[0]:g} nm to "
            f"{_NM_LIMITS[1] / 1e6:g} mm: check the unit."
        )
    return float(voxel_size_nm)


def size_in_nm(sizes: npt.ArrayLike, unit: object, where: str) -> float:
    """Return the size of a voxel from what a file says of it.

    Parameters
    ----------
    sizes : array_like
        One length, or one along each direction.
    unit : object
        Their unit, as the file says it.
    where : str
        The file, for messages.

    Raises
    ------
    VolumeError
        There is no unit of length, or the voxels are no cubes.
    """
    if isinstance(unit, bytes):
        unit = unit.decode("utf-8", "replace")
    factor = NM.get(str(unit).strip().lower()) if unit is not None else None
    if factor is None:
        said = f"in {str(unit)[:20]!r}, which is no unit of length" if unit else "without a unit"
        raise VolumeError(f"{where}: the voxel size is given {said}; say it with --voxel-size-nm.")
    values = np.asarray(sizes, dtype=np.float64).ravel()
    if not values.size or not np.isfinite(values).all() or not (values > 0).all():
        raise VolumeError(f"{where}: the voxel size is no positive number; say it with --voxel-size-nm.")
    if np.ptp(values) > _NOT_CUBIC * values.mean():
        shown = " x ".join(f"{value:g}" for value in values)
        raise VolumeError(
            f"{where}: voxels of {shown} {unit} are no cubes; resample the volume to cubes first."
        )
    return check_voxel_size(factor * float(values.mean()), where)


def no_voxel_size(where: str) -> VolumeError:
    """Return what is raised where a file says no voxel size and none is given."""
    return VolumeError(f"{where} does not say the size of its voxels; give it with --voxel-size-nm.")
