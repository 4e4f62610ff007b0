"""Fits that need whole spectra: repeats merged, pixels with missing frames fitted with what they have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Frame = NDArray[np.float32]


def merge_repeats(
    energy_ev: list[Array], stacks: list[Frame], weights: list[Array]
) -> tuple[Array, Frame, Array]:
    """Join pushed frames into one stack with every energy once.

    Parameters
    ----------
    energy_ev, stacks, weights : list of ndarray, shapes (n,), (n, n_pixels), (n,)
        What was pushed, in any order.

    Returns
    -------
    energy_ev : ndarray, shape (n_energy,)
        Different energies, in order of first appearance when nothing repeats, else increasing.
    stack : ndarray of float32, shape (n_energy, n_pixels)
        Weighted mean of the repeats, over those that are finite; a single pushed stack is not copied.
    weights : ndarray, shape (n_energy,)
        Summed weights.
    """
    energies = np.concatenate(energy_ev)
    weight = np.concatenate(weights)
    stack = stacks[0] if len(stacks) == 1 else np.concatenate(stacks)
    unique, where = np.unique(energies, return_inverse=True)
    if unique.size == energies.size:
        return energies, stack, weight
    merged = np.empty((unique.size, stack.shape[1]), np.float32)
    for k in range(unique.size):
        frames = stack[where == k]
        if frames.shape[0] == 1:
            merged[k] = frames[0]
            continue
        share = weight[where == k][:, None] * np.isfinite(frames)
        with np.errstate(invalid="ignore"):
            merged[k] = (np.where(np.isfinite(frames), frames, 0.0) * share).sum(axis=0) / share.sum(axis=0)
    return unique, merged, np.bincount(where, weights=weight)


def mean_spectrum(stack: Frame) -> Array:
    """Mean over the pixels that are finite in every frame.

    Parameters
    ----------
    stack : ndarray of float32, shape (n_energy, n_pixels)
        Optical depth.

    Returns
    -------
    ndarray, shape (n_energy,)
        NaN everywhere if no pixel is complete.
    """
    total = np.zeros(stack.shape[1])
    for frame in stack:
        total += frame
    complete = np.isfinite(total)
    if not complete.any():
        return np.full(stack.shape[0], np.nan)
    return np.array([frame[complete].mean(dtype=np.float64) for frame in stack])
