"""Non-linear fit of an arctan step and a Gaussian white line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import Edge, FitStatus, launch, read_only

from ._arctan_kernels import N_PARAMETERS, fit_arctan_gauss
from ._window_methods import WINDOW_METHODS, WindowMethod

Array = NDArray[np.float64]
Frame = NDArray[np.float32]


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
        wanted = np.isin(status, (FitStatus.OK, FitStatus.NOT_FOUND, FitStatus.UNCERTAIN))
        if dof < 1:
            values[:7, wanted] = np.nan
            status[wanted] = FitStatus.TOO_FEW_FRAMES
            return values, status
        jump = np.where(wanted, values[4], np.nan).astype(np.float64)
        centre = 0.5 * sum(self._edge.half_jump_window_ev)
        position = np.where(np.isfinite(values[2]), values[2], centre) - centre
        top = 0.5 * sum(self._edge.white_line_window_ev) - centre
        width = self._edge.core_width_ev
        pre = (energy_ev >= self._edge.pre_edge_ev[0]) & (energy_ev <= self._edge.pre_edge_ev[1])
        zero = np.zeros_like(jump)
        start = np.stack(
            [
                stack[pre].mean(axis=0, dtype=np.float64),
                zero,
                jump,
                position,
                zero + np.log(width),
                np.maximum(values[7] - stack[pre].mean(axis=0) - jump, 0.1 * jump),
                zero + top,
                zero + np.log(2.0 * width),
            ]
        )
        # From a tenth of the core hole's width up to that of the search window: nothing else is an edge.
        widths = np.log([0.1 * width, self.search_ev[1] - self.search_ev[0]])
        found = np.empty((3, stack.shape[1]))
        launch(
            fit_arctan_gauss, read_only(stack), energy_ev - centre, read_only(weights), start, widths, found
        )
        noise2 = found[0] / dof
        energy = start[3] + centre
        sigma = np.sqrt(np.maximum(found[1], 0.0) * noise2)
        converged = found[2] > 0
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
        values[5, good] = found[0, good] / _power(
            stack[:, good], weights, start[:2, good], energy_ev - centre
        )
        values[6, wanted] = np.sqrt(noise2[wanted])
        status[wanted] = code[wanted]
        return values, status


def _power(stack: Frame, weights: Array, line: Array, offset_ev: Array) -> Array:
    """Squared data with the pre-edge line subtracted."""
    total = np.zeros(stack.shape[1])
    for frame, weight, offset in zip(stack, weights, offset_ev, strict=True):
        total += weight * (frame - line[0] - line[1] * offset / 100.0) ** 2
    return total
