"""Two references learnt from a scan itself, for samples without standards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import Edge, check_energies, check_stack, resolve_edge
from edge_fitting.errors import EdgeFittingError
from edge_fitting.references import ReferenceSeries

Array = NDArray[np.float64]

# Pixels with this part of the highest jumps count, and this many of them at most.
_LEAST_JUMP = 0.3
_MOST_PIXELS = 2048
_FEWEST_PIXELS = 30
# Part of the pixels at either end of the leading component that the iteration starts from.
_ENDS = 0.03
_ITERATIONS = 100
_TOLERANCE = 1e-5
# Weight of the closure among the spectra, whose values are about 1.
_CLOSURE = 10.0
# The leading component stands out of the next by this, or the pixels do not differ.
_STANDS_OUT = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class LearnedReferences:
    """Two end members of a scan, and how far their scale is open.

    Attributes
    ----------
    series : ReferenceSeries
        Two references: 0 is the one of lower edge, 1 that of higher edge.
    soc_systematic : float
        How far a state at an end may be off, were the pure spectra as far beyond those of the purest pixels as the
        absorption stays positive (rotational ambiguity), in parts of the scale.
    warnings : tuple of str
        What the scale means.
    """

    series: ReferenceSeries
    soc_systematic: float
    warnings: tuple[str, ...]


def learn_references(
    energy_ev: ArrayLike, optical_depth: ArrayLike, *, edge: str | Edge = "Ni_K"
) -> LearnedReferences:
    """Learn two references from the pixels of a scan (multivariate curve resolution by alternating least squares).

    Normalised spectra are written as two components with non-negative absorption and non-negative parts that add up
    to one. The iteration starts from the pixels at the two ends of the leading principal component.

    Parameters
    ----------
    energy_ev : array_like, shape (n_energy,)
        Energies in eV, all different.
    optical_depth : array_like, shape (n_energy, rows, cols)
        Optical depth.
    edge : str or Edge
        Edge that was scanned.

    Returns
    -------
    LearnedReferences
        ``fit_stack(..., references=learned.series)`` gives maps on their scale, which is one of the sample itself.

    Raises
    ------
    EdgeFittingError
        For input that cannot be used, too few pixels with an edge, energies that do not reach from below the edge to
        beyond the white line, or pixels that do not differ by more than noise.

    Notes
    -----
    J. Jaumot, R. Gargallo, A. de Juan, R. Tauler, Chemom. Intell. Lab. Syst. 76 (2005) 101.
    """
    which = resolve_edge(edge)
    energies = check_energies(energy_ev, edge=which)
    stack = check_stack(optical_depth, energies.size)
    if np.unique(energies).size != energies.size:
        raise EdgeFittingError(
            "references are learnt from energies that differ: merge repeated frames first."
        )
    order = np.argsort(energies)
    energies = energies[order]
    spectra = _normalised(which, energies, stack.reshape(energies.size, -1)[order])
    ends = _resolve(energies, spectra)
    if not _edge_of(energies, ends[0]) <= _edge_of(energies, ends[1]):
        ends = ends[::-1]
    further = _further(ends)
    systematic = further / (1.0 + 2.0 * further)
    return LearnedReferences(
        series=ReferenceSeries(energies, ends, [0.0, 1.0]),
        soc_systematic=systematic,
        warnings=(
            "the references were learnt from the scan itself: 0 and 1 are its purest pixels, not states of charge, and "
            f"pure spectra may lie beyond them (up to {systematic:.2f} of the scale at its ends); replace them by "
            "standards.",
        ),
    )


def _normalised(edge: Edge, energies: Array, stack: NDArray[np.float32]) -> Array:
    """Spectra of the strong pixels without pre-edge line and with a step of one, shape (n_pixels, n_energy)."""
    below = energies < min(edge.half_jump_window_ev[0], edge.energy_ev)
    above = energies > edge.white_line_window_ev[1]
    if below.sum() < 2 or above.sum() < 2:
        raise EdgeFittingError(
            f"references are learnt from two energies or more below the edge and beyond the white line; the scan has "
            f"{int(below.sum())} and {int(above.sum())}."
        )
    good = np.isfinite(stack).all(axis=0)
    data = stack[:, good].T.astype(np.float64)
    line = np.stack([np.ones_like(energies), (energies - edge.energy_ev) / 100.0])
    data -= (data[:, below] @ np.linalg.pinv(line[:, below])) @ line
    jump = data[:, above].mean(axis=1)
    strong = np.flatnonzero(jump > _LEAST_JUMP * np.percentile(jump, 95)) if jump.size else np.empty(0, int)
    strong = strong[jump[strong] > 0]
    if strong.size < _FEWEST_PIXELS:
        raise EdgeFittingError(
            f"{strong.size} pixels have an edge and every frame: references are learnt from {_FEWEST_PIXELS} or more."
        )
    strong = strong[:: max(1, strong.size // _MOST_PIXELS)]
    return np.asarray(data[strong] / jump[strong, None])


def _resolve(energies: Array, spectra: Array) -> Array:
    """Two components of spectra by alternating least squares, shape (2, n_energy)."""
    from scipy.optimize import nnls

    mean = spectra.mean(axis=0)
    # Noise of the pre-edge line and of the step moves whole spectra, and is no component.
    slope = energies - energies.mean()
    known = np.linalg.qr(np.stack([np.ones_like(mean), slope, mean], axis=1))[0]
    apart = spectra - mean
    apart -= (apart @ known) @ known.T
    scores, strength, _ = np.linalg.svd(apart, full_matrices=False)
    if not strength[0] > _STANDS_OUT * strength[1]:
        raise EdgeFittingError(
            "the pixels do not differ by more than noise, or in more than one way: no two references are learnt from "
            "them; give standards."
        )
    rank = np.argsort(scores[:, 0])
    n = max(5, round(_ENDS * rank.size))
    ends = np.stack([spectra[rank[:n]].mean(axis=0), spectra[rank[-n:]].mean(axis=0)]).clip(0.0)
    before = np.inf
    target = np.hstack([spectra, np.full((len(spectra), 1), _CLOSURE)])
    for _ in range(_ITERATIONS):
        design = np.hstack([ends, np.full((2, 1), _CLOSURE)]).T
        parts = np.stack([nnls(design, row)[0] for row in target])
        parts /= parts.sum(axis=1, keepdims=True)
        ends = np.stack([nnls(parts, column)[0] for column in spectra.T], axis=1)
        left = float(((spectra - parts @ ends) ** 2).sum())
        if before - left < _TOLERANCE * left:
            break
        before = left
    return ends


def _edge_of(energies: Array, spectrum: Array) -> float:
    """Energy at which a normalised spectrum first reaches one half."""
    return float(energies[int(np.argmax(spectrum >= 0.5))] - 1e-3 * spectrum[int(np.argmax(spectrum >= 0.5))])


def _further(ends: Array) -> float:
    """How far the ends may move apart, in parts of their distance, until an absorption above the edge gets negative."""
    apart = ends[1] - ends[0]
    limits = [1.0]
    for end, step in ((ends[0], -apart), (ends[1], apart)):
        falls = (step < -1e-3) & (end > 0.05)
        if falls.any():
            limits.append(float((end[falls] / -step[falls]).min()))
    return min(limits)
