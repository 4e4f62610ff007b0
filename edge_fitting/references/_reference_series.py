"""An ordered series of reference spectra, and what lies between them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar, Literal, Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.base import check_energies, noise_of_differences
from edge_fitting.errors import EdgeFittingError

from ._belonging import foreign_spectra
from ._common_normalization import beside_edge, merge_repeats, normalise_by_white_line, normalise_together
from ._interpolation import hermite, limit_slopes, three_point_slopes
from ._reference_checks import check_sources, check_spectra, names_of
from ._smooth_curve import Smoothing, smooth_curve

Array = NDArray[np.float64]

Coordinate = Literal["soc", "shift_ev"]

# Neighbours nearer than this fraction of the range do not count for slopes along the series.
_SLOPE_REACH = 0.1
# Noise below this fraction of the jump moves no state by a measurable amount.
_LEAST_NOISE = 2e-4
# An end of the scan may miss the end of the references by the error of a monochromator's readback.
_END_TOLERANCE_EV = 1.0


T = TypeVar("T")


class ReferenceSeries:
    """Reference spectra in order of state of charge, normalised, with a smooth curve through them.

    Spectra that are not normalised yet (about 0 below the edge and about 1 above) are normalised on the way in:
    pre-edge line and step at the edge of the mean spectrum, the same rule for all (:mod:`._edge_step`). Raw
    optical depths of bulk standards will do. Between the
    references the spectrum moves along a curve without kinks: the references are written as their mean plus
    the modes of their singular value decomposition, and the coordinates are joined by cubic Hermite pieces,
    the leading one kept monotone. Two references give the linear combination. Beyond the first and last
    reference the curve goes on as a straight line.

    References of the same state, or of close ones, that differ by more than their noise (each with a calibration
    and a step of its own) are not all met: the curve is as smooth as their scatter says
    (:mod:`._smooth_curve`), and what is left of the scatter is its uncertainty (:meth:`scatter_of_curve`).

    Parameters
    ----------
    energy_ev : array_like, shape (n_energy,)
        Energies in eV, any order; repeated energies are averaged.
    mu : array_like, shape (n_ref, n_energy)
        Absorption (optical depth or normalised), one row per reference.
    soc : array_like, shape (n_ref,)
        State of charge of each, any finite scale; repeats of a state are allowed.
    coordinate : {"soc", "shift_ev"}
        What ``soc`` measures: a state of charge, or an energy shift in eV (see :meth:`shift_family`).
    sources : sequence of mapping, shape (n_ref,), optional
        Where each spectrum came from, as plain data (`scan_contract.ReferenceSource`); nothing is computed from it.

    Attributes
    ----------
    energy_ev : ndarray, shape (n_energy,)
        Increasing energies.
    mu : ndarray, shape (n_ref, n_energy)
        Normalised spectra in order of ``soc``.
    soc : ndarray, shape (n_ref,)
        States of charge in order.
    states : ndarray, shape (n_states,)
        The different ones among them, increasing.
    edge_ev : float
        Steepest point of the mean spectrum, where the step is taken.
    sources : tuple of dict
        Where each spectrum came from, in order of ``soc``; empty where nothing is known.

    Raises
    ------
    EdgeFittingError
        For fewer than two references, values that are not finite, energies in keV, one state of
        charge for all, shapes that do not match, or a reference without a rising edge.
    """

    _smoothing: ClassVar[Smoothing] = "repeats"
    _is_normalised: ClassVar[bool] = False

    def __init__(
        self,
        energy_ev: ArrayLike,
        mu: ArrayLike,
        soc: ArrayLike,
        *,
        coordinate: Coordinate = "soc",
        sources: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        energies = check_energies(energy_ev, what="reference energy_ev")
        spectra, states = check_spectra(energies, mu, soc)
        if coordinate not in ("soc", "shift_ev"):
            raise EdgeFittingError(f"coordinate must be 'soc' or 'shift_ev', not {coordinate!r}.")
        order = np.argsort(states, kind="stable")
        self.sources: tuple[dict[str, Any], ...] = tuple(
            check_sources(sources, states.size)[place] for place in (order if sources else ())
        )
        energies, spectra = merge_repeats(energies, spectra[order])
        if energies.size < 5:
            raise EdgeFittingError(f"references need at least 5 different energies, not {energies.size}.")
        self.coordinate: Coordinate = coordinate
        self.energy_ev: Array = energies
        self.soc: Array = states[order]
        if self._is_normalised:
            self.mu, self.edge_ev = spectra.copy(), beside_edge(energies, spectra.mean(axis=0))[0]
        else:
            names = names_of(order, self.sources)
            self.mu, self.edge_ev = normalise_together(energies, spectra, names)
        for array in (self.energy_ev, self.soc, self.mu):
            array.flags.writeable = False
        self._build_curve()
        self.states.flags.writeable = False

    def _build_curve(self) -> None:
        self._mean = self.mu.mean(axis=0)
        # Modes are ranked with a straight line taken out, because the fit leaves the pre-edge line free.
        line = np.polynomial.legendre.legvander(_to_unit(self.energy_ev), 1)
        deviations = self.mu - self._mean
        bent = deviations - (deviations @ np.linalg.pinv(line).T) @ line.T
        left, strength, _ = np.linalg.svd(bent, full_matrices=False)
        keep = strength > 1e-9 * max(strength[0], 1e-300)
        if not keep.any() or strength[0] < 1e-9 * np.abs(self.mu).max():
            raise EdgeFittingError("the references are all the same spectrum: give ones that differ.")
        left, strength = left[:, keep], strength[keep]
        self._coordinates: Array = left * strength
        self._strength: Array = strength
        self._modes: Array = (left / strength).T @ deviations
        self._functions: Array = np.vstack([self._mean, self._modes]).T
        self._function_slopes: Array = three_point_slopes(self.energy_ev, self._functions)
        self._last_basis: tuple[Array, Array] = (np.empty(0), np.empty((0, 0)))
        self._derived: dict[Callable[..., Any], Any] = {}
        # A spectrum that is moved along was not measured again.
        smooth = self._smoothing if self.coordinate == "soc" else "never"
        noise2 = self._noise_variance(deviations)
        self._smooth = smooth_curve(self.soc, self._coordinates, noise2, smooth=smooth)
        self.states: Array = self._smooth.places
        self._nodes: Array = self._smooth.values
        reach = _SLOPE_REACH * (self.states[-1] - self.states[0])
        slopes = three_point_slopes(self.states, self._nodes, reach=reach)
        slopes[:, 0] = limit_slopes(self.states, self._nodes[:, 0], slopes[:, 0], reach=reach)
        self._slopes: Array = slopes

    def _noise_variance(self, deviations: Array) -> float:
        """Variance of the noise of one value of one spectrum; none in a spectrum that is moved along."""
        if self.coordinate != "soc":
            return 0.0
        stack = deviations.T.astype(np.float32)
        variance, _ = noise_of_differences(self.energy_ev, np.ones(self.energy_ev.size), stack)
        return 0.0 if variance is None else float(np.mean(variance))

    def __getstate__(self) -> dict[str, Any]:
        # What is made of the series can be made anew, wherever it is sent to.
        return {**self.__dict__, "_derived": {}}

    def derived(self, make: Callable[[ReferenceSeries], T]) -> T:
        """Return what a function makes of the series, made once: every fit asks for the same table.

        Parameters
        ----------
        make : callable
            Of the module that needs it; takes the series. What it returns is not changed by anybody.
        """
        if make not in self._derived:
            self._derived[make] = make(self)
        made: T = self._derived[make]
        return made

    @property
    def mode_rms(self) -> Array:
        """Root mean square of each mode over references and energies, in units of the jump, decreasing."""
        return np.asarray(self._strength / np.sqrt(self.mu.size))

    def coordinates(self, soc: ArrayLike) -> tuple[Array, Array]:
        """Coordinates along the modes, and their derivatives by state of charge.

        Parameters
        ----------
        soc : array_like, shape (m,)
            States of charge.

        Returns
        -------
        coordinates, derivatives : ndarray, shape (m, n_modes)
        """
        states = np.atleast_1d(np.asarray(soc, dtype=np.float64))
        return hermite(self.states, self._nodes, self._slopes, states)

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """Which references do not belong to the curve through the others, one sentence each."""
        return () if self.coordinate != "soc" else foreign_spectra(self, self._of)

    def _of(self, kept: NDArray[np.bool_]) -> ReferenceSeries:
        return _SmoothSeries(self.energy_ev, self.mu[kept], self.soc[kept])

    @property
    def is_scattered(self) -> bool:
        """Whether noise or scatter of the references is large enough to move a state."""
        return math.isfinite(self._smooth.dof) or self._smooth.noise2 > _LEAST_NOISE**2

    def scatter_of_curve(self, soc: ArrayLike) -> tuple[Array, float]:
        """How far the coordinates may be off, from the noise of the references and their scatter about the curve.

        Parameters
        ----------
        soc : array_like, shape (m,)
            States of charge.

        Returns
        -------
        deviations : ndarray, shape (m, n_modes, n)
            Independent deviations of one standard deviation each, along the modes.
        dof : float
            Degrees of freedom that their size is known with; infinite where only noise counts.
        """
        states = np.atleast_1d(np.asarray(soc, dtype=np.float64))
        smooth, unit = self._smooth, np.eye(self.states.size)
        reach = _SLOPE_REACH * (self.states[-1] - self.states[0])
        join = hermite(self.states, unit, three_point_slopes(self.states, unit, reach=reach), states)[0]
        rules = np.einsum("sp,kpi->ski", join, smooth.rules)
        n_modes = rules.shape[1]
        causes = np.concatenate([smooth.scatter, np.sqrt(smooth.noise2) * np.eye(n_modes)])
        deviations = np.einsum("ski,ck->skic", rules, causes).reshape(states.size, n_modes, -1)
        bends = np.einsum("sp,kpb,kl->sklb", join, smooth.bends, np.eye(n_modes))
        return np.concatenate([deviations, bends.reshape(states.size, n_modes, -1)], axis=2), smooth.dof

    def basis(self, energy_ev: ArrayLike, n_modes: int | None = None) -> Array:
        """Mean spectrum and leading modes at some energies.

        Parameters
        ----------
        energy_ev : array_like, shape (n,)
            Energies in eV within the range of the references (1 eV of tolerance at the ends).
        n_modes : int, optional
            How many modes; all by default.

        Returns
        -------
        ndarray, shape (1 + n_modes, n)
            Read-only.

        Raises
        ------
        EdgeFittingError
            If the references do not cover an energy.
        """
        energies = check_energies(energy_ev)
        self.check_covers(energies)
        # One fit asks for the same energies half a dozen times.
        at, functions = self._last_basis
        if not np.array_equal(at, energies):
            functions = hermite(self.energy_ev, self._functions, self._function_slopes, energies)[0].T
            functions.flags.writeable = False
            self._last_basis = energies.copy(), functions
        return functions[: None if n_modes is None else 1 + n_modes]

    def evaluate(self, energy_ev: ArrayLike, soc: ArrayLike) -> Array:
        """Normalised absorption at some energies and states of charge.

        Parameters
        ----------
        energy_ev : array_like, shape (n,)
            Energies in eV, any order.
        soc : float or array_like, shape (m,)
            States of charge; beyond the ends the series is continued as a straight line.

        Returns
        -------
        ndarray, shape (n,) for a single state of charge, else (m, n)

        Raises
        ------
        EdgeFittingError
            If the references do not cover an energy.
        """
        functions = self.basis(energy_ev)
        coordinates, _ = self.coordinates(soc)
        # Not by BLAS, whose threads would go on to spin for tens of milliseconds in the way of the kernels.
        spectra = functions[0] + np.einsum("sk,kn->sn", coordinates, functions[1:])
        return np.asarray(spectra[0] if np.ndim(soc) == 0 else spectra)

    def members(self, energy_ev: ArrayLike) -> Array:
        """Mean of the references of each state, as they were measured, at some energies.

        Returns
        -------
        ndarray, shape (n_states, n)

        Raises
        ------
        EdgeFittingError
            If the references do not cover an energy.
        """
        functions = self.basis(energy_ev)
        _, where, counts = np.unique(self.soc, return_inverse=True, return_counts=True)
        coordinates = np.zeros((counts.size, self._coordinates.shape[1]))
        np.add.at(coordinates, where, self._coordinates)
        return np.asarray(functions[0] + np.einsum("sk,kn->sn", coordinates / counts[:, None], functions[1:]))

    def check_covers(self, energy_ev: Array) -> None:
        """Raise if an energy lies outside of the references.

        Raises
        ------
        EdgeFittingError
            Naming the first energy that is not covered.
        """
        low, high = self.energy_ev[0] - _END_TOLERANCE_EV, self.energy_ev[-1] + _END_TOLERANCE_EV
        outside = (energy_ev < low) | (energy_ev > high)
        if outside.any():
            value = energy_ev[int(np.argmax(outside))]
            raise EdgeFittingError(
                f"the references cover {self.energy_ev[0]:.6g} to {self.energy_ev[-1]:.6g} eV but the scan has "
                f"{value:.6g} eV: measure the references over the whole scan, or leave that energy out."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and strings, for start documents and metadata; see :meth:`from_dict`."""
        known = {"sources": [dict(source) for source in self.sources]} if self.sources else {}
        return {
            "energy_ev": self.energy_ev.tolist(),
            "mu": self.mu.tolist(),
            "soc": self.soc.tolist(),
            "coordinate": self.coordinate,
            **known,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Rebuild a series from :meth:`to_dict`.

        Raises
        ------
        EdgeFittingError
            If a key is missing or the values are not a valid series.
        """
        missing = [key for key in ("energy_ev", "mu", "soc") if key not in data]
        if missing:
            raise EdgeFittingError(
                f"a reference series needs energy_ev, mu and soc: {missing[0]} is missing."
            )
        return cls(
            data["energy_ev"],
            data["mu"],
            data["soc"],
            coordinate=data.get("coordinate", "soc"),
            sources=data.get("sources") or (),
        )

    @classmethod
    def shift_family(
        cls,
        energy_ev: ArrayLike,
        mu: ArrayLike,
        shifts_ev: ArrayLike = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0),
        *,
        by_white_line: bool = False,
    ) -> ReferenceSeries:
        """Make a series by moving one spectrum along the energy axis: for scans without references.

        Parameters
        ----------
        energy_ev : array_like, shape (n_energy,)
            Energies in eV.
        mu : array_like, shape (n_energy,)
            One spectrum, such as the mean over a scan.
        shifts_ev : array_like, shape (n_ref,)
            Shifts in eV; positive moves the edge to higher energy.
        by_white_line : bool
            Normalise by the height of the white line in place of the edge step, as on L edges.

        Returns
        -------
        ReferenceSeries
            With ``coordinate="shift_ev"`` and ``soc`` in eV of shift.

        Raises
        ------
        EdgeFittingError
            As the constructor.
        """
        energies = check_energies(energy_ev, what="reference energy_ev")
        spectrum, _ = check_spectra(energies, np.vstack([mu, mu]), (0.0, 1.0))
        energies, spectrum = merge_repeats(energies, spectrum[:1])
        if energies.size < 3:
            raise EdgeFittingError(
                f"a spectrum of {energies.size} energies cannot be moved: give three or more."
            )
        shifts = np.atleast_1d(np.asarray(shifts_ev, dtype=np.float64))
        if by_white_line:
            spectrum, _ = normalise_by_white_line(energies, spectrum)
        slopes = three_point_slopes(energies, spectrum[0])
        moved = np.stack([hermite(energies, spectrum[0], slopes, energies - shift)[0] for shift in shifts])
        kind = _WhiteLineSeries if by_white_line else cls
        return kind(energies, moved, shifts, coordinate="shift_ev")

    def __len__(self) -> int:
        return self.soc.size

    def __repr__(self) -> str:
        return (
            f"ReferenceSeries({len(self)} references, {self.coordinate} {self.soc[0]:g} to {self.soc[-1]:g}, "
            f"{self.energy_ev[0]:g} to {self.energy_ev[-1]:g} eV)"
        )


class _WhiteLineSeries(ReferenceSeries):
    """Spectra of an L edge that are normalised: 1 is the top of the white line, beside which the step is small."""

    _is_normalised = True


class _SmoothSeries(ReferenceSeries):
    """The curve that a reference is compared with: one that does not belong must not bend it."""

    _smoothing = "always"
    _is_normalised = True


def _to_unit(energies: Array) -> Array:
    return np.asarray((2.0 * energies - energies[0] - energies[-1]) / (energies[-1] - energies[0]))
