"""Registration of a whole stack."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from edge_fitting.base import Edge, check_energies, check_stack, resolve_edge
from edge_fitting.references import ReferenceSeries

from ._drift_tracker import SMALLEST_PX
from ._registered_stack import RegisteredStack, untouched
from ._stack_passes import StackPasses
from ._stack_result import stack_result

_NOTHING = (
    "no structure of a sample was found to register on (an empty field, or masks that leave too little): the frames "
    "are left as they were."
)


def register_stack(
    energy_ev: ArrayLike,
    optical_depth: ArrayLike,
    *,
    edge: str | Edge = "Ni_K",
    references: ReferenceSeries | None = None,
) -> RegisteredStack:
    """Find how the sample drifted during a scan, and move every frame back.

    Parameters
    ----------
    energy_ev : array_like, shape (n,)
        Energies in eV, in the order the frames were taken.
    optical_depth : array_like, shape (n, rows, cols)
        Optical depth; NaN marks missing pixels.
    edge : str or Edge
        Edge that is scanned.
    references : ReferenceSeries, optional
        Their modes let the expected image follow the state of charge; none are needed, the spectrum of the field
        itself serves.

    Returns
    -------
    RegisteredStack
        With the frames as they were, and a warning, where there is nothing to register on.

    Raises
    ------
    EdgeFittingError
        For energies or frames that cannot be used.

    Notes
    -----
    A frame is compared, band-passed, with an offset, the image expected at its energy and the mean of the registered
    frames, and the shift is found by Gauss-Newton steps. Passes over the whole stack compare each frame with all others
    but itself. A pattern fixed to the detector is told from the sample by the drift itself and taken out before
    frames are compared, never from the frames that are returned. See the explanation of registration in the docs.
    """
    chosen = resolve_edge(edge)
    energies = check_energies(energy_ev, edge=chosen)
    stack = check_stack(optical_depth, energies.size)
    n, shape = stack.shape[0], (stack.shape[1], stack.shape[2])
    if n == 1:
        return untouched(stack, "a stack of one frame has no drift to find: nothing was registered.")
    if min(shape) < SMALLEST_PX:
        return untouched(
            stack,
            f"frames of {shape[0]} x {shape[1]} pixels are too small to register (at least {SMALLEST_PX} along each "
            "axis): they are left as they were.",
        )
    if not np.isfinite(stack).any():
        return untouched(stack, "no frame has a finite value: nothing was registered.")
    work = StackPasses(energies, stack, references)
    if not work.first_pass():
        return untouched(stack, _NOTHING)
    work.refine()
    if work.is_noise():
        return untouched(stack, _NOTHING)
    work.follow_optics()
    found = stack_result(work)
    if work.is_noise(found.shift_sigma_px[found.registered]):
        return untouched(stack, _NOTHING)
    return found
