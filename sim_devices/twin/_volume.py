"""A sample with three dimensions, its truth, and its projections at any angle."""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from ._absorption import NMC622, SOC_NODES, OxideAbsorption, PureAbsorption
from ._sample import SampleMaps
from ._volume_kernels import footprint_table, lay_voxels
from ._volume_settings import VolumeSettings

__all__ = ["ProjectedVolume", "SampleVolume", "VolumeTruth"]

_OTHER_PHASE = "MnO2"
# Between these states of charge the absorption of a voxel is interpolated: it is a sum of few component spectra.
_NODE_STEP = 8
_KEPT_BYTES = 2**29
_KEPT_ENERGIES = 1000
_LEAST_DENSITY = 1e-3
_PLACES_TRIED = 400
_CRACK_REACH = 2.0  # voxels over which the state of charge beside a crack falls off

Volume = NDArray[np.float32]


@dataclass(frozen=True)
class VolumeTruth:
    """What a perfect reconstruction and fit of one edge would find.

    Attributes
    ----------
    soc : ndarray float32 (z, y, x)
        State of charge; NaN where there is no oxide.
    edge_jump : ndarray float32 (z, y, x)
        Edge jump in optical depth per voxel.
    density : ndarray float32 (z, y, x)
        Share of the voxel that is oxide of NMC622.
    other : ndarray float32 (z, y, x)
        Share of the voxel that is the other phase.
    particle : ndarray int32 (z, y, x)
        Number of the particle, 0 for none; those of the other phase come last.
    crack : ndarray uint8 (z, y, x)
        1 in a wide crack, 2 in a fine one, 0 elsewhere.
    voxel_size_nm : float
        Edge of a voxel.
    """

    soc: Volume
    edge_jump: Volume
    density: Volume
    other: Volume
    particle: NDArray[np.int32]
    crack: NDArray[np.uint8]
    voxel_size_nm: float


@dataclass(frozen=True)
class ProjectedVolume(SampleMaps):
    """Maps of a volume as the beam passes it at one angle.

    Attributes
    ----------
    components : ndarray float32 (components, rows, cols)
        Thickness in um of the oxide at each node of the state of charge, and of the other phase.
    absorption : callable
        Gives the absorption per um of each component, shape (components,), at an energy in eV.
    """

    components: Volume
    absorption: Callable[[float], NDArray[np.float32]]


