"""Half-jump, inflection and white line: plans for a scan, then one kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import (
    Edge,
    FitStatus,
    detection_threshold,
    launch,
    needs_neighbours,
    pool_variance,
    read_only,
)

from ._window_kernels import INCOMPLETE, fit_half_jump, fit_inflection, fit_white_line
from ._windows import WindowPlan, plan_slopes, plan_windows, relative_slope, wide_enough

Array = NDArray[np.float64]
Frame = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class WindowEstimator:
    """Name, meaning and support of an estimator.

    ``reach_widths`` is the half-width of the local parabola in core-hole widths, below which no feature is narrower.
    """

    name: str
    definition: str
    reach_widths: float


WINDOW_METHODS: Mapping[str, WindowEstimator] = MappingProxyType(
    {
        "half_jump": WindowEstimator(
            "half_jump",
            "half_jump: absorption, normalised by pre-edge and post-edge line, crosses 0.5 on the main rise "
            "(linear interpolation).",
            1.5,
        ),
        "inflection": WindowEstimator(
            "inflection",
            "inflection: maximum of the derivative of the absorption on the main rise (local parabolas, vertex of the "
            "three highest slopes).",
            1.5,
        ),
        "white_line": WindowEstimator(
            "white_line",
            "white_line: vertex of the parabola around the top of the white line, pre-edge line subtracted.",
            3.0,
        ),
    }
)


def _search_window(method: str, edge: Edge) -> tuple[float, float]:
    if method == "half_jump":
        return edge.half_jump_window_ev
    if method == "white_line":
        return edge.white_line_window_ev
    # The steepest point of an oxide may lie well above the half-jump, on the flank of the white line.
    return edge.half_jump_window_ev[0], edge.white_line_window_ev[1]


class WindowMethod:
    """One of the window estimators on one edge.

    Parameters
    ----------
    estimator : WindowEstimator
        Which.
    edge : Edge
        Windows.
    """

    def __init__(self, estimator: WindowEstimator, edge: Edge) -> None:
        self.name = estimator.name
        self.definition = estimator.definition
        self.search_ev = _search_window(estimator.name, edge)
        self._estimator = estimator
        self._edge = edge

    def estimate(
        self, energy_ev: Array, weights: Array, stack: Frame, shape: tuple[int, int] | None
    ) -> tuple[Frame, NDArray[np.uint8]]:
        """Values, shape (8, n_pixels), and status; ``INCOMPLETE`` for pixels with missing frames."""
        n_pixels = stack.shape[1]
        values = np.empty((8, n_pixels), np.float32)
        status = np.empty(n_pixels, np.uint8)
        plan = plan_windows(energy_ev, weights, self._edge, self.search_ev)
        if plan is None:
            values[:7] = np.nan
            complete = np.isfinite(stack).all(axis=0)
            with np.errstate(invalid="ignore"):
                values[7] = np.where(complete, stack.max(axis=0), np.nan)
            status[:] = np.where(complete, FitStatus.TOO_FEW_FRAMES, INCOMPLETE)
            return values, status
        lever = plan.reference_ev - plan.pre_centre_ev
        post_variance = float((plan.post_level**2).sum())
        shared = relative_slope(plan, stack) if plan.shares_slope else np.nan
        # What a slope of its own adds to the noise of a pixel; a shared one adds nothing.
        own_slope = 0.0 if plan.shares_slope else plan.pre_slope
        line = np.array(
            [
                plan.pre_centre_ev,
                own_slope,
                plan.pre_level,
                plan.reference_ev,
                post_variance,
                plan.pre_slope,
                shared,
            ]
        )
        slots = np.full(energy_ev.size, -1)
        slots[plan.inside] = np.arange(plan.inside.size)
        others = np.setdiff1d(np.arange(energy_ev.size), np.concatenate([plan.pre, plan.post]))
        windows = (
            plan.pre, plan.post, others, slots, plan.pre_rule, plan.post_rule, plan.pre_weight, plan.post_weight,
            plan.post_level,
        )  # fmt: skip
        search = np.stack([plan.inside_ev, plan.inside_weight, np.gradient(plan.inside_ev)])
        step_variance = plan.pre_level**2 + (own_slope * lever) ** 2 + post_variance

        def fit(noise_dof: float, pooled: Array) -> None:
            limits = np.array(
                [
                    plan.dof,
                    detection_threshold(noise_dof),
                    step_variance,
                    plan.post_weight.sum(),
                    *self.search_ev,
                    energy_ev.size,
                ]
            )
            self._launch(plan, (read_only(stack), windows, line, search), (limits, pooled, values, status))

        fit(plan.dof, np.zeros(1))
        if shape is not None and needs_neighbours(plan.dof):
            pooled, noise_dof = pool_variance(values[6], plan.dof, shape)
            if pooled is not None:
                fit(noise_dof, pooled)
        return values, status

    def _launch(self, plan: WindowPlan, data: tuple[Any, ...], outcome: tuple[Any, ...]) -> None:
        reach_ev = self._estimator.reach_widths * self._edge.core_width_ev
        if self.name == "half_jump":
            launch(fit_half_jump, *data, *outcome)
        elif self.name == "inflection":
            local = plan_slopes(plan, reach_ev)
            launch(fit_inflection, *data, (local.start, local.count, local.slope), local.covariance, *outcome)
        else:
            launch(fit_white_line, *data, wide_enough(plan, reach_ev), *outcome)
