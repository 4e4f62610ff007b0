"""Half-jump, inflection and white line: plans for a scan, then one kernel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import (
    Edge,
    FitStatus,
    detection_threshold,
    launch,
    needs_neighbours,
    noise_of_differences,
    pool_variance,
    read_only,
)

from ._half_jump_kernels import fit_half_jump
from ._inflection_kernels import fit_inflection
from ._white_line_kernels import fit_white_line
from ._window_records import PreEdgeLine, SearchFrames, WindowFrames, WindowLimits, WindowScan
from ._window_status import INCOMPLETE
from ._windows import WindowPlan, plan_rises, plan_slopes, plan_windows, relative_slope, wide_enough

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# Of so few spectra, bulk spectra for one, the fine structure is looked at: where residuals are larger than the
# differences between neighbouring frames by this factor, they are not noise.
_FEW_SPECTRA = 64
_MISFIT = 2.0
_OWN_NOISE: Array = np.empty(0)
# From here on in the search window an edge is near its top, wherever in the window it is.
_TOP = 0.7


class _Scan(NamedTuple):
    """A scan, and the same as the kernels take it."""

    plan: WindowPlan
    weights: Array
    stack: Frame
    windows: WindowScan


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
            "(linear interpolation); on an L edge half of the height of the white line takes the place of 0.5.",
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
        scan = self._prepare(plan, energy_ev, weights, stack)
        self._launch(scan, plan.dof, _OWN_NOISE, values, status)
        noise = values[6].astype(np.float64)
        if shape is not None and needs_neighbours(plan.dof):
            pooled, noise_dof = pool_variance(values[6], plan.dof, shape)
            if pooled is not None:
                self._launch(scan, noise_dof, pooled, values, status)
        if n_pixels < _FEW_SPECTRA:
            self._refit_misfits(scan, energy_ev, noise, values, status, alone=shape == (1, 1))
        return values, status

    def _refit_misfits(
        self,
        scan: _Scan,
        energy_ev: Array,
        noise: Array,
        values: Frame,
        status: NDArray[np.uint8],
        *,
        alone: bool,
    ) -> None:
        """Fit spectra whose residuals are their fine structure with the noise of differences between frames."""
        complete = np.flatnonzero(np.isfinite(noise))
        variance, dof = noise_of_differences(energy_ev, scan.weights, scan.stack[:, complete])
        if variance is None:
            return
        take = noise[complete] ** 2 > _MISFIT**2 * variance
        if alone:
            take |= dof > scan.plan.dof
        pixels = complete[take]
        if not pixels.size:
            return
        part = scan._replace(stack=read_only(np.ascontiguousarray(scan.stack[:, pixels])))
        own, code = np.empty((8, pixels.size), np.float32), np.empty(pixels.size, np.uint8)
        self._launch(part, dof, variance[take], own, code)
        own[6] = np.sqrt(variance[take])
        values[:, pixels], status[pixels] = own, code

    def locate(self, energy_ev: Array, weights: Array, spectra: Frame) -> Array:
        """Edge energies of spectra without noise, shape (n_spectra,); NaN where the feature is not there.

        Parameters
        ----------
        energy_ev, weights : ndarray, shape (n_energy,)
            Different energies and the weights of their frames.
        spectra : ndarray of float32, shape (n_energy, n_spectra)
            The spectra.
        """
        n = spectra.shape[1]
        plan = plan_windows(energy_ev, weights, self._edge, self.search_ev)
        if plan is None:
            return np.full(n, np.nan)
        values, status = np.empty((8, n), np.float32), np.empty(n, np.uint8)
        scan = self._prepare(plan, energy_ev, weights, spectra)
        self._launch(scan, np.inf, np.zeros(n), values, status)
        return np.asarray(values[2], dtype=np.float64)

    def _prepare(self, plan: WindowPlan, energy_ev: Array, weights: Array, stack: Frame) -> _Scan:
        """Gather what the kernels take."""
        lever_ev = plan.reference_ev - plan.pre_centre_ev
        # What a slope of its own adds to the noise of a pixel; a shared one adds nothing.
        own_slope = 0.0 if plan.shares_slope else plan.pre_slope
        line = PreEdgeLine(
            centre_ev=plan.pre_centre_ev,
            own_slope=float(own_slope),
            level=plan.pre_level,
            slope=plan.pre_slope,
            shared=relative_slope(plan, stack) if plan.shares_slope else float("nan"),
            reference_ev=float(plan.reference_ev),
            post_variance=float((plan.post_level**2).sum()),
        )
        slots = np.full(energy_ev.size, -1)
        slots[plan.inside] = np.arange(plan.inside.size)
        others = np.setdiff1d(np.arange(energy_ev.size), np.concatenate([plan.pre, plan.post]))
        frames = WindowFrames(
            plan.pre, plan.post, others, slots, plan.pre_rule, plan.post_rule, plan.pre_weight, plan.post_weight,
            plan.post_level,
        )  # fmt: skip
        top_ev = (1.0 - _TOP) * self.search_ev[0] + _TOP * self.search_ev[1]
        top = min(int(np.searchsorted(plan.inside_ev, top_ev)), plan.inside.size - 1)
        search = SearchFrames(
            energy_ev=plan.inside_ev,
            weight=plan.inside_weight,
            width_ev=np.gradient(plan.inside_ev),
            top=top,
            top_ev=float(plan.inside_ev[top:].mean()),
        )
        n_top = plan.inside.size - top
        rise_variance = (
            float((1.0 / plan.inside_weight[top:]).sum()) / n_top**2
            + plan.pre_level**2
            + (own_slope * (search.top_ev - plan.pre_centre_ev)) ** 2
        )
        by_white_line = self._edge.is_by_white_line
        above_line = line.post_variance
        if by_white_line:
            # Of the mean of three frames weighted 1, 2, 1.
            above_line = 0.375 / float(plan.inside_weight.min())
            lever_ev = sum(self._edge.white_line_window_ev) / 2.0 - plan.pre_centre_ev
        limits = WindowLimits(
            dof=float(plan.dof),
            detection=0.0,
            step_variance=float(plan.pre_level**2 + (own_slope * lever_ev) ** 2 + above_line),
            rise_variance=float(rise_variance),
            weight_above=float(plan.post_weight.sum()),
            first_ev=float(self.search_ev[0]),
            last_ev=float(self.search_ev[1]),
            n_frames=energy_ev.size,
            by_white_line=by_white_line,
        )
        return _Scan(plan, weights, read_only(stack), WindowScan(frames, line, search, limits))

    def _launch(
        self, scan: _Scan, noise_dof: float, pooled: Array, values: Frame, status: NDArray[np.uint8]
    ) -> None:
        detection = detection_threshold(noise_dof) if np.isfinite(noise_dof) else 0.0
        windows = scan.windows._replace(limits=scan.windows.limits._replace(detection=float(detection)))
        reach_ev = self._estimator.reach_widths * self._edge.core_width_ev
        if self.name == "half_jump":
            rises = plan_rises(scan.plan, reach_ev)
            launch(fit_half_jump, scan.stack, *windows, rises, pooled, values, status)
        elif self.name == "inflection":
            slopes = plan_slopes(scan.plan, reach_ev)
            launch(fit_inflection, scan.stack, *windows, slopes, pooled, values, status)
        else:
            reach = wide_enough(scan.plan, reach_ev)
            launch(fit_white_line, scan.stack, *windows, reach, pooled, values, status)
