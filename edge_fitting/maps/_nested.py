"""Members in groups: how much the groups differ, and the members of one group, with the errors of the members known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_fitting.errors import EdgeFittingError

from ._intrinsic_spread import spread_sigma

Array = NDArray[np.float64]
_STARTS = (0.05, 0.5)


@dataclass(frozen=True, slots=True)
class NestedSpread:
    """Spreads of a nested random-effects model.

    Parameters
    ----------
    mean, mean_sigma : float
        Generalised least-squares mean.
    between_members, between_members_sigma : float
        Standard deviation of the members of a group beyond their errors; NaN where no group has two.
    between_groups, between_groups_sigma : float
        Standard deviation of the groups; NaN for one group. Of groups of one member each, all that their errors leave.
    """

    mean: float
    mean_sigma: float
    between_members: float
    between_members_sigma: float
    between_groups: float
    between_groups_sigma: float


def nested_spread(values: Sequence[Array], errors: Sequence[Array]) -> NestedSpread:
    """Estimate both spreads by restricted maximum likelihood, not below 0.

    Parameters
    ----------
    values, errors : sequence of ndarray, each (n_members,)
        Of each group; groups without members are passed over.

    Raises
    ------
    EdgeFittingError
        If there is no member.
    """
    from scipy.optimize import minimize

    groups = [(value, error) for value, error in zip(values, errors, strict=True) if value.size]
    if not groups:
        raise EdgeFittingError(
            "no particle has a mean with an error: check the maps, their sigmas and labels."
        )
    has_members = any(value.size > 1 for value, _ in groups)
    has_groups = len(groups) > 1
    every = np.concatenate([value for value, _ in groups])
    scale = float(np.var(every)) or float(np.mean(np.concatenate([error for _, error in groups]) ** 2)) or 1.0
    free = [has_members, has_groups]

    def both(point: Array) -> tuple[float, float]:
        held = iter(point)
        members, between = (float(next(held)) * scale if is_free else 0.0 for is_free in free)
        return members, between

    best = np.zeros(sum(free))
    if best.size:
        found = [
            minimize(
                lambda point: _cost(groups, *both(point)),
                np.full(best.size, start),
                method="L-BFGS-B",
                bounds=[(0.0, None)] * best.size,
            )
            for start in _STARTS
        ]
        best = min(found, key=lambda one: float(one.fun)).x
    members, between = both(best)
    ones, weighted = np.sum([_sums(*group, members, between)[:2] for group in groups], axis=0)
    members_variance, between_variance = _variances(groups, members, between)
    return NestedSpread(
        mean=float(weighted / ones),
        mean_sigma=float(np.sqrt(1.0 / ones)),
        between_members=float(np.sqrt(members)) if has_members else float("nan"),
        between_members_sigma=spread_sigma(members, members_variance) if has_members else float("nan"),
        between_groups=float(np.sqrt(between)) if has_groups else float("nan"),
        between_groups_sigma=spread_sigma(between, between_variance) if has_groups else float("nan"),
    )


def _sums(value: Array, error: Array, members: float, between: float) -> tuple[float, float, float, float]:
    """Return ``1' V^-1 1``, ``1' V^-1 y``, ``y' V^-1 y`` and ``log det V`` of a group, V its covariance."""
    variance = np.maximum(error**2 + members, 1e-300)
    weight = 1.0 / variance
    total = float(weight.sum())
    shrunk = 1.0 / (1.0 + between * total)
    first, second = float(np.sum(weight * value)), float(np.sum(weight * value**2))
    log_det = float(np.log(variance).sum()) - float(np.log(shrunk))
    return total * shrunk, first * shrunk, second - between * first**2 * shrunk, log_det


def _cost(groups: Sequence[tuple[Array, Array]], members: float, between: float) -> float:
    """Return minus twice the restricted log likelihood."""
    ones, first, second, log_det = np.sum(
        [_sums(*group, members, between) for group in groups], axis=0
    ).tolist()
    return float(log_det + np.log(ones) + second - first**2 / ones)


def _variances(groups: Sequence[tuple[Array, Array]], members: float, between: float) -> tuple[float, float]:
    """Return the variances of both estimated variances, from the expected information; infinite for what is not told.

    What the mean costs is taken off as one of the groups, or of the members of the only one.
    """
    by_members = by_both = by_groups = 0.0
    for _, error in groups:
        weight = 1.0 / np.maximum(error**2 + members, 1e-300)
        total = float(weight.sum())
        shrink = between / (1.0 + between * total)
        square = float(np.sum(weight**2))
        by_members += square - 2.0 * shrink * float(np.sum(weight**3)) + (shrink * square) ** 2
        by_both += square * (1.0 - shrink * total) ** 2
        by_groups += (total * (1.0 - shrink * total)) ** 2
    n_groups, n_members = len(groups), sum(value.size for value, _ in groups)
    cost = (n_groups - 1) / n_groups
    if n_groups == 1:
        return 2.0 / (by_members * (n_members - 1) / n_members) if n_members > 1 else float("inf"), float(
            "inf"
        )
    if n_members == n_groups:
        return float("inf"), 2.0 / (by_groups * cost)
    determinant = max(by_members * by_groups - by_both**2, 1e-12 * by_members * by_groups)
    return 2.0 * by_groups / determinant, 2.0 * by_members / determinant / cost
