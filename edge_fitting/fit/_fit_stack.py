"""A whole stack fitted at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from edge_fitting.base import (
    Edge,
    EdgeMaps,
    check_energies,
    check_shape,
    check_stack,
    check_weights,
    resolve_edge,
)
from edge_fitting.references import ReferenceSeries

from ._maps import as_maps, estimator_of, judged
from ._methods import Method, fit_at_once
from ._offset import OffsetChoice, SeriesWithOffset, check_choice, moved_energies
from ._quality import fit_checked
from ._without_value import without_value


def fit_stack(
    energy_ev: ArrayLike,
    optical_depth: ArrayLike,
    *,
    edge: str | Edge = "Ni_K",
    method: Method = "series",
    references: ReferenceSeries | None = None,
    weights: ArrayLike | None = None,
    axis_offset: OffsetChoice = "report",
) -> EdgeMaps:
    """Fit every pixel of a stack.

    Parameters
    ----------
    energy_ev : array_like, shape (n_energy,)
        Energies in eV, any order, repeats allowed.
    optical_depth : array_like, shape (n_energy, rows, cols)
        Optical depth; float32 is used without a copy. NaN marks missing values.
    edge : str or Edge
        Edge that was scanned.
    method : {"series", "half_jump", "inflection", "white_line", "lcf", "arctan_gauss", "edge_jump"}
        ``series``: most likely position along the reference series (the default, at the statistical limit).
        ``half_jump``: normalised absorption crosses one half. ``inflection``: steepest point. ``white_line``: vertex
        of a parabola through the top. ``lcf``: linear combination of the two end members, calibrated on the members
        between. ``arctan_gauss``: non-linear fit of an arctan step and a Gaussian white line.
    references : ReferenceSeries, optional
        Reference spectra over the energies of the scan. Without them ``soc`` is NaN, and ``series`` moves the
        stack's own mean spectrum.
    weights : array_like, shape (n_energy,), optional
        Weight of each frame, inversely proportional to the variance of its noise. By default that of counting
        statistics, from the optical depth, where the noise of the stack grows with it as counting noise does, with
        references and the method ``series``; otherwise all frames count alike.
    axis_offset : {"report", "fit"} or float
        One offset between the energy axes of scan and references, positive where the scan reads higher, found by
        method ``series``. ``report``: it is told in the maps, with a warning above 0.1 eV, and left in. ``fit``: it
        is taken out. A number (eV) is taken from the energies as it is.

    Returns
    -------
    EdgeMaps

    Raises
    ------
    EdgeFittingError
        For input that cannot be fitted, in one sentence.
    """
    resolved = resolve_edge(edge)
    energies = check_energies(energy_ev, edge=resolved)
    stack = check_stack(optical_depth, energies.size)
    rows, cols = stack.shape[1:]
    shape = check_shape((rows, cols))
    choice = check_choice(axis_offset, method, references)
    estimator = estimator_of(method, resolved, shape, references, choice)
    energies = moved_energies(energies, choice, references)
    # Past the public push, which would copy the stack for the methods that keep frames.
    flat = stack.reshape(energies.size, -1)
    given = None if weights is None else check_weights(weights, energies.size)
    if not isinstance(estimator, SeriesWithOffset):
        weight = np.ones(energies.size) if given is None else given
        fitted = fit_at_once(estimator, energies, flat, weight)
        maps = as_maps(estimator, fitted, resolved, shape, energies.size, choice, references)
        return judged(maps, {}, without_value(maps.status, resolved, energies, None, final=True))
    checked = fit_checked(estimator, energies, flat, given)
    maps = as_maps(estimator, checked.fitted, resolved, shape, checked.n_frames, choice, references)
    pixels = estimator.sample.pixels
    said = without_value(maps.status, resolved, energies, lambda: np.take(flat, pixels, axis=1), final=True)
    return judged(maps, checked.fields, (*checked.warnings, *said))