class SampleVolume:
    """Particles in a cylinder about the axis of rotation.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the camera; the volume has as many rows, and columns squared.
    margin : int
        By how much projections reach beyond the frame on all sides.
    pixel_size_nm : float
        Edge of a voxel.
    settings : VolumeSettings
        What the sample is like.
    resolution : float
        Relative resolution of the monochromator.
    seed : int
        Places, states and cracks follow from it.

    Attributes
    ----------
    density, other, soc : ndarray float32 (rows, cols, cols)
        Share of oxide and of the other phase in each voxel, and the state of charge of the oxide.
    particle, crack : ndarray (rows, cols, cols)
        As in `VolumeTruth`.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        margin: int,
        pixel_size_nm: float,
        settings: VolumeSettings,
        resolution: float,
        seed: int,
    ) -> None:
        self.settings = settings
        self._shape = shape
        self._margin = margin
        self._voxel_um = pixel_size_nm * 1e-3
        self._absorber = OxideAbsorption(resolution)
        self._other = PureAbsorption(_OTHER_PHASE, resolution)
        rows, cols = shape
        size = (rows, cols, cols)
        self.density, self.other, self.soc = (np.zeros(size, np.float32) for _ in range(3))
        self.particle, self.crack = np.zeros(size, np.int32), np.zeros(size, np.uint8)
        self._fill(np.random.default_rng([seed, 11]))
        self._voxels = self._listed()
        self._projections: OrderedDict[float, ProjectedVolume] = OrderedDict()
        self._absorptions: dict[float, NDArray[np.float32]] = {}

    def truth(self, edge: str) -> VolumeTruth:
        """Return the truth of one of the edges Ni_K, Mn_K, Co_K."""
        per_um = float(np.dot(self._absorber.jump_per_um(edge), NMC622))
        return VolumeTruth(
            soc=np.where(self.density > _LEAST_DENSITY, self.soc, np.float32(np.nan)),
            edge_jump=(self.density * np.float32(per_um * self._voxel_um)),
            density=self.density,
            other=self.other,
            particle=self.particle,
            crack=self.crack,
            voxel_size_nm=self._voxel_um * 1e3,
        )

    def runout_px(self, angle_deg: float) -> tuple[float, float]:
        """Return by how much the axis is displaced along rows and columns at an angle."""
        turn = math.radians(angle_deg)
        amplitude = self.settings.runout_px
        return 0.5 * amplitude * math.cos(3.0 * turn), amplitude * math.sin(2.0 * turn)

    def projected(self, angle_deg: float) -> ProjectedVolume:
        """Return what the beam passes through at an angle; made once for each."""
        if angle_deg in self._projections:
            self._projections.move_to_end(angle_deg)
            return self._projections[angle_deg]
        made = self._project(angle_deg)
        self._projections[angle_deg] = made
        while len(self._projections) * made.components.nbytes > _KEPT_BYTES and len(self._projections) > 1:
            self._projections.popitem(last=False)
        return made

    def _absorption(self, energy_ev: float) -> NDArray[np.float32]:
        """Return the absorption per um of each component; kept for the energies of a scan, which come back."""
        if energy_ev not in self._absorptions:
            oxide = np.asarray(NMC622, np.float32) @ self._absorber.table(energy_ev)[:, ::_NODE_STEP]
            mu = np.append(oxide, self._other.table(energy_ev)[0, 0]).astype(np.float32)
            self._absorptions[energy_ev] = mu
            while len(self._absorptions) > _KEPT_ENERGIES:
                del self._absorptions[next(iter(self._absorptions))]
        return self._absorptions[energy_ev]

    def _project(self, angle_deg: float) -> ProjectedVolume:
        rows, cols = self._shape
        m = self._margin
        nodes = SOC_NODES[::_NODE_STEP]
        seen = np.zeros((nodes.size + 1, rows, cols + 2 * m), np.float32)
        turn = math.radians(angle_deg)
        middle = 0.5 * (cols - 1) + m + self.settings.axis_offset_px
        table = footprint_table(angle_deg)
        starts, place, values = self._voxels
        lay_voxels(starts, place, values, (math.cos(turn), math.sin(turn)), table, middle, seen)
        components = np.zeros((nodes.size + 1, rows + 2 * m, cols + 2 * m), np.float32)
        components[:, m : m + rows] = seen * np.float32(self._voxel_um)
        thickness = components[:-1].sum(axis=0)
        charge = np.tensordot(nodes.astype(np.float32), components[:-1], axes=1)
        return ProjectedVolume(
            absorber=self._absorber,
            areal=np.asarray(NMC622, np.float32)[:, None, None] * thickness,
            soc=np.divide(charge, thickness, out=np.zeros_like(charge), where=thickness > 0),
            soc_variance=np.zeros_like(charge),
            particle=np.zeros(charge.shape, np.int32),
            crack=np.zeros_like(charge),
            film_depth=0.0,
            components=components,
            absorption=self._absorption,
        )

    def _listed(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Return the voxels that hold something, as the kernel takes them."""
        z, y, x = np.nonzero((self.density > _LEAST_DENSITY) | (self.other > _LEAST_DENSITY))
        starts = np.searchsorted(z, np.arange(self._shape[0] + 1)).astype(np.int64)
        middle = 0.5 * (self._shape[1] - 1)
        n_cells = (SOC_NODES.size - 1) // _NODE_STEP
        at = np.clip(self.soc[z, y, x], 0.0, 1.0) * n_cells
        node = np.minimum(at.astype(np.int64), n_cells - 1)
        density = self.density[z, y, x]
        part = density * (at - node)
        values = np.stack([node, density - part, part, self.other[z, y, x]], axis=1)
        place = np.stack([y - middle, x - middle], axis=1)
        return starts, place.astype(np.float32), np.ascontiguousarray(values, np.float32)

    def _fill(self, rng: np.random.Generator) -> None:
        settings = self.settings
        grains = gaussian_filter(rng.standard_normal(self.density.shape).astype(np.float32), 2.5, mode="wrap")
        grains *= np.float32(settings.grain_spread / max(float(grains.std()), 1e-9))
        placed: list[tuple[float, float, float, float]] = []
        for number in range(settings.n_particles + settings.n_other):
            ball = self._place(placed, rng)
            if ball is None:
                continue
            placed.append(ball)
            self._add(ball, len(placed), number >= settings.n_particles, grains, rng)

    def _place(
        self, placed: list[tuple[float, float, float, float]], rng: np.random.Generator
    ) -> tuple[float, float, float, float] | None:
        """Return centre and radius of a particle that touches no other by more than a little; None without room."""
        rows, cols = self._shape
        reach = self.settings.fill * 0.5 * cols
        for tried in range(_PLACES_TRIED):
            largest = self.settings.radius[1] * (1.0 - 0.5 * tried / _PLACES_TRIED)
            radius = cols * rng.uniform(min(self.settings.radius[0], largest), largest)
            radius = min(radius, 0.45 * rows, 0.95 * reach)
            z = rng.uniform(radius, max(rows - 1 - radius, radius + 1e-6))
            distance, turn = (reach - radius) * math.sqrt(rng.random()), rng.uniform(0.0, 2.0 * math.pi)
            y, x = (0.5 * (cols - 1) + distance * part for part in (math.sin(turn), math.cos(turn)))
            if all(math.dist((z, y, x), other[:3]) > 0.97 * (radius + other[3]) for other in placed):
                return z, y, x, radius
        return None

    def _add(
        self,
        ball: tuple[float, float, float, float],
        number: int,
        is_other: bool,
        grains: Volume,
        rng: np.random.Generator,
    ) -> None:
        *centre, radius = ball
        window = tuple(
            slice(max(int(c - radius - 2), 0), min(int(c + radius + 3), size))
            for c, size in zip(centre, self.density.shape, strict=True)
        )
        away = np.stack(
            np.meshgrid(
                *(np.arange(s.start, s.stop) - c for s, c in zip(window, centre, strict=True)), indexing="ij"
            )
        ).astype(np.float32)
        distance = np.sqrt((away**2).sum(axis=0))
        share = np.clip(0.5 + radius - distance, 0.0, 1.0)
        settings = self.settings
        if is_other:
            self.other[window] = np.maximum(self.other[window], share)
            self.particle[window][share > 0.5] = number
            return
        own = settings.mean_soc + settings.particle_spread * rng.standard_normal()
        inward = np.clip(distance / radius, 0.0, 1.0)
        soc = own + settings.shell_excess * (inward**3 - 0.5) + grains[window]
        solid = np.ones_like(share)
        crack = np.zeros(share.shape, np.uint8)
        for kind, mean, width in (
            (2, settings.fine_cracks, settings.fine_voxels),
            (1, settings.wide_cracks, settings.wide_voxels),
        ):
            for _ in range(rng.poisson(mean)):
                aside = _crack_distance(away, radius, rng)
                gap = np.clip(0.5 * (width + 1.0) - aside, 0.0, min(width, 1.0))
                solid = np.minimum(solid, 1.0 - gap)
                crack[(gap >= 0.5 * min(width, 1.0)) & (share > 0.5)] = kind
                soc = soc + settings.crack_excess * np.exp(-0.5 * (aside / _CRACK_REACH) ** 2)
        density = settings.density * share * solid
        is_mine = density > self.density[window]
        self.density[window][is_mine] = density[is_mine]
        self.soc[window][is_mine] = np.clip(soc, 0.0, 1.0)[is_mine]
        inside = share > 0.5
        self.particle[window][inside] = number
        self.crack[window][inside] = crack[inside]


def _crack_distance(away: Volume, radius: float, rng: np.random.Generator) -> Volume:
    """Return the distance of each voxel from a crack: half a plane that goes inwards from the surface."""
    normal = rng.standard_normal(3)
    normal /= np.linalg.norm(normal)
    along = np.cross(normal, rng.standard_normal(3))
    along /= np.linalg.norm(along)
    aside = np.abs(np.tensordot(normal, away, axes=1) - rng.uniform(-0.4, 0.4) * radius)
    beyond = np.clip(rng.uniform(-0.5, 0.2) * radius - np.tensordot(along, away, axes=1), 0.0, None)
    return np.hypot(aside, beyond).astype(np.float32)
