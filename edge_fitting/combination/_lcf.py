"""Linear combination of reference spectra."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import (
    Edge,
    FitStatus,
    check_energies,
    check_stack,
    check_weights,
    detection_threshold,
    resolve_edge,
)
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries
from edge_fitting.stack import too_many_saturated
from edge_fitting.sums import SufficientStatistics

from ._collinear import collinear_warnings
from ._non_negative import non_negative, non_negative_covariance

Array = NDArray[np.float64]
Constraint = Literal["none", "sum_to_one", "non_negative"]

_MOST_REFERENCES = 6


@dataclass(frozen=True, slots=True, eq=False)
class LinearCombinationMaps:
    """Weights of a linear combination fit; NaN means "no value" and ``status`` says why.

    The model is ``y = a + b E + sum_k w_k r_k(E)`` with a pre-edge line of its own for every pixel and normalised
    references ``r_k``, so that a weight is the edge jump due to its reference.

    Parameters
    ----------
    weights, weights_sigma : ndarray of float32, shape (n_ref, rows, cols)
        Weights and their standard deviations. With ``non_negative`` they are the root mean square by which noise moves
        the constrained weights, so that a weight held at zero has one too.
    fractions : ndarray of float32, shape (n_ref, rows, cols)
        Weights over their sum.
    edge_jump, edge_jump_sigma : ndarray of float32, shape (rows, cols)
        Sum of the weights.
    soc, soc_sigma : ndarray of float32, shape (rows, cols)
        Mean of the references' states, weighted by the fractions.
    r_factor : ndarray of float32, shape (rows, cols)
        Squared residual over the squared data, pre-edge line subtracted from both (as in Athena, on data with the
        pre-edge removed).
    status : ndarray of uint8, shape (rows, cols)
        A :class:`~edge_fitting.FitStatus` per pixel.
    constraint : {"none", "sum_to_one", "non_negative"}
        Constraint that was applied.
    warnings : tuple of str
        What to know before the weights are believed: references that look alike at these energies.
    """

    weights: NDArray[np.float32]
    weights_sigma: NDArray[np.float32]
    fractions: NDArray[np.float32]
    edge_jump: NDArray[np.float32]
    edge_jump_sigma: NDArray[np.float32]
    soc: NDArray[np.float32]
    soc_sigma: NDArray[np.float32]
    r_factor: NDArray[np.float32]
    status: NDArray[np.uint8]
    constraint: Constraint
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Combination:
    """Solution of the linear least squares of some pixels, all of shape (..., n_pixels).

    ``coefficients`` (n_basis, n_pixels), ``covariance`` (n_basis, n_basis, n_pixels) for unit noise, ``chi2``, and the
    squared data with the fitted line subtracted, ``power``; ``explained`` is what the references take off the residual
    of a line alone.
    """

    coefficients: Array
    covariance: Array
    chi2: Array
    power: Array
    explained: Array


def fit_lcf(
    energy_ev: ArrayLike,
    optical_depth: ArrayLike,
    references: ReferenceSeries,
    *,
    edge: str | Edge = "Ni_K",
    constraint: Constraint = "none",
    weights: ArrayLike | None = None,
) -> LinearCombinationMaps:
    """Fit every pixel as a linear combination of two to six reference spectra.

    Parameters
    ----------
    energy_ev : array_like, shape (n_energy,)
        Energies in eV, any order, repeats allowed.
    optical_depth : array_like, shape (n_energy, rows, cols)
        Optical depth; NaN marks missing values.
    references : ReferenceSeries
        References of two to six different states, which only serve the state of charge.
    edge : str or Edge
        Edge that was scanned.
    constraint : {"none", "sum_to_one", "non_negative"}
        ``none``: all weights free. ``sum_to_one``: they add up to 1, for data that are normalised already.
        ``non_negative``: none below zero (`scipy.optimize.nnls` where the free fit gives one).
    weights : array_like, shape (n_energy,), optional
        Weight of each frame, inversely proportional to the variance of its noise.

    Returns
    -------
    LinearCombinationMaps

    Raises
    ------
    EdgeFittingError
        For more than six references, an unknown constraint, or input that cannot be fitted.
    """
    resolved = resolve_edge(edge)
    energies = check_energies(energy_ev, edge=resolved)
    stack = check_stack(optical_depth, energies.size)
    frame_weights = check_weights(weights, energies.size)
    if references.states.size > _MOST_REFERENCES:
        raise EdgeFittingError(
            f"a linear combination takes 2 to {_MOST_REFERENCES} references, not {references.states.size}: "
            "pick end members."
        )
    if constraint not in ("none", "sum_to_one", "non_negative"):
        raise EdgeFittingError(
            f"constraint must be 'none', 'sum_to_one' or 'non_negative', not {constraint!r}."
        )
    rows, cols = stack.shape[1:]
    spectra = references.members(energies)
    statistics = SufficientStatistics(rows * cols, 2 + references.states.size)
    statistics.push_stack(
        line_and(energies, spectra, references.edge_ev), stack.reshape(energies.size, -1), frame_weights
    )
    n_ref = references.states.size
    weight = np.full((n_ref, rows * cols), np.nan)
    weight_sigma = weight.copy()
    jump, jump_sigma, soc, soc_sigma, r_factor = (np.full(rows * cols, np.nan) for _ in range(5))
    status = no_fit_status(statistics)
    for pixels, gram, n_frames in groups(statistics):
        dof = n_frames - 2 - n_ref + (constraint == "sum_to_one")
        if dof < 1 or not determined(gram):
            continue
        solution = solve(statistics.sums[:, pixels], gram, constraint, dof)
        noise2 = solution.chi2 / dof
        w = solution.coefficients[2:]
        covariance = solution.covariance[2:, 2:] * noise2
        total = w.sum(axis=0)
        total_variance = covariance.sum(axis=(0, 1))
        # A sum of weights of zero gives NaN, and is no edge.
        with np.errstate(invalid="ignore", divide="ignore"):
            state = references.states @ (w / total)
            # d soc = sum_k (soc_k - soc) dw_k / total
            lever = (references.states[:, None] - state) / total
            significance = total**2 / total_variance
        # Rounding makes a variance of zero negative where the weights are tied.
        state_variance = np.einsum("kp,klp,lp->p", lever, covariance, lever)
        if constraint == "sum_to_one":
            significance = solution.explained / noise2
        code = np.full(pixels.size, FitStatus.OK, np.uint8)
        code[~(significance > detection_threshold(dof))] = FitStatus.NO_EDGE
        code[(code == FitStatus.OK) & (total < 0)] = FitStatus.INVERTED
        keep = (status[pixels] == FitStatus.TOO_FEW_FRAMES) & (code == FitStatus.OK)
        status[pixels] = np.where(status[pixels] == FitStatus.TOO_FEW_FRAMES, code, status[pixels])
        weight[:, pixels] = np.where(keep, w, np.nan)
        sigma = np.sqrt(np.einsum("kkp->kp", covariance))
        weight_sigma[:, pixels] = np.where(keep & (sigma > 0), sigma, np.nan)
        for target, value in (
            (jump, total),
            (jump_sigma, np.sqrt(np.maximum(total_variance, 0.0))),
            (soc, state),
            (soc_sigma, np.sqrt(np.maximum(state_variance, 0.0))),
            (r_factor, solution.chi2 / solution.power),
        ):
            target[pixels] = np.where(keep, value, np.nan)

    def image(array: Array) -> NDArray[np.float32]:
        return array.astype(np.float32).reshape(*array.shape[:-1], rows, cols)

    return LinearCombinationMaps(
        weights=image(weight),
        weights_sigma=image(weight_sigma),
        fractions=image(weight / jump),
        edge_jump=image(jump),
        edge_jump_sigma=image(jump_sigma),
        soc=image(soc),
        soc_sigma=image(soc_sigma),
        r_factor=image(r_factor),
        status=status.reshape(rows, cols),
        constraint=constraint,
        warnings=collinear_warnings(statistics.gram, references.states, statistics.n_frames),
    )


def line_and(energy_ev: Array, spectra: Array, about_ev: float) -> Array:
    """Basis of a line and some spectra, shape (n_energy, 2 + n_spectra)."""
    line = np.stack([np.ones_like(energy_ev), (energy_ev - about_ev) / 100.0])
    return np.ascontiguousarray(np.concatenate([line, spectra]).T)


def no_fit_status(statistics: SufficientStatistics) -> NDArray[np.uint8]:
    """Status of the pixels that have nothing to fit; ``TOO_FEW_FRAMES`` for all others."""
    statistics.flush()
    status = np.full(statistics.n_pixels, FitStatus.TOO_FEW_FRAMES, np.uint8)
    if not statistics.n_frames:
        return status
    empty = statistics.highest == -np.inf
    status[(statistics.at_highest >= statistics.n_frames) & ~empty] = FitStatus.FLAT
    status[too_many_saturated(statistics.saturated, statistics.n_frames)] = FitStatus.SATURATED
    status[empty] = np.where(statistics.saturated[empty] > 0, FitStatus.SATURATED, FitStatus.NO_DATA)
    return status


def groups(statistics: SufficientStatistics) -> list[tuple[NDArray[np.int64], Array, int]]:
    """Pixels that have the same frames: their indices, Gram matrix and number of frames."""
    pixels, history, grams, missed = statistics.missing.histories()
    complete = np.ones(statistics.n_pixels, bool)
    complete[pixels] = False
    found = [(np.flatnonzero(complete), statistics.gram, statistics.n_frames)]
    for which in np.unique(history):
        members = pixels[history == which]
        found.append((members, statistics.gram - grams[which], statistics.n_frames - int(missed[which])))
    return [group for group in found if group[0].size]


def determined(gram: Array) -> bool:
    """Whether a Gram matrix can be inverted."""
    scale = np.sqrt(np.diag(gram))
    return bool((scale > 0).all() and np.linalg.cond(gram / np.outer(scale, scale)) < 1e12)


def solve(sums: Array, gram: Array, constraint: Constraint, dof: int = 1) -> Combination:
    """Solve the normal equations of many pixels with one Gram matrix.

    Parameters
    ----------
    sums : ndarray, shape (n_basis + 1, n_pixels)
        Projections of the data and, last, the squared data.
    gram : ndarray, shape (n_basis, n_basis)
        Gram matrix; the first two functions are the line, the others the references.
    constraint : {"none", "sum_to_one", "non_negative"}
        On the references' weights.
    dof : int
        Degrees of freedom; with ``non_negative`` the covariance depends on the noise.

    Returns
    -------
    Combination
    """
    v, q = sums[:-1], sums[-1]
    if constraint == "non_negative":
        coefficients = non_negative(v, gram)
        chi2 = _chi2(coefficients, v, q, gram)
        covariance = np.zeros((*gram.shape, q.size))
        covariance[2:, 2:] = non_negative_covariance(coefficients[2:], chi2 / max(dof, 1), gram)
    else:
        inverse = np.linalg.inv(gram)
        coefficients, shared = inverse @ v, inverse
        if constraint == "sum_to_one":
            row = np.r_[0.0, 0.0, np.ones(gram.shape[0] - 2)]
            gain = inverse @ row / (row @ inverse @ row)
            coefficients = coefficients - np.outer(gain, row @ coefficients - 1.0)
            shared = inverse - np.outer(gain, row @ inverse)
        covariance = np.broadcast_to(shared[:, :, None], (*shared.shape, q.size))
        chi2 = _chi2(coefficients, v, q, gram)
    parts = coefficients[2:]
    of_line = q - np.einsum("kp,kp->p", v[:2], np.linalg.solve(gram[:2, :2], v[:2]))
    return Combination(
        coefficients=coefficients,
        covariance=covariance,
        chi2=chi2,
        power=chi2 + np.einsum("kp,kl,lp->p", parts, gram[2:, 2:], parts, optimize=True),
        explained=np.maximum(of_line - chi2, 0.0),
    )


def _chi2(coefficients: Array, v: Array, q: Array, gram: Array) -> Array:
    chi2 = q - 2.0 * np.einsum("kp,kp->p", coefficients, v)
    chi2 += np.einsum("kp,kl,lp->p", coefficients, gram, coefficients, optimize=True)
    return np.asarray(np.maximum(chi2, 1e-14 * q))
