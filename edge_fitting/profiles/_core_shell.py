"""A core of one composition in a shell of another, seen through the depth of a section or of the particle."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

from ._profile import ParticleShape, Profile

__all__ = ["CoreShellFit", "fit_core_shell"]

Array = NDArray[np.float64]

_N_GRID = 400
_N_WIDTH = 11
_N_PARAMETERS = 3


@dataclass(frozen=True, slots=True, eq=False)
class CoreShellFit:
    """A core and a shell.

    Attributes
    ----------
    shell_nm, shell_nm_sigma : float
        Thickness of the shell; half the reach in which chi2 is within 1 of its least. NaN where refused.
    core, core_sigma, shell, shell_sigma : float
        Values of core and shell, and standard deviations at that thickness.
    chi2, aic : float
        Sum of squared residuals in sigmas, and ``chi2 + 2 n_parameters``.
    n_points, n_parameters : int
        What the fit was made of.
    curve : ndarray, shape (n_points,)
        The fit at the points.
    reason : str
        Why there is no thickness; empty where there is one.
    """

    shell_nm: float
    shell_nm_sigma: float
    core: float
    core_sigma: float
    shell: float
    shell_sigma: float
    chi2: float
    aic: float
    n_points: int
    n_parameters: int
    curve: Array
    reason: str


def core_shell_share(shape: ParticleShape, distance_nm: Array, shell_nm: Array, interface_nm: float) -> Array:
    """Return the share of the shell in what each point averages, (m, n), for shells so thick (m,)."""
    radius, low, high = shape.depths_nm(distance_nm)
    moved, weights = np.zeros(1), np.ones(1)
    if interface_nm > 0:
        moved, weights = np.polynomial.hermite_e.hermegauss(_N_WIDTH)
        moved, weights = moved * interface_nm, weights / weights.sum()
    inner = np.clip(shape.size_nm - shell_nm[:, None] + moved, 0.0, shape.size_nm)[:, :, None]
    if shape.seen == "point":
        core = (radius < inner).astype(np.float64)
    else:
        half = np.sqrt(np.clip(inner**2 - radius**2, 0.0, None))
        inside = np.minimum(high, half) - np.maximum(low, -half)
        whole = high - low
        core = np.where(
            whole > 0, np.clip(inside, 0.0, None) / np.where(whole > 0, whole, 1.0), radius < inner
        )
    out: Array = 1.0 - np.einsum("q,mqn->mn", weights, core)
    return out


def fit_core_shell(profile: Profile, *, interface_nm: float = 0.0) -> CoreShellFit:
    """Fit the thickness of a shell and the values of shell and core.

    Parameters
    ----------
    profile : Profile
        The measured profile; its elapsed time is not used.
    interface_nm : float
        Standard deviation of what smears the interface: its own width and the resolution.

    Returns
    -------
    CoreShellFit

    Raises
    ------
    EdgeFittingError
        A width that cannot be.
    """
    if not (math.isfinite(interface_nm) and interface_nm >= 0):
        raise EdgeFittingError(f"the width of the interface has to be 0 nm or more, not {interface_nm:g}.")
    distance, value, sigma = profile.points
    if value.size < _N_PARAMETERS + 1:
        nan = math.nan
        return CoreShellFit(
            nan, nan, nan, nan, nan, nan, nan, nan, value.size, _N_PARAMETERS, np.full(value.size, nan),
            f"{value.size} points are too few for {_N_PARAMETERS} parameters: measure {_N_PARAMETERS + 1} or more",
        )  # fmt: skip
    size = profile.shape.size_nm
    grid = np.linspace(0.0, size, _N_GRID + 2)[1:-1]
    share = core_shell_share(profile.shape, distance, grid, interface_nm)
    chi2, core, shell = _solve(share, value, sigma)
    least = chi2.min()
    # Between two points of a sharp profile any thickness is as good: the middle of them is given.
    flat = grid[chi2 <= least + 1e-9 * max(least, 1.0)]
    thickness = 0.5 * (flat[0] + flat[-1])
    within = grid[chi2 <= least + 1.0]
    reason = ""
    if within[0] == grid[0] and within[-1] == grid[-1]:
        reason = "any thickness of the shell fits as well: the profile does not change more than its noise"
    at = int(np.abs(grid - thickness).argmin())
    a, b = share[at] / sigma, (1.0 - share[at]) / sigma
    covariance = np.linalg.pinv(np.array([[a @ a, a @ b], [a @ b, b @ b]]))
    return CoreShellFit(
        shell_nm=math.nan if reason else float(thickness),
        shell_nm_sigma=math.nan if reason else float(0.5 * (within[-1] - within[0]) + 0.5 * (grid[1] - grid[0])),
        core=float(core[at]),
        core_sigma=math.sqrt(max(covariance[1, 1], 0.0)),
        shell=float(shell[at]),
        shell_sigma=math.sqrt(max(covariance[0, 0], 0.0)),
        chi2=float(chi2[at]),
        aic=float(chi2[at]) + 2 * _N_PARAMETERS,
        n_points=value.size,
        n_parameters=_N_PARAMETERS,
        curve=shell[at] * share[at] + core[at] * (1.0 - share[at]),
        reason=reason,
    )  # fmt: skip


def _solve(share: Array, value: Array, sigma: Array) -> tuple[Array, Array, Array]:
    """Return chi2, core and shell for each row of shares; a row that tells them not apart has both at the mean."""
    weight = 1.0 / sigma**2
    total = weight.sum()
    mean_s, mean_v = share @ weight / total, value @ weight / total
    ds, dv = share - mean_s[:, None], value - mean_v
    spread = (ds**2) @ weight
    slope = np.where(spread > 1e-9 * total, (ds * dv) @ weight / np.maximum(spread, 1e-300), 0.0)
    chi2 = ((dv - slope[:, None] * ds) ** 2) @ weight
    core = mean_v - slope * mean_s
    return chi2, core, core + slope
