"""Where an edge energy is no measure of the state, and where the references end too soon."""

from __future__ import annotations

import math

import numpy as np

from edge_fitting.base import Edge, FitStatus
from edge_fitting.quality import spread_pixels
from edge_fitting.references import ReferenceSeries
from edge_fitting.series import shift_share
from edge_fitting.stack import Values
from edge_fitting.windows import WINDOW_METHODS

# A shift leaves more than this part (rms) of the change along the series: then the position alone is not the state.
# Measured series: 0.44 to 0.48 for Co oxides, 0.43 for MnO to MnO2, 0.32 for the charge of LiNiO2; 0.14 for one that
# mostly moves.
_MOST_SHAPE = 0.36
# Elements whose K edge changes shape more than position from oxide to oxide.
_SHAPE_CHANGES = ("Co", "Mn")
_POSITIONS = (*WINDOW_METHODS, "arctan_gauss")
# Part of the pixels that may lie beyond the ends of the series, and by how many sigmas a pixel does.
_MOST_OUTSIDE = 0.1
_CLEAR = 3.0
_FEWEST_PIXELS = 20
# Of large maps so many pixels are looked at: their share is known to 0.005.
_LOOKED_AT = 4096


def position_warnings(method: str, edge: Edge, references: ReferenceSeries | None) -> tuple[str, ...]:
    """Say where the position of the edge is not the valence.

    With references it is judged from them: how much of the change from the first to the last is a shift.

    Parameters
    ----------
    method : str
        Name of the estimator.
    edge : Edge
        Edge that was scanned.
    references : ReferenceSeries, optional
        What the fit was made with.

    Returns
    -------
    tuple of str
        One sentence, or none.
    """
    if method not in _POSITIONS and not (method == "series" and references is None):
        return ()
    if references is None:
        if edge.name.partition("_")[0] not in _SHAPE_CHANGES or not edge.name.endswith("_K"):
            return ()
        return (
            f"no references are given, so the map shows the position of the edge ({method}), which is not the valence: "
            f"the {edge.name.replace('_', ' ')} edge changes its shape more than its position between oxides; give "
            "references.",
        )
    if references.coordinate != "soc":
        return ()
    left = math.sqrt(max(1.0 - shift_share(references), 0.0))
    if not left > _MOST_SHAPE:
        return ()
    return (
        f"a shift of the edge leaves {left:.0%} (rms) of the change between the first and the last reference, which is "
        f"of the shape: the edge energy by {method} is not the valence, and uses part of what the spectra tell; method "
        "'series' uses the shape, too.",
    )


def range_warnings(fitted: Values, references: ReferenceSeries | None) -> tuple[str, ...]:
    """Say where many pixels lie beyond the ends of the series, which then covers too narrow a range.

    Parameters
    ----------
    fitted : Values
        Values and status of a fit.
    references : ReferenceSeries, optional
        What the fit was made with.

    Returns
    -------
    tuple of str
        At most one sentence for each end.
    """
    if references is None or references.coordinate != "soc":
        return ()
    values, status = fitted
    looked_at = spread_pixels(status.size, _LOOKED_AT)
    status, soc, sigma = status[looked_at], values[0, looked_at], values[1, looked_at]
    total = int((status <= FitStatus.ABOVE_RANGE).sum())
    if total < _FEWEST_PIXELS:
        return ()
    # Pixels without a value are that far beyond an end that noise does not explain it, where noise is small at all.
    usual = float(np.nanmedian(sigma)) if np.isfinite(sigma).any() else 0.0
    is_far = _CLEAR * usual < 0.5 * abs(references.soc[-1] - references.soc[0])
    ends = (
        (FitStatus.BELOW_RANGE, references.soc[0], -1.0, "below the first"),
        (FitStatus.ABOVE_RANGE, references.soc[-1], 1.0, "above the last"),
    )
    said = []
    for code, end, sign, where in ends:
        beyond = status == code
        clearly = beyond & np.where(np.isnan(soc), is_far, sign * (soc - end) > _CLEAR * np.nan_to_num(sigma))
        if clearly.sum() > _MOST_OUTSIDE * total:
            said.append(
                f"{clearly.sum() / total:.0%} of the pixels lie clearly {where} reference (soc {end:g}): the series "
                "covers too narrow a range, the axis is off, or the material is another; soc is extrapolated there or "
                "missing."
            )
    return tuple(said)
