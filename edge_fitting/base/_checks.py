"""Validation of what callers hand in: energies, frames, weights."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_fitting.errors import EdgeFittingError

from ._edges import Edge

# No absorption edge in use lies below 100 eV, and every hard X-ray energy in keV does.
_LOWEST_EV = 100.0
# What the kernels are compiled for: contiguous, aligned, no subclass. Anything else would be compiled for anew.
LAYOUT: tuple[Literal["C", "A", "E"], ...] = ("C", "A", "E")


def check_energies(
    energy_ev: ArrayLike, *, edge: Edge | None = None, what: str = "energy_ev"
) -> NDArray[np.float64]:
    """Return energies as a 1-D float64 array.

    Parameters
    ----------
    energy_ev : array_like
        One energy or a 1-D sequence of energies in eV, in any order, repeats allowed.
    edge : Edge, optional
        Edge whose scan limits the energies must lie in.
    what : str
        Name of the argument in messages.

    Returns
    -------
    ndarray of float64, shape (n_energy,)

    Raises
    ------
    EdgeFittingError
        If empty, not numeric, not finite, in keV, or out of range for the edge.
    """
    try:
        energies = np.atleast_1d(np.asarray(energy_ev, dtype=np.float64))
    except (TypeError, ValueError):
        raise EdgeFittingError(f"{what} must be numbers in eV.") from None
    if energies.ndim != 1:
        raise EdgeFittingError(f"{what} must be one-dimensional, not of shape {energies.shape}.")
    if energies.size == 0:
        raise EdgeFittingError(f"{what} is empty: give at least one energy in eV.")
    if not np.isfinite(energies).all():
        raise EdgeFittingError(
            f"{what} has a value that is not finite at index {_first(~np.isfinite(energies))}."
        )
    low = energies < _LOWEST_EV
    if low.any():
        value = energies[_first(low)]
        hint = f"; {value:g} looks like keV: multiply by 1000" if value > 0 else ""
        raise EdgeFittingError(f"{what} has {value:g} where an energy in eV is needed{hint}.")
    if edge is not None:
        limits = edge.scan_limits_ev
        outside = (energies < limits[0]) | (energies > limits[1])
        if outside.any():
            raise EdgeFittingError(
                f"{what} has {energies[_first(outside)]:.6g} eV, which cannot belong to a scan of the "
                f"{edge.name} edge ({limits[0]:.6g} to {limits[1]:.6g} eV): check the edge and the unit."
            )
    return energies


def check_stack(optical_depth: ArrayLike, n_energy: int) -> NDArray[np.float32]:
    """Return a stack as C-contiguous float32 of shape (n_energy, rows, cols).

    Raises
    ------
    EdgeFittingError
        If it is not three-dimensional, has no pixel, or has another number of frames than energies.
    """
    return np.require(_check_cube(optical_depth, n_energy), np.float32, LAYOUT)


def check_exact_stack(optical_depth: ArrayLike, n_energy: int) -> NDArray[np.float64]:
    """Return a stack as float64, without the rounding of :func:`check_stack`; raises the same."""
    return np.asarray(_check_cube(optical_depth, n_energy), dtype=np.float64)


def _check_cube(optical_depth: ArrayLike, n_energy: int) -> NDArray[np.number]:
    stack = _check_real(optical_depth, "optical_depth")
    if stack.ndim != 3:
        raise EdgeFittingError(
            f"optical_depth must be (n_energy, rows, cols), not of shape {stack.shape}; "
            "a single spectrum is (n_energy, 1, 1)."
        )
    if stack.shape[0] != n_energy:
        raise EdgeFittingError(
            f"optical_depth has {stack.shape[0]} frames but there are {n_energy} energies."
        )
    if stack.size == 0:
        raise EdgeFittingError(f"optical_depth of shape {stack.shape} has no pixel.")
    return stack


def check_frame(frame: ArrayLike, shape: tuple[int, int], what: str = "optical_depth") -> NDArray[np.float32]:
    """Return a frame as C-contiguous float32 of the fitter's shape.

    Raises
    ------
    EdgeFittingError
        If the shape differs or the values are not real numbers.
    """
    array = _check_real(frame, what)
    if array.shape != shape:
        raise EdgeFittingError(f"{what} has shape {array.shape} but the fitter was made for {shape}.")
    return np.require(array, np.float32, LAYOUT)


def check_weights(weights: ArrayLike | None, n_energy: int) -> NDArray[np.float64]:
    """Return one positive finite weight per frame (ones when None).

    Raises
    ------
    EdgeFittingError
        If the number differs or a weight is not positive and finite.
    """
    if weights is None:
        return np.ones(n_energy)
    array = np.atleast_1d(np.require(weights, np.float64, LAYOUT))
    if array.shape == (1,) and n_energy > 1:
        array = np.full(n_energy, array[0])
    if array.shape != (n_energy,):
        raise EdgeFittingError(f"weights must be one per frame ({n_energy}), not of shape {array.shape}.")
    if not (np.isfinite(array) & (array > 0)).all():
        raise EdgeFittingError(
            "weights must be positive and finite: leave a frame out instead of weighting it by 0."
        )
    return array


def check_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return (rows, cols) as two positive integers.

    Raises
    ------
    EdgeFittingError
        If it is anything else.
    """
    try:
        rows, cols = (int(n) for n in shape)
    except (TypeError, ValueError):
        raise EdgeFittingError(f"shape must be (rows, cols), not {shape!r}.") from None
    if rows < 1 or cols < 1:
        raise EdgeFittingError(f"shape must be positive, not {(rows, cols)}.")
    return rows, cols


def _check_real(values: ArrayLike, what: str) -> NDArray[np.number]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiu":
        raise EdgeFittingError(f"{what} must hold real numbers, not {array.dtype}.")
    return array


def _first(flags: NDArray[np.bool_]) -> int:
    return int(np.argmax(flags))
