"""What to say of a map in which no pixel has a value."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import Edge, FitStatus

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# Noise alone gives no more pixels a value, and references of another edge or axis no more of those with a step.
_BY_NOISE, _BY_CHANCE = 2e-4, 5e-3
_LEAST_STEPS = 0.02
_BELOW_EV, _ABOVE_EV = -10.0, 15.0
_FEWEST_AROUND = 3
_LEAST_Z = 8.0
_MANY = 0.5


def without_value(
    status: NDArray[np.uint8],
    edge: Edge,
    energy_ev: Array,
    sample: Callable[[], Frame] | None,
    *,
    final: bool,
) -> tuple[str, ...]:
    """Say in one sentence why next to no pixel has a value.

    Parameters
    ----------
    status : ndarray of uint8
        Of all pixels.
    edge : Edge
        Edge that is scanned.
    energy_ev : ndarray, shape (n_frames,)
        Energies of the frames in the fit.
    sample : callable or None
        Gives the optical depth of some pixels, shape (n_frames, n), where that is at hand.
    final : bool
        Whether no more frames come; until then, lack of frames is no matter of the map.
    """
    n = status.size
    with_value = np.count_nonzero(status <= FitStatus.ABOVE_RANGE)
    if not n or with_value > _BY_CHANCE * n or not energy_ev.size:
        return ()
    counts = np.bincount(status.reshape(-1), minlength=max(FitStatus) + 1)
    from_edge = energy_ev - edge.energy_ev
    below, above = from_edge < _BELOW_EV, from_edge > _ABOVE_EV
    if counts[FitStatus.NO_DATA] == n:
        return (
            "no pixel has a finite value in any frame: masks, dead areas or flat fields without light leave nothing to "
            "fit.",
        )
    if counts[FitStatus.TOO_FEW_FRAMES] > _MANY * n:
        if not final:
            return ()
        return (
            f"{energy_ev.size} frames from {energy_ev.min():.1f} to {energy_ev.max():.1f} eV ({below.sum()} below the "
            f"edge, {(~below & ~above).sum()} at it, {above.sum()} above) do not determine the fit of any pixel: "
            "measure on both sides of the edge.",
        )
    if min(below.sum(), above.sum()) < _FEWEST_AROUND or counts[FitStatus.NO_EDGE] <= _MANY * n:
        return ()
    if sample is not None and _steps(sample(), below, above):
        return (
            "pixels absorb more above the edge than below, and next to none has a value: no spectrum of the references "
            "has its edge there; look at the energy axes of scan and references (some eV apart?) and at the material.",
        )
    if with_value > _BY_NOISE * n:
        return ()
    return (
        "no pixel shows an edge: the sample is out of the field in every frame, its element is another, or masks leave "
        "none of it.",
    )


def _steps(sample: Frame, below: NDArray[np.bool_], above: NDArray[np.bool_]) -> bool:
    """Whether many pixels have a step that stands out of the scatter of their frames."""
    with np.errstate(invalid="ignore"):
        lower, upper = sample[below].astype(np.float64), sample[above].astype(np.float64)
        rise = upper.mean(axis=0) - lower.mean(axis=0)
        sigma = np.sqrt(upper.var(axis=0, ddof=1) / above.sum() + lower.var(axis=0, ddof=1) / below.sum())
        steps = rise > _LEAST_Z * sigma
    known = np.isfinite(rise)
    return bool(known.any() and np.mean(steps[known]) > _LEAST_STEPS)
