"""What was fitted, as the maps that are returned."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from edge_fitting.base import Edge, EdgeMaps
from edge_fitting.references import ReferenceSeries
from edge_fitting.stack import Values

from ._methods import Estimator, JumpStack, Method, make_estimator
from ._offset import OffsetChoice, SeriesWithOffset
from ._systematic import systematic_fields


def judged(maps: EdgeMaps, fields: dict[str, Any], warnings: tuple[str, ...]) -> EdgeMaps:
    """Add what was found about the frames."""
    if "reduced_chi2" in fields:
        fields = {**fields, "reduced_chi2": fields["reduced_chi2"].reshape(maps.shape)}
    return replace(maps, **fields, warnings=(*maps.warnings, *warnings))


def estimator_of(
    method: Method,
    edge: Edge,
    shape: tuple[int, int],
    references: ReferenceSeries | None,
    choice: OffsetChoice,
) -> Estimator:
    """Return the estimator of a method; the series with references looks for the offset of the axis, too."""
    if method == "series" and isinstance(references, ReferenceSeries):
        return SeriesWithOffset(shape, references, apply=choice == "fit", search=isinstance(choice, str))
    return make_estimator(method, edge, shape, references)


def as_maps(
    estimator: Estimator,
    fitted: Values,
    edge: Edge,
    shape: tuple[int, int],
    n_frames: int,
    choice: OffsetChoice,
    references: ReferenceSeries | None,
) -> EdgeMaps:
    """Give values and statuses the shape of a frame, with what is shared by all pixels beside them."""
    shared = systematic_fields(estimator, edge, choice, fitted, references)
    values, status = fitted
    sigma = estimator.jump_sigma if isinstance(estimator, JumpStack) else None
    soc, soc_sigma, energy, energy_sigma, jump, goodness, noise, highest = (v.reshape(shape) for v in values)
    return EdgeMaps(
        soc=soc,
        soc_sigma=soc_sigma,
        edge_energy_ev=energy,
        edge_energy_sigma_ev=energy_sigma,
        edge_jump=jump,
        goodness=goodness,
        status=status.reshape(shape),
        noise=noise,
        optical_depth=highest,
        edge=edge.name,
        method=estimator.name,
        definition=estimator.definition,
        n_frames=n_frames,
        edge_jump_sigma=None if sigma is None else sigma.reshape(shape),
        **shared,
    )
