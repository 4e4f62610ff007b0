"""State of charge where the composition changes from pixel to pixel: each is read with the references of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError
from edge_fitting.fit import fit_stack
from edge_fitting.references import ReferenceSeries

__all__ = ["ComposedSOC", "CompositionReferences", "fit_composed_soc"]

Array = NDArray[np.float64]

# Compositions between two references at which references are blended; in between the results are.
_LEVELS = 4
_STATES = 9
# Beyond the references by so much a composition is still theirs.
_BEYOND = 0.02


@dataclass(frozen=True, eq=False)
class CompositionReferences:
    """References of one composition.

    Attributes
    ----------
    fraction : float
        Share of the edge's element among the transition metals.
    series : ReferenceSeries
        Spectra of known state of charge.
    name : str
        Of the composition.
    """

    fraction: float
    series: ReferenceSeries
    name: str = ""


@dataclass(frozen=True, eq=False)
class ComposedSOC:
    """A map of the state of charge.

    Attributes
    ----------
    soc, soc_sigma : ndarray, shape (rows, cols)
        State of charge and its standard deviation, that of the composition among it; NaN where there is none.
    supported : ndarray of bool, shape (rows, cols)
        Whether the composition lies between those of the references.
    warnings : tuple of str
        What a reader should know.
    """

    soc: Array
    soc_sigma: Array
    supported: NDArray[np.bool_]
    warnings: tuple[str, ...]


def fit_composed_soc(
    energy_ev: ArrayLike,
    stack: ArrayLike,
    fraction: ArrayLike,
    references: Sequence[CompositionReferences],
    *,
    fraction_sigma: ArrayLike | None = None,
    edge: str = "Ni_K",
    weights: ArrayLike | None = None,
) -> ComposedSOC:
    """Fit the edge of every pixel with references blended for its composition.

    Parameters
    ----------
    energy_ev : array_like, shape (n_energy,)
        Energies.
    stack : array_like, shape (n_energy, rows, cols)
        Fluorescence or optical depth.
    fraction : array_like, shape (rows, cols)
        Share of the edge's element among the transition metals, on the same grid.
    references : sequence of CompositionReferences
        Of two compositions at least.
    fraction_sigma : array_like, shape (rows, cols), optional
        Standard deviation of the fraction.
    edge, weights
        As for :func:`edge_fitting.fit_stack`.

    Raises
    ------
    EdgeFittingError
        For fewer than two compositions, references that share no states, or maps of other shapes.
    """
    values, share = np.asarray(stack, np.float32), np.asarray(fraction, np.float64)
    if values.ndim != 3 or share.shape != values.shape[1:]:
        raise EdgeFittingError(
            f"The composition has the shape {share.shape} and the stack {values.shape}; register them."
        )
    known = sorted(references, key=lambda one: one.fraction)
    if len({one.fraction for one in known}) < 2:
        raise EdgeFittingError("References of two different compositions are needed to blend them.")
    levels = np.unique(
        np.concatenate([np.linspace(a.fraction, b.fraction, _LEVELS) for a, b in pairwise(known)])
    )
    measured = np.isfinite(share) & np.isfinite(values).all(axis=0)
    supported = measured & (share >= levels[0] - _BEYOND) & (share <= levels[-1] + _BEYOND)
    inside = np.clip(np.nan_to_num(share, nan=levels[0]), levels[0], levels[-1])
    lower = np.clip(np.searchsorted(levels, inside, side="right") - 1, 0, levels.size - 2)
    part = (inside - levels[lower]) / (levels[lower + 1] - levels[lower])
    each = _fit_levels(
        np.asarray(energy_ev, np.float64), values, levels, lower, supported, known, edge, weights
    )
    at = (*np.indices(share.shape),)
    low, high = each[0][lower, *at], each[0][lower + 1, *at]
    low_sigma, high_sigma = each[1][lower, *at], each[1][lower + 1, *at]
    soc = (1.0 - part) * low + part * high
    sigma = (1.0 - part) * low_sigma + part * high_sigma
    if fraction_sigma is not None:
        slope = (high - low) / (levels[lower + 1] - levels[lower])
        sigma = np.hypot(sigma, slope * np.nan_to_num(np.asarray(fraction_sigma, np.float64)))
    said = []
    lost = int((measured & ~supported).sum())
    if lost:
        said.append(
            f"{lost} of {int(measured.sum())} pixels have a composition outside of the references ({levels[0]:g} to "
            f"{levels[-1]:g}): their state of charge is not told"
        )
    return ComposedSOC(soc, sigma, supported, tuple(said))


def _fit_levels(
    energy_ev: Array,
    values: NDArray[np.float32],
    levels: Array,
    lower: NDArray[np.intp],
    supported: NDArray[np.bool_],
    known: Sequence[CompositionReferences],
    edge: str,
    weights: ArrayLike | None,
) -> tuple[Array, Array]:
    """Return state and sigma at each level, shape (n_levels, rows, cols); of pixels next to that level."""
    soc, sigma = (np.full((levels.size, *supported.shape), np.nan) for _ in range(2))
    for number, level in enumerate(levels):
        here = supported & ((lower == number) | (lower == number - 1))
        if not here.any():
            continue
        series = _blended(known, float(level))
        maps = fit_stack(
            energy_ev, values[:, here][:, None, :], edge=edge, references=series, weights=weights
        )
        soc[number][here] = maps.soc[0]
        sigma[number][here] = maps.soc_sigma[0]
    return soc, sigma


def _blended(known: Sequence[CompositionReferences], fraction: float) -> ReferenceSeries:
    """Return references of a composition between two."""
    after = int(np.clip(np.searchsorted([one.fraction for one in known], fraction), 1, len(known) - 1))
    a, b = known[after - 1], known[after]
    share = (fraction - a.fraction) / (b.fraction - a.fraction)
    low = max(a.series.soc.min(), b.series.soc.min())
    high = min(a.series.soc.max(), b.series.soc.max())
    if not low < high:
        raise EdgeFittingError(
            "The references of two compositions share no states of charge: they cannot be blended."
        )
    states = np.linspace(low, high, _STATES)
    both = a.series.energy_ev
    energies = both[(both >= b.series.energy_ev[0]) & (both <= b.series.energy_ev[-1])]
    spectra = [one.series.evaluate(energies, states) for one in (a, b)]
    return ReferenceSeries(energies, (1.0 - share) * spectra[0] + share * spectra[1], states)
