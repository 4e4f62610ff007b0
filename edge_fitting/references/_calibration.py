"""From edge energy to valence, state of charge or lithium content, with what is uncertain carried along."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import EdgeMaps
from edge_fitting.errors import EdgeFittingError

from ._interpolation import hermite, limit_slopes, three_point_slopes

Array = NDArray[np.float64]
Kind = Literal["linear", "monotone"]

# Beyond the anchors by more than this part of their range there is no value any more, as in the series fit.
_REACH = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class CalibratedMap:
    """Values read off a calibration curve.

    Parameters
    ----------
    value : ndarray of float64
        Converted values; NaN where there was none or where it lies beyond the anchors by more than a quarter of
        their range.
    sigma : ndarray of float64
        Standard deviation from the measurement of each value: differs from pixel to pixel at random.
    anchor_sigma : ndarray of float64
        Standard deviation from the anchors: shifts neighbouring values together, averaging does not reduce it.
    outside : ndarray of bool
        Beyond the first or last anchor: the value is extrapolated along a straight line, or missing.
    """

    value: Array
    sigma: Array
    anchor_sigma: Array
    outside: NDArray[np.bool_]

    @property
    def total_sigma(self) -> Array:
        """Both standard deviations added in squares."""
        return np.hypot(self.sigma, self.anchor_sigma)


class AnchorCalibration:
    """A curve through anchors, from one quantity to another, that carries uncertainties along.

    Chain two to go from edge energy to valence and on to lithium content: give the second the values of the
    first and their ``total_sigma``.

    Parameters
    ----------
    measured : array_like, shape (n,)
        What is measured on the anchors, such as edge energies of compounds of known valence; n >= 2, all
        different.
    known : array_like, shape (n,)
        What is known of them, such as valence, state of charge or lithium content.
    kind : {"linear", "monotone"}
        A straight line by least squares (weighted with the anchors' sigmas when every anchor has one), or a
        smooth monotone curve through all anchors, straight beyond the ends.
    measured_sigma, known_sigma : array_like, shape (n,), optional
        Standard deviation of each anchor; zero by default. A straight line through three or more anchors without
        sigmas takes them from its residuals.

    Raises
    ------
    EdgeFittingError
        For fewer than two anchors, values that are not finite, repeated anchors, or ``monotone`` anchors that
        turn round.
    """

    def __init__(
        self,
        measured: ArrayLike,
        known: ArrayLike,
        *,
        kind: Kind = "monotone",
        measured_sigma: ArrayLike | None = None,
        known_sigma: ArrayLike | None = None,
    ) -> None:
        x = np.atleast_1d(np.asarray(measured, dtype=np.float64))
        y = np.atleast_1d(np.asarray(known, dtype=np.float64))
        if x.ndim != 1 or x.shape != y.shape:
            raise EdgeFittingError("anchors need as many measured values as known ones.")
        if x.size < 2:
            raise EdgeFittingError("a calibration needs at least two anchors.")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise EdgeFittingError("an anchor is not finite.")
        if np.unique(x).size != x.size:
            raise EdgeFittingError("two anchors have the same measured value: average them.")
        if kind not in ("linear", "monotone"):
            raise EdgeFittingError(f"kind must be 'linear' or 'monotone', not {kind!r}.")
        order = np.argsort(x)
        self.kind: Kind = kind
        self.measured: Array = x[order]
        self.known: Array = y[order]
        steps = np.diff(self.known)
        if kind == "monotone" and not ((steps > 0).all() or (steps < 0).all()):
            raise EdgeFittingError(
                "the anchors are not monotone: use kind='linear' or drop the one that is off."
            )
        self._variance: Array = self._anchor_variance(
            _check_sigma(measured_sigma, "measured_sigma", x.size)[order],
            _check_sigma(known_sigma, "known_sigma", x.size)[order],
        )

    def __call__(self, value: ArrayLike, sigma: ArrayLike | None = None) -> tuple[Array, Array]:
        """Convert values.

        Parameters
        ----------
        value : array_like
            Measured values; NaN stays NaN.
        sigma : array_like, optional
            Their standard deviations; zero by default.

        Returns
        -------
        converted, converted_sigma : ndarray
            Of the shape of ``value``, beyond the anchors along a straight line. The sigma holds that of the
            value, times the slope of the curve, and that of the anchors, added in squares.
        """
        x = np.asarray(value, dtype=np.float64)
        converted, own, anchors = self._convert(x, sigma)
        return converted.reshape(x.shape), np.hypot(own, anchors).reshape(x.shape)

    def convert(self, value: ArrayLike | EdgeMaps, sigma: ArrayLike | None = None) -> CalibratedMap:
        """Convert values or the edge energies of maps, and flag what lies outside of the anchors.

        Parameters
        ----------
        value : array_like or EdgeMaps
            Measured values, or maps of which ``edge_energy_ev`` and ``edge_energy_sigma_ev`` are taken.
        sigma : array_like, optional
            Standard deviations of the values; zero by default, those of the maps for maps.

        Returns
        -------
        CalibratedMap
            Arrays of the shape of ``value``.

        Raises
        ------
        EdgeFittingError
            If the shape of ``sigma`` does not match.
        """
        if isinstance(value, EdgeMaps):
            sigma = value.edge_energy_sigma_ev if sigma is None else sigma
            value = value.edge_energy_ev
        x = np.asarray(value, dtype=np.float64)
        converted, own, anchors = self._convert(x, sigma)
        at = x.ravel()
        reach = _REACH * float(np.ptp(self.measured))
        low, high = float(self.measured[0]), float(self.measured[-1])
        far = (at < low - reach) | (at > high + reach)
        for array in (converted, own, anchors):
            array[far] = np.nan
        return CalibratedMap(
            value=converted.reshape(x.shape),
            sigma=own.reshape(x.shape),
            anchor_sigma=anchors.reshape(x.shape),
            outside=((at < low) | (at > high)).reshape(x.shape),
        )

    def _convert(self, x: Array, sigma: ArrayLike | None) -> tuple[Array, Array, Array]:
        at = x.ravel()
        converted, slope = self._curve(self.known, at)
        width = np.zeros(x.shape) if sigma is None else np.asarray(sigma, dtype=np.float64)
        try:
            own = np.abs(slope) * np.broadcast_to(width, x.shape).ravel()
        except ValueError:
            raise EdgeFittingError(f"sigma has shape {width.shape} but the values have {x.shape}.") from None
        variance = np.where(np.isfinite(at), 0.0, np.nan)
        for k in np.flatnonzero(self._variance):
            variance += self._sensitivity(int(k), at) ** 2 * self._variance[k]
        return converted, own, np.sqrt(variance)

    def _anchor_variance(self, measured_sigma: Array, known_sigma: Array) -> Array:
        """Variance of each anchor along the known quantity."""
        self._weights = np.ones(self.measured.size)
        # An anchor that is off along the measured axis is off along the other by the local slope.
        local = self._curve(self.known, self.measured)[1]
        variance = (local * measured_sigma) ** 2 + known_sigma**2
        if self.kind == "linear":
            if (variance > 0).all():
                self._weights = 1.0 / variance
            elif not variance.any() and self.measured.size > 2:
                residual = self.known - self._curve(self.known, self.measured)[0]
                variance = np.full(self.measured.size, np.sum(residual**2) / (self.measured.size - 2))
        return variance

    def _curve(self, known: Array, at: Array) -> tuple[Array, Array]:
        """Values and slopes of the curve; NaN where ``at`` is not finite."""
        lost = ~np.isfinite(at)
        if self.kind == "linear":
            centre = np.average(self.measured, weights=self._weights)
            offset = self.measured - centre
            level = np.average(known, weights=self._weights)
            slope = np.sum(self._weights * offset * known) / np.sum(self._weights * offset**2)
            values, slopes = level + slope * (at - centre), np.full_like(at, slope)
        else:
            nodes = limit_slopes(self.measured, known, three_point_slopes(self.measured, known))
            values, slopes = hermite(self.measured, known, nodes, np.where(lost, self.measured[0], at))
        values[lost] = np.nan
        slopes[lost] = np.nan
        return values, slopes

    def _sensitivity(self, k: int, at: Array) -> Array:
        """How far the curve moves when the known value of one anchor does."""
        step = 1e-4 * float(np.ptp(self.known)) or 1e-4
        up, down = self.known.copy(), self.known.copy()
        up[k] += step
        down[k] -= step
        return (self._curve(up, at)[0] - self._curve(down, at)[0]) / (2.0 * step)


def _check_sigma(sigma: ArrayLike | None, what: str, n: int) -> Array:
    if sigma is None:
        return np.zeros(n)
    array = np.atleast_1d(np.asarray(sigma, dtype=np.float64))
    if array.shape == (1,):
        array = np.full(n, array[0])
    if array.shape != (n,) or not (np.isfinite(array) & (array >= 0)).all():
        raise EdgeFittingError(f"{what} must be one finite value per anchor ({n}), not negative.")
    return array
