"""Non-linear fit of an arctan step and a Gaussian white line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import Edge, FitStatus, launch, read_only

from ._arctan_kernels import N_PARAMETERS, ArctanFit, ArctanLimits, fit_arctan_gauss
from ._window_methods import WINDOW_METHODS, WindowMethod

Array = NDArray[np.float64]
Frame = NDArray[np.float32]

# Starts, one after the other while the fit does not reach a minimum that the noise explains: how far the step lies
# below the half-jump in eV, its width in core-hole widths, the white line's in parts of its distance from the step.
_STARTS = ((0.5, 0.8, 0.4), (2.0, 1.5, 0.5), (0.0, 0.4, 0.3), (4.0, 1.5, 0.7))
# Squared residual over that of the noise from which on it may be another minimum.
_MISFIT = 1.5
# Step of an L3 edge beside its white line, to start from.
_STEP_OF_WHITE_LINE = 0.15


class ArctanGaussMethod:
    """Line, arctan step, Gaussian: ``a + b E + J (1/2 + arctan((E - E0) / w) / pi) + A exp(-(E - g)^2 / 2 s^2)``.

    Least squares by Levenberg-Marquardt. The half-jump estimate of each pixel decides whether there is an edge and
    gives the starting values.

    Parameters
    ----------
    edge : Edge
        Windows.
    """

    name = "arctan_gauss"
    definition = (
        "arctan_gauss: centre of the arctan step in a least-squares fit of line, arctan step and Gaussian "
        "white line."
    )

    def __init__(self, edge: Edge) -> None:
        self._edge = edge
        self._start = WindowMethod(WINDOW_METHODS["half_jump"], edge)
        self.search_ev = edge.half_jump_window_ev[0] - 5.0, edge.white_line_window_ev[1]

    def estimate(
        self, energy_ev: Array, weights: Array, stack: Frame, shape: tuple[int, int] | None
    ) -> tuple[Frame, NDArray[np.uint8]]:
        """Values, shape (8, n_pixels), and status; ``INCOMPLETE`` for pixels with missing frames."""
        values, status = self._start.estimate(energy_ev, weights, stack, shape)
        dof = energy_ev.size - N_PARAMETERS
        wanted = np.isin(status, (FitStatus.OK, FitStatus.NOT_FOUND, FitStatus.UNCERTAIN)) & np.isfinite(
            values[4]
        )
        if dof < 1:
            values[:7, wanted] = np.nan
            status[wanted] = FitStatus.TOO_FEW_FRAMES
            return values, status
        # On an L edge that is the height of the white line.
        jump = values[4] * (_STEP_OF_WHITE_LINE if self._edge.is_by_white_line else 1.0)
        start, found = self._fit(energy_ev, weights, stack, np.where(wanted, jump, np.nan), values)
        noise2 = found.residual / dof
        energy = start[3] + self._centre_ev
        sigma = np.sqrt(np.maximum(found.variance, 0.0) * noise2)
        converged = found.converged
        code = np.full(stack.shape[1], FitStatus.OK, np.uint8)
        code[~((energy >= self.search_ev[0]) & (energy <= self.search_ev[1]))] = FitStatus.NOT_FOUND
        code[~(sigma < 0.5 * (self.search_ev[1] - self.search_ev[0]))] = FitStatus.UNCERTAIN
        code[~(start[2] > 0)] = FitStatus.NOT_FOUND
        code[~converged] = FitStatus.NOT_CONVERGED
        good = wanted & (code == FitStatus.OK)
        values[:7, wanted] = np.nan
        values[2, good] = energy[good]
        values[3, good] = sigma[good]
        values[4, good] = start[2, good]
        values[5, good] = found.residual[good] / _power(
            stack[:, good], weights, start[:2, good], energy_ev - self._centre_ev
        )
        values[6, wanted] = np.sqrt(noise2[wanted])
        status[wanted] = code[wanted]
        return values, status

    def locate(self, energy_ev: Array, weights: Array, spectra: Frame) -> Array:
        """Edge energies of spectra without noise, shape (n_spectra,); NaN where the feature is not there."""
        n = spectra.shape[1]
        if energy_ev.size <= N_PARAMETERS:
            return np.full(n, np.nan)
        half_jump = np.full((8, n), np.nan, np.float32)
        half_jump[2] = self._start.locate(energy_ev, weights, spectra)
        half_jump[7] = spectra.max(axis=0)
        below = energy_ev < self._edge.half_jump_window_ev[0]
        if not below.any() or below.all():
            return np.full(n, np.nan)
        last = spectra[np.argsort(energy_ev)[-3:]].mean(axis=0)
        start, found = self._fit(energy_ev, weights, spectra, last - spectra[below].mean(axis=0), half_jump)
        energy = start[3] + self._centre_ev
        inside = (energy >= self.search_ev[0]) & (energy <= self.search_ev[1])
        return np.where(found.converged & inside & (start[2] > 0), energy, np.nan)

    @property
    def _centre_ev(self) -> float:
        return 0.5 * (self._edge.half_jump_window_ev[0] + self._edge.half_jump_window_ev[1])

    def _fit(
        self, energy_ev: Array, weights: Array, stack: Frame, jump: NDArray[np.floating], half_jump: Frame
    ) -> tuple[Array, ArctanFit]:
        """Parameters, shape (8, n_pixels), and how good they are, from jumps and half-jump energies to start from."""
        x = energy_ev - self._centre_ev
        first, last = (ev - self._centre_ev for ev in self.search_ev)
        width = self._edge.core_width_ev
        jump = jump.astype(np.float64)
        position = np.where(np.isfinite(half_jump[2]), half_jump[2], self._centre_ev) - self._centre_ev
        pre = energy_ev <= max(self._edge.pre_edge_ev[1], energy_ev.min())
        level = stack[pre].mean(axis=0, dtype=np.float64)
        searched = np.flatnonzero((x >= first) & (x <= last))
        if not searched.size:
            searched = np.array([np.argmin(np.abs(x))])
        top = stack[searched].argmax(axis=0)
        peak = np.maximum(x[searched][top], position + width)
        with np.errstate(invalid="ignore"):  # of pixels without light
            height = np.maximum(stack[searched].max(axis=0) - level - jump, 0.1 * jump)
        # From a tenth of the core hole's width up to that of the search window: nothing else is an edge.
        limits = ArctanLimits(
            float(np.log(0.1 * width)), float(np.log(last - first)), float(first), float(last)
        )
        start = np.empty((N_PARAMETERS, jump.size))
        found = ArctanFit(np.full(jump.size, np.inf), np.empty(jump.size), np.zeros(jump.size, np.bool_))
        is_apart = np.zeros(jump.size, np.bool_)
        left = np.flatnonzero(np.isfinite(jump))
        start[:, np.isnan(jump)] = np.nan
        dof = x.size - N_PARAMETERS
        for before_ev, step_width, peak_share in _STARTS:
            own = position[left] - before_ev
            distance = np.maximum(peak[left] - own, width)
            zero = np.zeros(left.size)
            trial = np.stack(
                [
                    level[left], zero, jump[left], own, zero + np.log(step_width * width), height[left], peak[left],
                    np.log(peak_share * distance),
                ]
            )  # fmt: skip
            attempt = ArctanFit(np.empty(left.size), np.empty(left.size), np.empty(left.size, np.bool_))
            frames = stack if left.size == jump.size else np.ascontiguousarray(stack[:, left])
            launch(fit_arctan_gauss, read_only(frames), x, read_only(weights), trial, limits, attempt)
            # A step in the middle of its white line is the minimum of another shape, often a lower one.
            apart = attempt.converged & (trial[6] - trial[3] > width)
            rank, known = attempt.converged + 1 * apart, found.converged[left] + 1 * is_apart[left]
            better = (rank > known) | ((rank == known) & (attempt.residual < found.residual[left]))
            taken = left[better]
            start[:, taken] = trial[:, better]
            is_apart[taken] = apart[better]
            for of_all, of_these in zip(found, attempt, strict=True):
                of_all[taken] = of_these[better]
            misfit = found.residual[left] > _MISFIT * dof * half_jump[6][left].astype(np.float64) ** 2
            left = left[~is_apart[left] | misfit]
            if not left.size:
                break
        return start, found


def _power(stack: Frame, weights: Array, line: Array, offset_ev: Array) -> Array:
    """Squared data with the pre-edge line subtracted."""
    total = np.zeros(stack.shape[1])
    for frame, weight, offset in zip(stack, weights, offset_ev, strict=True):
        total += weight * (frame - line[0] - line[1] * offset / 100.0) ** 2
    return total
