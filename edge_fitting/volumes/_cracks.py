"""Cracks and pores inside of particles of a volume: wide ones, and fine ones that the resolution blurs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError
from edge_fitting.maps import median_and_spread

from ._arrays import Array, Labels, Mask, Volume, around, depth_inside, grown
from ._segment import VolumeSegmentation
from ._valleys import valley_depth

# In standard deviations of what whole material shows: what a fine crack has to exceed, and how far it goes then.
_CORE_SIGMA, _REACH_SIGMA = 6.0, 3.5
# How far limits are moved for the uncertainty: the threshold in parts of the contrast, those of fine cracks as factors.
_THRESHOLD_SHIFT = 0.1
_LIMIT_FACTOR = 1.25
# The surface is steep: what looks like a valley there is none. Material that a crack blurs is within this of it.
_RIM_PX = 2.0
_BLUR_PX = 2.0
_REACHES = (_BLUR_PX, _BLUR_PX + 0.7, _BLUR_PX - 0.7)
_FEWEST = 50
# How wide a sheet that the resolution blurs is marked.
_FINE_MARKED_PX = 3.6


class CrackKind(IntEnum):
    """What a voxel of a particle is."""

    NONE = 0
    WIDE = 1  # below the threshold
    FINE = 2  # above it, in a valley


@dataclass(frozen=True, slots=True, eq=False)
class VolumeCracks:
    """Cracks and pores of the particles of a volume; columns have one row a particle.

    Parameters
    ----------
    kind : ndarray of uint8, shape (planes, rows, columns)
        A `CrackKind` of each voxel.
    label, n_voxels : ndarray of int
        Particle, and its voxels with cracks and pores.
    wide_share, fine_share, crack_share : ndarray
        Void over the volume of the particle, by the density that lacks within the blur of cracks (at the surface by
        the threshold): in wide cracks and pores; in fine cracks, in the part that is searched for them (away from the
        surface and from wide cracks); and both.
    wide_share_sigma, fine_share_sigma, crack_share_sigma : ndarray
        Half of how far the shares move when thresholds move (by 0.1 of the difference between solid and void; the
        limits of fine cracks by a factor of 1.25 and the reach of the blur by 0.7 voxels); with it one voxel at the
        mouths of open cracks, where the outer surface is guessed, and half of what the part that is not searched for
        fine cracks is taken to have.
    wide_thickness, fine_thickness : ndarray
        Mean thickness of the cracks in the unit of the voxel size; of fine ones by the density that they lack, about.
        NaN for none.
    """

    kind: NDArray[np.uint8]
    label: NDArray[np.int64]
    n_voxels: NDArray[np.int64]
    wide_share: Array
    wide_share_sigma: Array
    fine_share: Array
    fine_share_sigma: Array
    crack_share: Array
    crack_share_sigma: Array
    wide_thickness: Array
    fine_thickness: Array


def segment_volume_cracks(
    particles: VolumeSegmentation, *, least_loss: float = 0.06, min_voxels: int = 12
) -> VolumeCracks:
    """Find cracks and pores of particles.

    Wide ones are below the threshold. Fine ones, which are narrower than the resolution and stay above it, are valleys
    of the density (largest eigenvalue of the Hessian at three widths), where what is beyond a strict limit counts with
    what hangs on it beyond a lenient one (hysteresis); the limits follow from the scatter of the particle itself.

    Parameters
    ----------
    particles : VolumeSegmentation
        From :func:`split_volume`.
    least_loss : float
        Least depth of the valley of a fine crack, after smoothing by the width that answers most, over the density of
        whole material: unevenness of whole material stays below.
    min_voxels : int
        Smaller ones are dropped.

    Returns
    -------
    VolumeCracks

    Raises
    ------
    EdgeFittingError
        The limits make no sense.
    """
    if not 0 < least_loss < 1 or min_voxels < 1:
        raise EdgeFittingError("least_loss must be between 0 and 1, and min_voxels 1 or more.")
    kind = np.zeros(particles.labels.shape, np.uint8)
    rows, names = [], []
    margin = int(3 * _BLUR_PX) + 2
    for label, box in particles.boxes():
        wide_box = around(box, margin, kind.shape)
        inside = particles.labels[wide_box] == label
        others = (particles.labels[wide_box] != label) & particles.solid[wide_box]
        one = _OneParticle(particles, particles.density[wide_box], inside, others, min_voxels)
        found, shares = one.cracks(least_loss)
        kind[wide_box][inside] = found[inside]
        rows.append((np.count_nonzero(inside), *shares))
        names.append(label)
    table = np.array(rows, dtype=np.float64).reshape(-1, 7).T
    n_voxels, wide, wide_sigma, fine, fine_sigma, wide_px, fine_px = table
    return VolumeCracks(
        kind,
        np.array(names, np.int64),
        n_voxels.astype(np.int64),
        wide,
        wide_sigma,
        fine,
        fine_sigma,
        wide + fine,
        np.hypot(wide_sigma, fine_sigma),
        wide_px * particles.voxel_size,
        fine_px * particles.voxel_size,
    )


class _OneParticle:
    def __init__(
        self, particles: VolumeSegmentation, density: Volume, inside: Mask, others: Mask, min_voxels: int
    ) -> None:
        levels = particles.levels
        self._inside, self._min_voxels = inside, min_voxels
        self._known = inside & np.isfinite(density)
        self._density = np.where(self._known, density, np.float32(levels.void))
        self._threshold = levels.threshold
        self._shift = _THRESHOLD_SHIFT * levels.contrast
        self._depth = depth_inside(inside)
        self._void = levels.void
        # Beside another particle is no steep surface, but the neck may look like a valley.
        self._core = self._known & (self._depth > _RIM_PX) & ~grown(others, _RIM_PX)
        whole = self._core & (self._density > levels.threshold)
        self._solid = float(np.median(self._density[whole])) if whole.any() else levels.solid

    def cracks(self, least_loss: float) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
        """Return what each voxel is, shares of wide and fine with their uncertainties, and thicknesses in voxels."""
        wide = self._wide(self._threshold, None)
        zone = grown(wide, _BLUR_PX)
        n = max(int(np.count_nonzero(self._known)), 1)
        shares = [
            int(np.count_nonzero(wide if not shift else self._wide(self._threshold + shift, zone))) / n
            for shift in (0.0, -self._shift, self._shift)
        ]
        mouth = int(np.count_nonzero(wide & (self._depth < 1.0))) / n
        fines = self._fine(zone, least_loss)
        searched = max(int(np.count_nonzero(self._core & ~zone)), 1)
        unsearched = 1.0 - min(searched / n, 1.0)
        # Of cracks as narrow as the resolution not all is below the threshold: inside, the density that lacks counts.
        outer = int(np.count_nonzero(wide & ~self._core))
        voids = [(self._lacking(wide & self._core, self._core, reach) + outer) / n for reach in _REACHES]
        elsewhere = self._core & ~zone
        lacks = [
            self._lacking(fine, elsewhere, reach) / searched
            for fine, reach in zip(fines, _REACHES, strict=True)
        ]
        kind = np.where(wide, np.uint8(CrackKind.WIDE), np.uint8(0))
        kind[fines[0] & ~wide] = CrackKind.FINE
        wide_sigma = np.linalg.norm([0.5 * float(np.ptp(shares)), mouth, 0.5 * float(np.ptp(voids))])
        fine_sigma = 0.5 * np.hypot(float(np.ptp(lacks)), unsearched * lacks[0])
        n_wide, n_fine = (int(np.count_nonzero(kind == one)) for one in (CrackKind.WIDE, CrackKind.FINE))
        thick = _thickness(wide, self._inside) * voids[0] * n / n_wide if n_wide else float("nan")
        thin = _FINE_MARKED_PX * lacks[0] * searched / n_fine if n_fine else float("nan")
        return kind, (voids[0], float(wide_sigma), lacks[0], float(fine_sigma), thick, thin)

    def _wide(self, threshold: float, zone: Mask | None) -> Mask:
        void = self._known & (self._density <= threshold)
        # With the threshold the outer surface moves as well: only what lies at cracks counts.
        return self._deep(void) if zone is None else void & zone

    def _deep(self, void: Mask) -> Mask:
        """Leave out what is small, pits of the surface, and grooves where particles touch."""
        return _kept(void, void & self._core, self._min_voxels)

    def _fine(self, zone: Mask, least_loss: float) -> tuple[Mask, Mask, Mask]:
        """Return fine cracks, and those of moved limits."""
        use = self._core & ~zone
        scale = self._solid - self._void
        if np.count_nonzero(use) < _FEWEST or scale <= 0:
            nothing = np.zeros(use.shape, dtype=bool)
            return nothing, nothing, nothing
        left = np.where(use, (self._density - self._void) / scale, 1.0).astype(np.float32)
        answer = valley_depth(left)
        offset, spread = median_and_spread(answer[use].astype(np.float64))
        first, second, third = (
            self._beyond(answer, use, offset, spread, least_loss, factor)
            for factor in (1.0, 1.0 / _LIMIT_FACTOR, _LIMIT_FACTOR)
        )
        return first, second, third

    def _beyond(
        self, answer: Volume, use: Mask, offset: float, spread: float, least: float, factor: float
    ) -> Mask:
        low = max(offset + _REACH_SIGMA * spread, 0.5 * least) * factor
        high = max(offset + _CORE_SIGMA * spread, least) * factor
        return _kept(use & (answer > low), use & (answer > high), self._min_voxels)

    def _lacking(self, cracks: Mask, where: Mask, reach: float) -> float:
        """Voxels of void that cracks amount to, by the density that lacks within their blur."""
        if not cracks.any():
            return 0.0
        use = grown(cracks, reach) & where
        lack = (self._solid - self._density[use]) / (self._solid - self._void)
        return float(max(np.sum(lack, dtype=np.float64), 0.0))


def _thickness(void: Mask, inside: Mask) -> float:
    """Mean thickness of sheets: a quarter of it is the mean distance to their faces."""
    from scipy import ndimage

    if not void.any():
        return float("nan")
    # The mouth of a crack is no face of it.
    free = np.pad(void | ~inside, 1, mode="edge")
    away = ndimage.distance_transform_edt(free)[1:-1, 1:-1, 1:-1][void]
    return 4.0 * float(np.mean(away - 0.5))


def _kept(found: Mask, cores: Mask, min_voxels: int) -> Mask:
    """Return the parts of a mask that are large enough and hold a core."""
    from scipy import ndimage

    parts: Labels
    parts, n_parts = ndimage.label(found, np.ones((3, 3, 3)))
    keep = np.zeros(n_parts + 1, dtype=bool)
    keep[parts[cores]] = True
    keep &= np.bincount(parts.ravel(), minlength=n_parts + 1) >= min_voxels
    keep[0] = False
    return np.asarray(keep[parts])
