"""A whole particle seen in projection: compositions of core and surface, and the width of what lies between."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from edge_fitting.errors import EdgeFittingError

from ._lines import line_groups
from ._tables import mass_attenuation, split_group, tables

__all__ = ["CoreShell", "Matter", "fit_core_shell"]

Array = NDArray[np.float64]

_FEWEST_PIXELS = 30
_N_DEPTH, _N_EXIT = 20, 5
_CM_PER_UM = 1e-4
_FWHM = 2.3548
_POOR_CHI2 = 2.0


@dataclass(frozen=True)
class Matter:
    """What a particle is made of besides the measured elements, for how it absorbs.

    Attributes
    ----------
    density_g_cm3 : float
        Density.
    atoms : mapping of str to float
        Atoms of everything else per measured atom: by default lithium and oxygen of a layered oxide.
    """

    density_g_cm3: float = 4.7
    atoms: Mapping[str, float] | None = None

    def per_um(self, fractions: Mapping[str, float], energy_ev: float) -> float:
        """Return the attenuation per um where the measured elements have these atomic fractions."""
        others = {"Li": 1.0, "O": 2.0} if self.atoms is None else self.atoms
        mass = total = 0.0
        for name, share in (*fractions.items(), *others.items()):
            element = split_group(name)[0]
            one = share * float(tables().atomic_mass(element))
            mass += one
            total += one * mass_attenuation(element, energy_ev)
        return self.density_g_cm3 * total / mass * _CM_PER_UM


@dataclass(frozen=True, eq=False)
class CoreShell:
    """A sphere whose composition goes evenly from that of its surface to that of its core.

    Attributes
    ----------
    core, surface : dict of str to float
        Atomic fractions.
    core_sigma, surface_sigma : dict of str to float
        Standard deviations by counting, scaled by the misfit where that is larger.
    radius_um, width_um : float
        Radius, and depth at which the composition of the core is reached.
    radius_sigma_um, width_sigma_um : float
        Standard deviations.
    center : tuple of float
        Row and column of the middle, in pixels.
    chi2 : float
        Reduced.
    warnings : tuple of str
        What a reader should know.
    """

    core: dict[str, float]
    surface: dict[str, float]
    core_sigma: dict[str, float]
    surface_sigma: dict[str, float]
    radius_um: float
    radius_sigma_um: float
    width_um: float
    width_sigma_um: float
    center: tuple[float, float]
    chi2: float
    warnings: tuple[str, ...]


def fit_core_shell(
    counts: Mapping[str, ArrayLike],
    sigma: Mapping[str, ArrayLike],
    sensitivity: Mapping[str, float],
    *,
    pixel_size_um: float,
    excitation_ev: float,
    mask: ArrayLike | None = None,
    focus_um: float = 0.0,
    matter: Matter | None = None,
    scatter_angle_deg: float = 90.0,
) -> CoreShell:
    """Fit maps of one particle by a sphere in projection, with absorption on the ways in and out.

    Parameters
    ----------
    counts, sigma : mapping of str to array_like, shape (rows, cols)
        Counts of each element, of the free least squares, and their standard deviation.
    sensitivity : mapping of str to float
        Counts per atom of each, relative.
    pixel_size_um : float
        Pixel size.
    excitation_ev : float
        Energy of the beam.
    mask : array_like of bool, optional
        Pixels of the particle and of what is around it, without others; all by default.
    focus_um : float
        Full width at half maximum of the focus.
    matter : Matter, optional
        Density and what is not measured; a layered oxide of 4.7 g/cm3 by default.
    scatter_angle_deg : float
        Angle between the beam and the way to the detector, which lies towards greater columns.

    Raises
    ------
    EdgeFittingError
        For too few pixels, or maps without a particle.
    """
    names = list(counts)
    maps = np.stack([np.asarray(counts[name], np.float64) for name in names])
    errors = np.stack([np.asarray(sigma[name], np.float64) for name in names])
    chosen = np.ones(maps.shape[1:], bool) if mask is None else np.asarray(mask, bool)
    usable = np.isfinite(maps) & np.isfinite(errors) & (errors > 0)
    good = np.asarray(usable.all(axis=0) & chosen, bool)
    if good.sum() < _FEWEST_PIXELS or len(names) < 2:
        raise EdgeFittingError(
            f"A particle needs at least {_FEWEST_PIXELS} pixels and two elements to be fitted, there are "
            f"{int(good.sum())} and {len(names)}."
        )
    total = np.where(good, maps.sum(axis=0), 0.0)
    noise = float(np.median(np.sqrt((errors**2).sum(axis=0))[good]))
    bright = total > max(0.15 * np.percentile(total[good], 98), 2 * noise)
    if bright.sum() < _FEWEST_PIXELS // 2:
        raise EdgeFittingError("There is no particle in these maps: too few pixels stand out of the noise.")
    fit = _SphereFit(
        names, maps, errors, good, sensitivity, pixel_size_um, excitation_ev, focus_um, matter or Matter(),
        scatter_angle_deg,
    )  # fmt: skip
    rows, cols = np.nonzero(bright)
    weight = np.sqrt(np.maximum(total[bright], 0.0))
    start = [
        float(np.average(rows, weights=weight)),
        float(np.average(cols, weights=weight)),
        float(np.log(np.sqrt(bright.sum() / np.pi) * pixel_size_um)),
    ]
    return fit.best(start)


class _SphereFit:
    """Amplitudes follow from center, radius and width of the gradient."""

    def __init__(
        self,
        names: Sequence[str],
        maps: Array,
        errors: Array,
        good: NDArray[np.bool_],
        sensitivity: Mapping[str, float],
        pixel_um: float,
        excitation_ev: float,
        focus_um: float,
        matter: Matter,
        angle_deg: float,
    ) -> None:
        self._names, self._maps, self._good = list(names), maps, good
        self._per_atom = np.array([sensitivity[name] for name in names])
        # Weights by the expected noise of a smooth map; that of single pixels would favour low ones.
        smooth = np.stack(
            [gaussian_filter(one, 1.5, mode="nearest") for one in np.where(good, errors**2, 0.0)]
        )
        share = gaussian_filter(good.astype(np.float64), 1.5, mode="nearest")
        variance = smooth / np.maximum(share, 1e-6)
        self._sigma = np.sqrt(np.maximum(variance, 1e-12))
        self._pixel_um, self._blur = pixel_um, focus_um / _FWHM / pixel_um
        self._excitation_ev, self._matter = excitation_ev, matter
        self._lines_ev = [group.main_ev for group in line_groups(names, excitation_ev)]
        angle = np.radians(angle_deg)
        self._out = (float(np.sin(angle)), float(np.cos(angle)))  # along columns, along the beam
        self._ends: tuple[dict[str, float], dict[str, float]] | None = None

    def best(self, start: list[float]) -> CoreShell:
        even = np.maximum(np.where(self._good, self._maps, 0.0).sum(axis=(1, 2)) / self._per_atom, 0.0)
        mean = dict(zip(self._names, even / max(even.sum(), 1e-300), strict=True))
        self._ends = (mean, mean)
        radius = float(np.exp(start[2]))
        x = np.array([*start, np.log(0.25 * radius)])
        limits = ([-5, -5, np.log(0.3 * radius), np.log(0.02 * radius)],
                  [s + 5 for s in self._good.shape] + [np.log(3 * radius), np.log(0.98 * radius)])  # fmt: skip
        for _ in range(2):  # how it absorbs follows from the compositions
            found = least_squares(
                self._residual, x, bounds=limits, x_scale=[1, 1, 0.1, 0.5], diff_step=1e-3, max_nfev=30
            )
            x = found.x
            core, surface, _ = self._compositions(self._amplitudes(x)[0])
            self._ends = (core, surface)
        return self._described(x, np.asarray(found.jac))

    def _residual(self, x: Array) -> Array:
        return np.concatenate(self._amplitudes(x)[1])

    def _amplitudes(self, x: Array) -> tuple[list[Array], list[Array], list[Array]]:
        """Return (core, surface minus core) of each element, residuals, and covariances of the two."""
        evens, shells = self._projected(x)
        found, residuals, covariances = [], [], []
        for k in range(len(self._names)):
            sigma = self._sigma[k][self._good]
            a = np.stack([evens[k][self._good], shells[k][self._good]], axis=1) / sigma[:, None]
            y = self._maps[k][self._good] / sigma
            gram = a.T @ a + 1e-12 * np.eye(2) * np.trace(a.T @ a)
            coefficients = np.linalg.solve(gram, a.T @ y)
            found.append(coefficients)
            residuals.append(y - a @ coefficients)
            covariances.append(np.linalg.inv(gram))
        return found, residuals, covariances

    def _projected(self, x: Array) -> tuple[list[Array], list[Array]]:
        """Return for each element what an even sphere gives, and what its shell of decreasing share gives."""
        row, col, radius, width = x[0], x[1], np.exp(x[2]), np.exp(x[3])
        rows, cols = np.indices(self._good.shape)
        v, u = (rows - row) * self._pixel_um, (cols - col) * self._pixel_um
        # Sub-pixels at the rim: the chord is averaged over the pixel.
        evens = [np.zeros(self._good.shape) for _ in self._names]
        shells = [np.zeros(self._good.shape) for _ in self._names]
        quarter = 0.25 * self._pixel_um
        for dv, du in ((-quarter, quarter), (quarter, -quarter)):
            self._add(v + dv, u + du, radius, width, evens, shells)
        n = 2
        if self._blur > 0.05:
            evens = [gaussian_filter(one, self._blur, mode="nearest") for one in evens]
            shells = [gaussian_filter(one, self._blur, mode="nearest") for one in shells]
        return [one / n for one in evens], [one / n for one in shells]

    def _add(
        self, v: Array, u: Array, radius: float, width: float, evens: list[Array], shells: list[Array]
    ) -> None:
        inside = v**2 + u**2 < radius**2
        if not inside.any():
            return
        v, u = v[inside], u[inside]
        half = np.sqrt(radius**2 - v**2 - u**2)
        nodes, weights = np.polynomial.legendre.leggauss(_N_DEPTH)
        z = half[:, None] * nodes
        dz = half[:, None] * weights
        depth = radius - np.sqrt((v**2 + u**2)[:, None] + z**2)
        shell = np.maximum(1.0 - depth / width, 0.0)
        way_in = z + half[:, None]
        along = u[:, None] * self._out[0] + z * self._out[1]
        square = (v**2 + u**2)[:, None] + z**2
        way_out = -along + np.sqrt(np.maximum(along**2 + radius**2 - square, 0.0))
        outer = self._shell_on_way(along, square, way_out, radius, width)
        assert self._ends is not None
        core, surface = self._ends
        into_core = self._matter.per_um(core, self._excitation_ev)
        for k, line_ev in enumerate(self._lines_ev):
            out_core, out_surface = (self._matter.per_um(one, line_ev) for one in (core, surface))
            left = np.exp(-into_core * way_in - out_core * way_out - (out_surface - out_core) * outer) * dz
            evens[k][inside] += left.sum(axis=1)
            shells[k][inside] += (left * shell).sum(axis=1)

    @staticmethod
    def _shell_on_way(along: Array, square: Array, way_out: Array, radius: float, width: float) -> Array:
        """Return how much of the way out is shell."""
        nodes, weights = np.polynomial.legendre.leggauss(_N_EXIT)
        total = np.zeros_like(way_out)
        for node, weight in zip(nodes, weights, strict=True):
            s = 0.5 * (node + 1.0) * way_out
            r = np.sqrt(np.maximum(square + 2.0 * along * s + s**2, 0.0))
            total += 0.5 * weight * np.maximum(1.0 - (radius - r) / width, 0.0)
        return total * way_out

    def _compositions(self, amplitudes: list[Array]) -> tuple[dict[str, float], dict[str, float], Array]:
        per_atom = np.stack(amplitudes) / self._per_atom[:, None]
        ends = np.stack([per_atom[:, 0], per_atom.sum(axis=1)])  # core, surface
        ends = np.maximum(ends, 0.0)
        shares = ends / np.maximum(ends.sum(axis=1, keepdims=True), 1e-300)
        core, surface = (dict(zip(self._names, map(float, one), strict=True)) for one in shares)
        return core, surface, ends

    def _described(self, x: Array, jacobian: Array) -> CoreShell:
        amplitudes, residuals, covariances = self._amplitudes(x)
        core, surface, ends = self._compositions(amplitudes)
        values = np.concatenate(residuals)
        chi2 = float((values**2).sum() / max(values.size - 4 - 2 * len(self._names), 1))
        scale = max(chi2, 1.0)
        shape: Array = np.asarray(np.linalg.pinv(jacobian.T @ jacobian) * scale, np.float64)
        spread = self._fraction_sigma(x, shape, covariances, ends, scale)
        radius, width = float(np.exp(x[2])), float(np.exp(x[3]))
        said = []
        if chi2 > _POOR_CHI2:
            said.append(
                f"the particle is no sphere with an even gradient (reduced chi2 {chi2:.1f}): its core and surface are "
                "those of the nearest one"
            )
        if width > 0.95 * radius:
            said.append("the gradient reaches the middle of the particle: there is no even core")
        if width < self._pixel_um:
            said.append(
                "the gradient is thinner than a pixel: its width and the surface's composition are not known"
            )
        return CoreShell(
            core, surface, spread[0], spread[1], radius, radius * float(np.sqrt(shape[2, 2])), width,
            width * float(np.sqrt(shape[3, 3])), (float(x[0]), float(x[1])), chi2, tuple(said),
        )  # fmt: skip

    def _fraction_sigma(
        self, x: Array, shape: Array, covariances: list[Array], ends: Array, scale: float
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Return the standard deviations of the fractions: by the amplitudes, and by radius and width."""
        before = np.stack([list(one.values()) for one in self._compositions(self._amplitudes(x)[0])[:2]])
        moved = np.zeros((2, 2, len(self._names)))
        for number, at in enumerate((2, 3)):
            step = np.zeros(4)
            step[at] = min(max(float(np.sqrt(shape[at, at])), 1e-4), 0.2)
            after = np.stack(
                [list(one.values()) for one in self._compositions(self._amplitudes(x + step)[0])[:2]]
            )
            moved[number] = (after - before) / step[at] * np.sqrt(shape[at, at])
        out = []
        for end, row in enumerate(((1.0, 0.0), (1.0, 1.0))):
            unit = np.array(row)
            variance = np.array([unit @ c @ unit for c in covariances]) * scale / self._per_atom**2
            total = max(float(ends[end].sum()), 1e-300)
            share = ends[end] / total
            own = ((1 - share) ** 2 * variance + share**2 * (variance.sum() - variance)) / total**2
            both = np.sqrt(own + moved[0, end] ** 2 + moved[1, end] ** 2)
            out.append(dict(zip(self._names, map(float, both), strict=True)))
        return out[0], out[1]
