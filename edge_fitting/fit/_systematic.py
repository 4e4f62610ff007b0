"""Errors that pixels share: of the references, and of the energy axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edge_fitting.base import Edge, FitStatus
from edge_fitting.references import ReferenceSeries
from edge_fitting.stack import Values

from ._methods import Estimator, StreamingSeries
from ._offset import OffsetChoice, SeriesWithOffset, offset_fields
from ._position import position_warnings, range_warnings


def systematic_fields(
    estimator: Estimator,
    edge: Edge,
    choice: OffsetChoice,
    fitted: Values,
    references: ReferenceSeries | None,
) -> dict[str, Any]:
    """Return the fields of the maps that tell of errors common to all pixels.

    The error of the references is split: its mean over the pixels is ``soc_systematic``, combined in quadrature with
    that of the axis; by how much it differs between states is added to the sigma of each pixel, in place.

    Parameters
    ----------
    estimator : Estimator
        After its fit.
    edge : Edge
        Edge that was scanned.
    choice : {"report", "fit"} or float
        What is done about an offset of the axis.
    fitted : Values
        Of that fit.
    references : ReferenceSeries, optional
        What it was made with; references that do not belong are named in the warnings.
    """
    values, status = fitted
    shared = offset_sigma_ev = 0.0
    error = estimator.reference_error() if isinstance(estimator, StreamingSeries) else None
    if error is not None:
        found = np.flatnonzero((status <= FitStatus.ABOVE_RANGE) & np.isfinite(values[0]))
        if found.size:
            states = values[0, found].astype(np.float64)
            shared, own = error.common(states)
            values[1, found] = np.hypot(values[1, found], own)
            if isinstance(estimator, SeriesWithOffset):
                offset_sigma_ev = estimator.offset_error(error, states)
    fields = offset_fields(estimator, choice, shared, offset_sigma_ev)
    if shared:
        fields["soc_systematic"] = math.hypot(shared, fields.get("soc_systematic") or 0.0)
    if isinstance(estimator, SeriesWithOffset):
        off = bool(fields.get("warnings")) and not fields.get("axis_offset_reason")
        said = estimator.foreign_warnings(values[0], values[4], status, off=off)
        fields["warnings"] = (*fields.get("warnings", ()), *said)
        found_mixture = estimator.mixture
        if math.isfinite(found_mixture.share):
            fields["mixture_share"], fields["mixture_sigma"] = found_mixture.share, found_mixture.sigma
        fields["mixture_reason"] = found_mixture.reason
    fields["warnings"] = (
        *fields.get("warnings", ()),
        *position_warnings(estimator.name, edge, references),
        *range_warnings(fitted, references),
    )
    if references is not None:
        fields["warnings"] = (*references.warnings, *fields.get("warnings", ()))
    return fields
