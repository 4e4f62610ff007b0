"""What the uncertainty of shifts adds to that of a map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_fitting.base import EdgeMaps


def add_shift_sigma(maps: EdgeMaps, sigma_px: tuple[float, float]) -> EdgeMaps:
    """Add the share of the frames' shifts to the standard deviations of maps of registered frames.

    A shift that is off changes the optical depth of a pixel by its gradient, about that of ``edge_jump`` for a frame
    above the edge. From frame to frame that acts as further noise: standard deviations grow by the square root of
    ``1 + (shift sigma * gradient / noise)**2``. Below the edge, where the gradient is less, this is too much.

    Parameters
    ----------
    maps : EdgeMaps
        Maps of frames that were moved back.
    sigma_px : tuple of float
        Typical standard deviations of their shifts (rows, columns), in pixels.

    Returns
    -------
    EdgeMaps
        With greater ``soc_sigma`` and ``edge_energy_sigma_ev``; as they were where the gradient is not known.
    """
    if min(maps.shape) < 2:
        return maps
    down, right = np.gradient(maps.edge_jump)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = ((sigma_px[0] * down) ** 2 + (sigma_px[1] * right) ** 2) / maps.noise**2
    growth = np.sqrt(1.0 + np.where(np.isfinite(ratio), ratio, 0.0)).astype(np.float32)
    return replace(
        maps, soc_sigma=maps.soc_sigma * growth, edge_energy_sigma_ev=maps.edge_energy_sigma_ev * growth
    )
