"""Diffusion of one phase into a slab, a cylinder or a sphere, fitted with ln D free.

Solutions for constant diffusivity and a surface held at one concentration: Crank, The Mathematics of Diffusion, 4.3
(slab), 5.3 (cylinder) and 6.3 (sphere). The concentration is ``surface + (start - surface) v`` with v a sum of
``a_k(x) exp(-q_k D t / L^2)``. The mean over depth acts on a_k alone, so it is taken once and not for each D.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import j0, j1, jn_zeros

from edge_fitting.errors import EdgeFittingError

from ._profile import ParticleShape, Profile

__all__ = ["DiffusionFit", "diffusion_profile", "fit_diffusion"]

Array = NDArray[np.float64]

#: Reach of D t / L^2 in which a D is looked for.
_TAU = (1e-4, 3.0)
_N_TERMS = 180
_N_DEPTHS = 24
_N_GRID = 121
_CM2_PER_NM2 = 1e-14
#: A D with a larger standard deviation of its logarithm is refused.
SIGMA_LN_D_LIMIT = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class DiffusionFit:
    """A diffusivity, or why there is none.

    Attributes
    ----------
    diffusivity_cm2_s : float
        D; NaN where it is refused.
    ln_d, ln_d_sigma : float
        Its natural logarithm and the standard deviation of that, with that of the elapsed time in it. Also where D is
        refused, as far as they are known.
    start, start_sigma : float
        Concentration before, common to all particles.
    surface, surface_sigma : ndarray, shape (n_particles,)
        Concentration at the surface of each.
    chi2, aic : float
        Sum of squared residuals in sigmas, and ``chi2 + 2 n_parameters``.
    n_points, n_parameters : int
        What the fit was made of.
    curves : tuple of ndarray
        The fit at the points of each profile.
    reason : str
        Why D is refused; empty where it is not.
    """

    diffusivity_cm2_s: float
    ln_d: float
    ln_d_sigma: float
    start: float
    start_sigma: float
    surface: Array
    surface_sigma: Array
    chi2: float
    aic: float
    n_points: int
    n_parameters: int
    curves: tuple[Array, ...]
    reason: str


@functools.cache
def _roots() -> Array:
    roots: Array = jn_zeros(0, _N_TERMS)
    return roots


def _modes(kind: str, x: Array) -> tuple[Array, Array]:
    """Return the functions of the position (x.shape + (k,)) and their decay rates in D t / L^2 (k,)."""
    n = np.arange(_N_TERMS, dtype=np.float64)
    if kind == "slab":
        odd = 2 * n + 1
        amplitude = 4.0 * (-1.0) ** n / (odd * math.pi)
        return amplitude * np.cos(0.5 * math.pi * odd * x[..., None]), (0.5 * math.pi * odd) ** 2
    if kind == "cylinder":
        roots = _roots()
        return 2.0 * j0(roots * x[..., None]) / (roots * j1(roots)), roots**2
    n = n + 1
    return -2.0 * (-1.0) ** n * np.sinc(n * x[..., None]), (math.pi * n) ** 2


def _seen_modes(shape: ParticleShape, distance_nm: Array) -> tuple[Array, Array]:
    """Return the functions as a pixel at each distance averages them, (n, k), and their decay rates."""
    radius, low, high = shape.depths_nm(distance_nm)
    if shape.seen == "point":
        return _modes(shape.kind, radius / shape.size_nm)
    nodes, weights = np.polynomial.legendre.leggauss(_N_DEPTHS)
    depth = 0.5 * (low + high)[:, None] + 0.5 * (high - low)[:, None] * nodes
    x = np.minimum(np.hypot(radius[:, None], depth) / shape.size_nm, 1.0)
    modes, rates = _modes(shape.kind, x)
    return np.einsum("q,nqk->nk", 0.5 * weights, modes), rates


def diffusion_profile(
    distance_nm: ArrayLike,
    shape: ParticleShape,
    *,
    diffusivity_cm2_s: float,
    elapsed_s: float,
    start: float,
    surface: float,
) -> Array:
    """Return the concentration at distances from the edge, shape (n,).

    Parameters
    ----------
    distance_nm : array_like, shape (n,)
        Distances from the outline in the image, inward.
    shape : ParticleShape
        The particle, and what part of its depth a pixel averages.
    diffusivity_cm2_s, elapsed_s : float
        D and time; ``D t / size^2`` has to be 1e-4 or more.
    start, surface : float
        Concentration before, and at the surface since.

    Raises
    ------
    EdgeFittingError
        The profile is steeper than the sum of its terms can show.
    """
    tau = diffusivity_cm2_s * elapsed_s / (shape.size_nm**2 * _CM2_PER_NM2)
    if not tau >= _TAU[0]:
        raise EdgeFittingError(
            f"D t / size^2 is {tau:g}, and profiles are computed from {_TAU[0]:g} on: give a longer time."
        )
    modes, rates = _seen_modes(shape, np.atleast_1d(np.asarray(distance_nm, dtype=np.float64)))
    left: Array = modes @ np.exp(-rates * tau)
    return surface + (start - surface) * left


class _Particle:
    """One profile, ready for any D: what is left of the start at its points."""

    def __init__(self, profile: Profile) -> None:
        distance, value, sigma = profile.points
        self.modes, self.rates = _seen_modes(profile.shape, distance)
        self.value, self.sigma = value, sigma
        self.ln_unit = math.log(profile.shape.size_nm**2 * _CM2_PER_NM2 / profile.elapsed_s)

    def left(self, ln_d: Array) -> Array:
        """Return what is left of the start, (m, n), for each ln D."""
        tau = np.clip(np.exp(ln_d - self.ln_unit), _TAU[0], None)
        out: Array = np.exp(-np.multiply.outer(tau, self.rates)) @ self.modes.T
        return out


def fit_diffusion(profiles: Profile | Sequence[Profile]) -> DiffusionFit:
    """Fit one diffusivity, one start and a surface concentration for each particle.

    ln D is found by the profile of chi2 over it, in which start and surfaces are solved for at each D; its standard
    deviation is half the width of ``chi2 <= min + 1``, so an interval that does not close is seen.

    Parameters
    ----------
    profiles : Profile or sequence of Profile
        One particle or many, each with its own size, section and elapsed time.

    Returns
    -------
    DiffusionFit
        D is refused, with the reason, with fewer points than parameters and one more, where no reach of ln D closes or
        its standard deviation is above 0.5.

    Raises
    ------
    EdgeFittingError
        No profile, or one without its elapsed time.
    """
    profiles = [profiles] if isinstance(profiles, Profile) else list(profiles)
    elapsed = _elapsed(profiles)
    n_points = sum(one.points[0].size for one in profiles)
    n_parameters = 2 + len(profiles)
    if n_points < n_parameters + 1:
        return _nothing(profiles, n_points, n_parameters)
    particles = [_Particle(one) for one in profiles]

    def chi2(ln_d: Array) -> Array:
        return _solve(particles, np.atleast_1d(ln_d))[0]

    reach = (
        max(one.ln_unit for one in particles) + math.log(_TAU[0]),
        min(one.ln_unit for one in particles) + math.log(_TAU[1]),
    )
    if not reach[0] < reach[1]:
        raise EdgeFittingError("the particles differ too much in size and time for one D; fit them apart.")
    grid = np.linspace(*reach, _N_GRID)
    along = chi2(grid)
    at = int(np.argmin(along))
    bounds = grid[max(at - 1, 0)], grid[min(at + 1, _N_GRID - 1)]
    best = minimize_scalar(
        lambda x: float(chi2(x)[0]), bounds=bounds, method="bounded", options={"xatol": 1e-4}
    )
    ln_d, least = (float(best.x), float(best.fun)) if best.fun <= along[at] else (grid[at], along[at])
    below, above = np.flatnonzero(grid < ln_d)[::-1], np.flatnonzero(grid > ln_d)
    low = _crossing(chi2, grid[below], along[below], ln_d, least) if below.size else -math.inf
    high = _crossing(chi2, grid[above], along[above], ln_d, least) if above.size else math.inf
    own = 0.5 * (high - low)
    sigma = math.hypot(own, elapsed)
    reason = _refused(low, high, own, elapsed)
    _, start, surface, curves = _solve(particles, np.array([ln_d]))
    covariance = _covariance(particles, ln_d, float(start[0]), surface[:, 0])
    return DiffusionFit(
        diffusivity_cm2_s=math.nan if reason else math.exp(ln_d),
        ln_d=ln_d,
        ln_d_sigma=sigma,
        start=float(start[0]),
        start_sigma=float(covariance[1]),
        surface=surface[:, 0].copy(),
        surface_sigma=covariance[2:],
        chi2=float(least),
        aic=float(least) + 2 * n_parameters,
        n_points=n_points,
        n_parameters=n_parameters,
        curves=tuple(curve[0] for curve in curves),
        reason=reason,
    )


def _elapsed(profiles: list[Profile]) -> float:
    """Check the times; return their standard deviation in ln D, which all particles share."""
    if not profiles:
        raise EdgeFittingError("there is no profile to fit.")
    for one in profiles:
        if not (math.isfinite(one.elapsed_s) and one.elapsed_s > 0 and one.elapsed_sigma_s >= 0):
            raise EdgeFittingError(
                f"diffusion needs the elapsed time in s, and its standard deviation: {one.elapsed_s:g} and "
                f"{one.elapsed_sigma_s:g} are none."
            )
    return float(np.mean([one.elapsed_sigma_s / one.elapsed_s for one in profiles]))


def _nothing(profiles: list[Profile], n_points: int, n_parameters: int) -> DiffusionFit:
    nan, none = math.nan, np.full(len(profiles), math.nan)
    return DiffusionFit(
        nan, nan, nan, nan, nan, none, none.copy(), nan, nan, n_points, n_parameters,
        tuple(np.full(one.points[0].size, nan) for one in profiles),
        f"{n_points} points are too few for {n_parameters} parameters: measure {n_parameters + 1} or more",
    )  # fmt: skip


def _solve(particles: list[_Particle], ln_d: Array) -> tuple[Array, Array, Array, list[Array]]:
    """Solve for start and surfaces at each ln D: chi2 (m,), start (m,), surfaces (n, m) and curves, each (m, n)."""
    parts = []
    up, down = np.zeros(ln_d.size), np.zeros(ln_d.size)
    for one in particles:
        left, y = one.left(ln_d) / one.sigma, one.value / one.sigma
        gone = 1.0 / one.sigma - left
        size = np.einsum("mn,mn->m", gone, gone)
        size = np.maximum(size, 1e-12 * np.sum(1.0 / one.sigma**2))
        along_left = np.einsum("mn,mn->m", gone, left) / size
        along_y = gone @ y / size
        # What the surface cannot take up fixes the start.
        rest_left, rest_y = left - along_left[:, None] * gone, y - along_y[:, None] * gone
        up += np.einsum("mn,mn->m", rest_left, rest_y)
        down += np.einsum("mn,mn->m", rest_left, rest_left)
        parts.append((one, left, gone, y, along_left, along_y))
    start = up / np.maximum(down, np.finfo(float).tiny)
    chi2, surfaces, curves = np.zeros(ln_d.size), [], []
    for one, left, gone, y, along_left, along_y in parts:
        surface = along_y - start * along_left
        curve = surface[:, None] * gone + start[:, None] * left
        chi2 += ((y - curve) ** 2).sum(axis=1)
        surfaces.append(surface)
        curves.append(curve * one.sigma)
    return chi2, start, np.stack(surfaces), curves


def _crossing(chi2: Callable[[Array], Array], grid: Array, along: Array, ln_d: float, least: float) -> float:
    """Return where chi2 has risen by 1, from ln D to the end of the grid; infinite where it does not."""
    risen = along > least + 1.0
    if not risen.any():
        return math.copysign(math.inf, grid[-1] - ln_d)
    first = int(risen.argmax())
    begin = grid[first - 1] if first else ln_d
    return float(brentq(lambda x: float(chi2(np.array([x]))[0]) - least - 1.0, begin, grid[first], xtol=1e-5))


def _refused(low: float, high: float, own: float, elapsed: float) -> str:
    if math.isinf(low) and math.isinf(high):
        return "any D fits as well: the profile does not change with the distance more than its noise"
    if math.isinf(high):
        return "any larger D fits as well: the diffusion has reached the middle of the particle, or the profile is flat"
    if math.isinf(low):
        return "any smaller D fits as well: the profile is steeper than its points are apart"
    if math.hypot(own, elapsed) > SIGMA_LN_D_LIMIT:
        what = "the profile" if own > elapsed else "the elapsed time"
        return (
            f"the standard deviation of ln D is {math.hypot(own, elapsed):.2f}, above {SIGMA_LN_D_LIMIT:g}: {what} "
            "does not fix D"
        )
    return ""


def _covariance(particles: list[_Particle], ln_d: float, start: float, surface: Array) -> Array:
    """Return the standard deviations of ln D, start and surfaces, each with the others free."""
    n = len(particles)
    normal = np.zeros((2 + n, 2 + n))
    step = 1e-3
    for k, one in enumerate(particles):
        below, middle, above = one.left(ln_d + np.array([-step, 0.0, step])) / one.sigma
        rows = np.zeros((2 + n, one.value.size))
        rows[0] = (start - surface[k]) * (above - below) / (2 * step)
        rows[1] = middle
        rows[2 + k] = 1.0 / one.sigma - middle
        normal += rows @ rows.T
    scale = np.sqrt(np.maximum(normal.diagonal(), np.finfo(float).tiny))
    inverse = np.linalg.pinv(normal / np.multiply.outer(scale, scale), rcond=1e-14)
    out: Array = np.sqrt(np.maximum(inverse.diagonal(), 0.0)) / scale
    return out
