"""What the scatter of the references does to the states read with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._axis_offset import on_reference_axis
from ._series_basis import SeriesBasis

Array = NDArray[np.float64]

# States at which the error is worked out, out of those of the table.
_NODE_STEP = 16
# An error below this fraction of the range is left out.
_NEGLIGIBLE = 5e-4
_STEP_EV = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class CurveError:
    """Errors of the state that all pixels of a state share.

    Attributes
    ----------
    soc : ndarray, shape (n_nodes,)
        States.
    causes : ndarray, shape (n_nodes, n)
        Error of the state by each of n independent causes of one standard deviation.
    deviations : ndarray, shape (n_nodes, n_modes, n)
        What the causes do to the coordinates of the curve.
    curve, tangent : ndarray, shape (n_nodes, 1 + n_modes), (n_nodes, n_modes)
        Coordinates of the curve, and their derivative by the state.
    """

    soc: Array
    causes: Array
    deviations: Array
    curve: Array
    tangent: Array

    def common(self, soc: Array) -> tuple[float, Array]:
        """Split the error into that of the mean over some pixels, and what each pixel has beside it.

        Parameters
        ----------
        soc : ndarray, shape (n,)
            Their states.

        Returns
        -------
        common : float
            Standard deviation of the mean of their errors.
        own : ndarray, shape (n,)
            Standard deviation of the difference between their errors and the mean.
        """
        share, low, part = self._shares(soc)
        mean = share @ self.causes
        own = np.sqrt(((self.causes - mean) ** 2).sum(axis=1))
        return float(np.linalg.norm(mean)), (1.0 - part) * own[low] + part * own[low + 1]

    def of_offset(self, basis: SeriesBasis, energy_ev: Array, weight: Array, soc: Array) -> float:
        """Work out what the same causes do to an offset of the axis that is found along with the states.

        Parameters
        ----------
        basis : SeriesBasis
            The series.
        energy_ev, weight : ndarray, shape (n_energy,)
            Energies of the scan and weights of its frames.
        soc : ndarray, shape (n,)
            States of the pixels.

        Returns
        -------
        float
            Standard deviation in eV.
        """
        share, _, _ = self._shares(soc)
        functions, root = basis.at(energy_ev), np.sqrt(weight)[:, None]
        rise = _rise(basis, energy_ev)
        total = np.zeros(self.causes.shape[1])
        for k in np.flatnonzero(share > 0.0):
            curve, tangent = functions[:, 2:] @ self.curve[k], functions[:, 3:] @ self.tangent[k]
            design = np.column_stack([functions[:, :2], curve, tangent, -(rise @ self.curve[k])])
            rule = np.linalg.pinv(design * root)[4] * root[:, 0]
            total += share[k] * (rule @ functions[:, 3:] @ self.deviations[k])
        return float(np.linalg.norm(total))

    def _shares(self, soc: Array) -> tuple[Array, NDArray[np.int64], Array]:
        """Share of the pixels at each node; node below each pixel, and place towards the next."""
        place = np.clip((soc - self.soc[0]) / (self.soc[1] - self.soc[0]), 0.0, self.soc.size - 1.0)
        low = np.minimum(place.astype(np.int64), self.soc.size - 2)
        part = place - low
        share = np.bincount(low, 1.0 - part, self.soc.size) + np.bincount(low + 1, part, self.soc.size)
        return share / soc.size, low, part


def curve_error(basis: SeriesBasis, gram: Array) -> CurveError | None:
    """Carry the uncertainty of the curve through the fit.

    A change of the spectrum moves the state by its part along the derivative of the spectrum by the state, pre-edge
    line and jump taken out, as least squares do.

    Parameters
    ----------
    basis : SeriesBasis
        The series.
    gram : ndarray, shape (n_functions, n_functions)
        Weighted Gram matrix of its functions over the energies of the scan.

    Returns
    -------
    CurveError
        None where the references are known well enough not to matter, or the scan does not determine the state.
    """
    series = basis.series
    if series.coordinate != "soc" or not series.is_scattered:
        return None
    nodes = slice(None, None, _NODE_STEP)
    soc, curve, tangent = basis.soc[nodes], basis.curve[nodes], basis.tangent[nodes]
    deviations, dof = series.scatter_of_curve(soc)
    deviations = deviations[:, : basis.n_modes] * (_student(dof) if np.isfinite(dof) else 1.0)
    causes = np.empty((soc.size, deviations.shape[2]))
    for k in range(soc.size):
        free = np.zeros((3, gram.shape[0]))
        free[0, 0] = free[1, 1] = 1.0
        free[2, 2:] = curve[k]
        moved = np.r_[0.0, 0.0, tangent[k]]
        metric = free @ gram @ free.T
        if not np.linalg.cond(metric) < 1e12:
            return None
        moved = moved - np.linalg.solve(metric, free @ gram @ moved) @ free
        rule = gram @ moved
        power = float(moved @ rule)
        if not power > 0.0:
            return None
        causes[k] = rule[3:] @ deviations[k] / power
    inside = (soc >= series.soc[0]) & (soc <= series.soc[-1])
    largest = np.sqrt((causes[inside] ** 2).sum(axis=1)).max()
    if not largest > _NEGLIGIBLE * (series.soc[-1] - series.soc[0]):
        return None
    return CurveError(soc, causes, deviations, curve, tangent[:, 1:])


def _rise(basis: SeriesBasis, energy_ev: Array) -> Array:
    """Differentiate the mean spectrum and the modes by energy, shape (n_energy, 1 + n_modes)."""
    series = basis.series
    up, down = (on_reference_axis(series, energy_ev, sign * _STEP_EV) for sign in (-1.0, 1.0))
    change = series.basis(up, basis.n_modes) - series.basis(down, basis.n_modes)
    return np.asarray(change / np.maximum(up - down, _STEP_EV)).T


def _student(dof: float) -> float:
    """Half width that holds 68.3 % where the standard deviation is known with so many degrees of freedom."""
    from scipy.stats import t

    return float(t.ppf(0.8413447, max(dof, 1.0)))
