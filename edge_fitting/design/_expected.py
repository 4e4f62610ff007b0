"""What a grid of energies will give: noise of a frame, error of the state, bias by a wrong axis."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import check_energies, check_weights
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries

from ._energy_chooser import check_precision
from ._fisher import FrameInformation, soc_variance, sum_information

Array = NDArray[np.float64]


def expected_sigma(
    grid: Any,
    series: ReferenceSeries,
    jump: float,
    sigma: float | ArrayLike,
    *,
    weights: ArrayLike | None = None,
    soc: ArrayLike | None = None,
    soc_weights: ArrayLike | None = None,
) -> float:
    """Predict the standard deviation of the state of charge that a grid will give (Cramer-Rao bound).

    Parameters
    ----------
    grid : array_like or object with ``energies_ev``
        Energies in eV, repeats counted; an energy grid's ``exposure_s`` serves as weights.
    series : ReferenceSeries
        The references.
    jump : float
        Edge jump of the pixel, in optical depth.
    sigma : float or array_like
        Standard deviation of the optical depth in one frame of weight 1 (of the grid's mean exposure, where
        the grid has exposures), one for all or one for each energy.
    weights : array_like, optional
        Exposure of each frame relative to that which ``sigma`` is for; overrides the grid's exposures.
    soc, soc_weights : array_like, shape (n_states,), optional
        States of charge and how much each counts; evenly over the series by default.

    Returns
    -------
    float
        Root mean square over the states of charge, infinite where the grid does not determine the state.

    Raises
    ------
    EdgeFittingError
        For energies that the references do not cover, or a jump, sigma or weight that is not positive.
    """
    energies, exposures = _read_grid(grid, weights)
    frames = FrameInformation(series, soc, soc_weights)
    precision = exposures * check_precision(jump, sigma, energies.size)
    variance = soc_variance(sum_information(frames.features(energies), precision))
    return float(np.sqrt(frames.weights @ variance))


def calibration_bias(
    grid: Any,
    series: ReferenceSeries,
    error_ev: float,
    *,
    weights: ArrayLike | None = None,
    soc: ArrayLike | None = None,
    soc_weights: ArrayLike | None = None,
) -> float:
    """Predict the shift of the state of charge when the energy axis is off against the references' axis.

    No number of frames reduces it. To first order in the error.

    Parameters
    ----------
    grid : array_like or object with ``energies_ev``
        As for :func:`expected_sigma`.
    series : ReferenceSeries
        The references.
    error_ev : float
        How far the scan's energy axis is off.
    weights, soc, soc_weights : array_like, optional
        As for :func:`expected_sigma`.

    Returns
    -------
    float
        Root mean square over the states of charge; infinite where the grid does not determine the state.

    Raises
    ------
    EdgeFittingError
        As for :func:`expected_sigma`.
    """
    energies, exposures = _read_grid(grid, weights)
    frames = FrameInformation(series, soc, soc_weights)
    features = frames.features(energies)
    information = sum_information(features, exposures)
    if not np.isfinite(soc_variance(information)).all():
        return float("inf")
    pull = np.einsum("snk,sn,n->sk", features, frames.axis_derivative(energies), exposures)
    shift = np.linalg.solve(information, pull[..., None])[:, 0, 0] * error_ev
    return float(np.sqrt(frames.weights @ shift**2))


def optical_depth_sigma(
    open_beam_counts: ArrayLike, optical_depth: ArrayLike = 0.0, *, n_flats: float = 1.0
) -> Array:
    """Return the noise of the optical depth in one frame by counting statistics of frame and flat.

    Parameters
    ----------
    open_beam_counts : array_like
        Detected photons per pixel in a frame without the sample (counts divided by the gain).
    optical_depth : array_like
        Optical depth of the sample at the energy.
    n_flats : float
        Open-beam exposures that the flat is made of, in units of the frame's exposure.

    Returns
    -------
    ndarray
        ``sqrt(exp(optical_depth) / N + 1 / (n_flats N))``.

    Raises
    ------
    EdgeFittingError
        If counts or number of flats are not positive.
    """
    counts = np.asarray(open_beam_counts, dtype=np.float64)
    if not (np.isfinite(counts) & (counts > 0)).all() or not n_flats > 0:
        raise EdgeFittingError("open_beam_counts and n_flats must be positive.")
    depth = np.asarray(optical_depth, dtype=np.float64)
    return np.asarray(np.sqrt((np.exp(depth) + 1.0 / n_flats) / counts))


def _read_grid(grid: Any, weights: ArrayLike | None) -> tuple[Array, Array]:
    energies = check_energies(getattr(grid, "energies_ev", grid), what="grid")
    exposures = getattr(grid, "exposure_s", None)
    if weights is None and exposures is not None:
        relative = check_weights(exposures, energies.size)
        return energies, relative / relative.mean()
    return energies, check_weights(weights, energies.size)
