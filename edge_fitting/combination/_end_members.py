"""Linear combination of the two end members of a series, calibrated on the members between."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_fitting.base import FitStatus, detection_threshold
from edge_fitting.references import (
    AnchorCalibration,
    ReferenceSeries,
    energies_around_edge,
    half_jump_energies,
)
from edge_fitting.series import (
    MARGIN,
    N_NODES,
    RANGE_TOLERANCE,
    WIDEST,
)
from edge_fitting.sums import SufficientStatistics

from ._lcf import determined, groups, line_and, no_fit_status, solve

Array = NDArray[np.float64]

# States between two references that calibrate the fraction: the curve bends where energies are far apart.
_PER_INTERVAL = 8


class EndMemberFit:
    """Fraction of the last member of a series in each pixel, and what it means.

    The fraction found by the same fit on the members between calibrates fraction against state of charge, because a
    series is not a mixture of its ends. Which fraction that is depends on the energies: those of the scan count.

    Parameters
    ----------
    series : ReferenceSeries
        Two or more references.
    """

    def __init__(self, series: ReferenceSeries) -> None:
        self.series = series
        n = _PER_INTERVAL * (series.states.size - 1) + 1
        self._states = np.interp(
            np.linspace(0.0, 1.0, n), np.linspace(0.0, 1.0, series.states.size), series.states
        )
        nodes = np.linspace(-MARGIN, 1.0 + MARGIN, N_NODES)
        fine = energies_around_edge(series.energy_ev, series.edge_ev)
        first, last = series.evaluate(fine, [series.soc[0], series.soc[-1]])
        mixtures = np.outer(1.0 - nodes, first) + np.outer(nodes, last)
        self._nodes = nodes
        self._edge_ev = half_jump_energies(fine, mixtures)
        self._edge_slope = np.gradient(self._edge_ev, nodes)

    @property
    def n_functions(self) -> int:
        """Basis functions: line and two ends."""
        return 4

    def at(self, energy_ev: Array) -> Array:
        """Basis functions at some energies, shape (n_energy, 4)."""
        self.series.check_covers(energy_ev)
        spectra = self.series.evaluate(energy_ev, [self.series.soc[0], self.series.soc[-1]])
        return line_and(energy_ev, spectra, self.series.edge_ev)

    def no_products(self) -> Array:
        """Return the products of no frames, see `products`."""
        return np.zeros((self.n_functions, self._states.size))

    def products(self, energy_ev: Array, weight: Array) -> Array:
        """Weighted products of the basis functions with spectra along the series, summed over frames.

        Parameters
        ----------
        energy_ev, weight : ndarray, shape (n_frames,)
            Energies and weights of the frames.
        """
        spectra = self.series.evaluate(energy_ev, self._states)
        return np.asarray(np.einsum("fk,sf->ks", self.at(energy_ev) * weight[:, None], spectra))

    def _calibrated(self, gram: Array, products: Array) -> AnchorCalibration:
        """Return what the fractions found in this scan mean."""
        weights = np.linalg.solve(gram, products)[2:]
        fractions = weights[1] / weights.sum(axis=0)
        # Members out of order cannot calibrate a monotone curve; the ends are exact.
        order = np.flatnonzero(np.diff(np.maximum.accumulate(fractions), prepend=-np.inf) > 1e-6)
        order = np.unique(np.r_[order[fractions[order] < 1.0 - 1e-6], fractions.size - 1])
        return AnchorCalibration(fractions[order], self._states[order])

    def fit(
        self, statistics: SufficientStatistics, products: Array
    ) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Fit every pixel.

        Parameters
        ----------
        statistics : SufficientStatistics
            Sums of the frames so far.
        products : ndarray, shape (4, n_states)
            Of the same frames, see `products`.

        Returns
        -------
        values : ndarray of float32, shape (8, n_pixels)
            In the order of :class:`~edge_fitting.EdgeMaps`.
        status : ndarray of uint8, shape (n_pixels,)
        """
        status = no_fit_status(statistics)
        values = np.full((8, statistics.n_pixels), np.nan, np.float32)
        values[7] = np.where(statistics.highest > -np.inf, statistics.highest, np.nan)
        calibration = None
        for pixels, gram, n_frames in groups(statistics):
            dof = n_frames - 4
            if dof < 1 or not determined(gram):
                continue
            if calibration is None:
                whole = statistics.gram
                calibration = self._calibrated(whole if determined(whole) else gram, products)
            fresh = status[pixels] == FitStatus.TOO_FEW_FRAMES
            self._fit_group(
                calibration, statistics.sums[:, pixels[fresh]], gram, dof, pixels[fresh], values, status
            )
            clipped = (statistics.at_highest[pixels] >= 4) & (statistics.at_highest[pixels] >= 0.1 * n_frames)
            stuck = pixels[fresh & clipped & (values[5, pixels] > 1e-6)]
            values[:7, stuck] = np.nan
            status[stuck] = FitStatus.SATURATED
        return values, status

    def _fit_group(
        self,
        calibration: AnchorCalibration,
        sums: Array,
        gram: Array,
        dof: int,
        pixels: NDArray[np.int64],
        values: NDArray[np.float32],
        status: NDArray[np.uint8],
    ) -> None:
        solution = solve(sums, gram, "none")
        noise2 = solution.chi2 / dof
        low, high = solution.coefficients[2:]
        jump = low + high
        covariance = solution.covariance[2:, 2:, 0] if pixels.size else np.zeros((2, 2))
        significant = jump**2 > detection_threshold(dof) * covariance.sum() * noise2
        with np.errstate(invalid="ignore", divide="ignore"):
            fraction = high / jump
            lever = np.stack([-fraction, 1.0 - fraction]) / jump
        sigma = np.sqrt(np.einsum("kp,kl,lp->p", lever, covariance, lever) * noise2)
        soc, soc_sigma = calibration(fraction, sigma)
        span = self.series.soc[-1] - self.series.soc[0]
        tolerance = RANGE_TOLERANCE * span
        code = np.full(pixels.size, FitStatus.OK, np.uint8)
        code[soc < self.series.soc[0] - tolerance] = FitStatus.BELOW_RANGE
        code[soc > self.series.soc[-1] + tolerance] = FitStatus.ABOVE_RANGE
        code[~(soc_sigma < WIDEST * span)] = FitStatus.UNCERTAIN
        code[~significant] = FitStatus.NO_EDGE
        code[significant & (jump < 0)] = FitStatus.INVERTED
        edge = np.isin(code, (FitStatus.NO_EDGE, FitStatus.INVERTED), invert=True)
        inside = edge & (code != FitStatus.UNCERTAIN) & (fraction >= -MARGIN) & (fraction <= 1.0 + MARGIN)
        at = np.clip(np.nan_to_num(fraction), self._nodes[0], self._nodes[-1])
        energy_sigma = np.abs(np.interp(at, self._nodes, self._edge_slope)) * sigma
        rows = (
            (inside, soc),
            (inside, soc_sigma),
            (inside, np.interp(at, self._nodes, self._edge_ev)),
            (inside, energy_sigma),
            (edge, jump),
            (edge, solution.chi2 / np.maximum(solution.power, 1e-300)),
            (np.ones_like(edge), np.sqrt(noise2)),
        )
        for row, (where, value) in enumerate(rows):
            values[row, pixels] = np.where(where, value, np.nan)
        status[pixels] = code
