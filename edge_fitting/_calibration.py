"""From edge energy to valence, state of charge or lithium content; and the energy axis from a metal foil."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._checks import check_energies
from ._edges import Edge, resolve_edge
from ._errors import EdgeFittingError
from ._interpolation import hermite, limit_slopes, three_point_slopes

Array = NDArray[np.float64]


class AnchorCalibration:
    """A curve through anchors, from one quantity to another, that carries uncertainties along.

    Parameters
    ----------
    measured : array_like, shape (n,)
        What is measured on the anchors, such as edge energies of compounds of known valence; n >= 2, all different.
    known : array_like, shape (n,)
        What is known of them, such as valence, state of charge or lithium content.
    kind : {"linear", "monotone"}
        A straight line by least squares, or a smooth monotone curve through all anchors, straight beyond the ends.
    measured_sigma : array_like, shape (n,), optional
        Standard deviation of each measured anchor; zero by default.

    Raises
    ------
    EdgeFittingError
        For fewer than two anchors, values that are not finite, repeated anchors, or ``monotone`` anchors that turn
        round.
    """

    def __init__(
        self,
        measured: ArrayLike,
        known: ArrayLike,
        *,
        kind: Literal["linear", "monotone"] = "monotone",
        measured_sigma: ArrayLike | None = None,
    ) -> None:
        x = np.atleast_1d(np.asarray(measured, dtype=np.float64))
        y = np.atleast_1d(np.asarray(known, dtype=np.float64))
        sigma = (
            np.zeros_like(x) if measured_sigma is None else np.atleast_1d(np.asarray(measured_sigma, float))
        )
        if x.ndim != 1 or x.shape != y.shape or x.shape != sigma.shape:
            raise EdgeFittingError("anchors need as many measured values (and sigmas) as known ones.")
        if x.size < 2:
            raise EdgeFittingError("a calibration needs at least two anchors.")
        if not (
            np.isfinite(x).all() and np.isfinite(y).all() and np.isfinite(sigma).all() and (sigma >= 0).all()
        ):
            raise EdgeFittingError("an anchor is not finite, or its sigma is negative.")
        if np.unique(x).size != x.size:
            raise EdgeFittingError("two anchors have the same measured value.")
        if kind not in ("linear", "monotone"):
            raise EdgeFittingError(f"kind must be 'linear' or 'monotone', not {kind!r}.")
        order = np.argsort(x)
        self.kind: Literal["linear", "monotone"] = kind
        self.measured: Array = x[order]
        self.known: Array = y[order]
        self._sigma: Array = sigma[order]
        if kind == "monotone":
            steps = np.diff(self.known)
            if not ((steps > 0).all() or (steps < 0).all()):
                raise EdgeFittingError(
                    "the anchors are not monotone: use kind='linear' or drop the one that is off."
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
            Of the shape of ``value``. The sigma holds that of the value, times the slope of the curve, and that of
            the anchors, added in squares.
        """
        x = np.asarray(value, dtype=np.float64)
        converted, slope = self._curve(self.known, x.ravel())
        own = slope * (0.0 if sigma is None else np.broadcast_to(np.asarray(sigma, float), x.shape).ravel())
        variance = own**2
        for k in np.flatnonzero(self._sigma):
            # Moving anchor k along the measured axis is moving its known value against the local slope.
            variance += (self._sensitivity(k, x.ravel()) * self._sigma[k]) ** 2
        return converted.reshape(x.shape), np.sqrt(variance).reshape(x.shape)

    def _curve(self, known: Array, at: Array) -> tuple[Array, Array]:
        if self.kind == "linear":
            slope, level = np.polyfit(self.measured - self.measured[0], known, 1)
            return level + slope * (at - self.measured[0]), np.full_like(at, slope)
        slopes = limit_slopes(self.measured, known, three_point_slopes(self.measured, known))
        finite = np.where(np.isfinite(at), at, self.measured[0])
        values, derivatives = hermite(self.measured, known, slopes, finite)
        lost = ~np.isfinite(at)
        values[lost] = np.nan
        derivatives[lost] = np.nan
        return values, derivatives

    def _sensitivity(self, k: int, at: Array) -> Array:
        _, local = self._curve(self.known, self.measured[k : k + 1])
        step = 1e-4 * float(np.ptp(self.known))
        moved = self.known.copy()
        moved[k] += step
        up, _ = self._curve(moved, at)
        moved[k] -= 2.0 * step
        down, _ = self._curve(moved, at)
        return (up - down) / (2.0 * step) * local[0]
