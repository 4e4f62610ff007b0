"""Particles in a volume whose labels, cracks and state of charge are known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_FINER = 2


@dataclass(frozen=True)
class PhantomCrack:
    """A flat crack that runs in from the surface, or through.

    Attributes
    ----------
    thickness : float
        In voxels.
    normal : tuple of float
        Direction across it.
    offset : float
        Distance of its middle plane from the centre of the particle, in voxels.
    reach : float
        Part of the particle's diameter that it runs through, along a direction within it.
    """

    thickness: float
    normal: tuple[float, float, float] = (0.0, 0.0, 1.0)
    offset: float = 0.0
    reach: float = 1.0


@dataclass(frozen=True)
class PhantomBall:
    """A ball: its centre and radius in voxels, and its cracks."""

    centre: tuple[float, float, float]
    radius: float
    cracks: tuple[PhantomCrack, ...] = ()


@dataclass(frozen=True, eq=False)
class VolumePhantom:
    """A volume and the truth about it.

    Attributes
    ----------
    density : ndarray of float32, (planes, rows, columns)
        Blurred and with noise; 0 is void and 1 material.
    soc, soc_sigma : ndarray of float32
        With noise; NaN where there is no material.
    labels : ndarray of int32
        Ball of each voxel, cracks included.
    cracks : ndarray of float32
        Share of each voxel that is crack.
    crack_share : ndarray of float64
        Of each ball.
    """

    density: npt.NDArray[np.float32]
    soc: npt.NDArray[np.float32]
    soc_sigma: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int32]
    cracks: npt.NDArray[np.float32]
    crack_share: npt.NDArray[np.float64]

    @classmethod
    def of(
        cls,
        shape: tuple[int, int, int],
        balls: Sequence[PhantomBall],
        *,
        blur: float = 0.9,
        noise: float = 0.05,
        soc_noise: float = 0.05,
        core: float = 0.4,
        shell: float = 0.6,
        shell_depth: float = 4.0,
        at_cracks: float = 0.0,
        noise_width: float = 0.0,
        seed: int = 0,
    ) -> "VolumePhantom":
        """Draw balls.

        Parameters
        ----------
        shape : tuple of int
            Of the volume.
        balls : sequence of PhantomBall
            In order; where two overlap the first one has the voxel.
        blur : float
            Standard deviation of the resolution, in voxels.
        noise, soc_noise : float
            Of a voxel.
        core, shell, shell_depth : float
            State of charge of the inside and near the surface, and how deep the shell is.
        at_cracks : float
            What is added within two voxels of a crack.
        noise_width : float
            Width over which the noise of the state of charge is alike.
        seed : int
            Of the noise.
        """
        from scipy import ndimage

        random = np.random.default_rng(seed)
        fine = tuple(_FINER * size for size in shape)
        grid = [(np.arange(size) + 0.5) / _FINER - 0.5 for size in fine]
        place = np.meshgrid(*grid, indexing="ij", sparse=True)
        owner, crack = np.zeros(fine, np.int32), np.zeros(fine, bool)
        depth = np.zeros(fine, np.float32)
        for number, ball in enumerate(balls, start=1):
            away = [axis - middle for axis, middle in zip(place, ball.centre, strict=True)]
            radius = np.sqrt(sum(axis**2 for axis in away))
            own = (radius <= ball.radius) & (owner == 0)
            owner[own] = number
            depth[own] = (ball.radius - radius)[own]
            for one in ball.cracks:
                crack |= own & _within(away, one, ball.radius)
        solid = (owner > 0) & ~crack
        soc = np.where(depth < shell_depth, shell, core)
        if at_cracks and crack.any():
            soc = soc + at_cracks * (ndimage.distance_transform_edt(~crack) <= 2.0 * _FINER)
        density = ndimage.gaussian_filter(_binned(solid), blur)
        amount = np.maximum(_binned(solid), 1e-6)
        inside = _binned(solid) >= 0.5
        scatter = random.standard_normal(shape)
        if noise_width:
            scatter = ndimage.gaussian_filter(scatter, noise_width)
            scatter /= scatter.std()
        values = _binned(np.where(solid, soc, 0.0)) / amount + soc_noise * scatter
        labels = owner[(slice(_FINER // 2, None, _FINER),) * 3]
        counts, n = (np.bincount(owner[use], minlength=len(balls) + 1)[1:] for use in (crack, owner > 0))
        return cls(
            (density + noise * random.standard_normal(shape)).astype(np.float32),
            np.where(inside, values, np.nan).astype(np.float32),
            np.where(inside, soc_noise, np.nan).astype(np.float32),
            labels,
            _binned(crack),
            counts / n,
        )


def _within(away: list[npt.NDArray[np.float64]], crack: PhantomCrack, radius: float) -> npt.NDArray[np.bool_]:
    normal = np.asarray(crack.normal) / np.linalg.norm(crack.normal)
    across = sum(axis * part for axis, part in zip(away, normal, strict=True)) - crack.offset
    # Any direction within the plane: it runs in from the far side.
    along = np.cross(normal, (1.0, 0.0, 0.0) if abs(normal[0]) < 0.9 else (0.0, 1.0, 0.0))
    along /= np.linalg.norm(along)
    inward = sum(axis * part for axis, part in zip(away, along, strict=True))
    return np.asarray(
        (np.abs(across) <= crack.thickness / 2) & (inward >= radius - 2.0 * crack.reach * radius)
    )


def _binned(values: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    shape = [n for size in values.shape for n in (size // _FINER, _FINER)]
    return np.asarray(values.reshape(shape).mean(axis=(1, 3, 5)), dtype=np.float32)
