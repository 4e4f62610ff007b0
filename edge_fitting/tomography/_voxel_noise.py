"""How the noise of projections becomes that of voxels."""

from __future__ import annotations

import math

from edge_fitting.errors import EdgeFittingError

__all__ = ["FILTERS", "voxel_sigma"]

FILTERS = ("hann", "ramp")
"""Windows on the ramp filter: "hann" costs resolution and keeps noise low, "ramp" is none."""

# Integral of f^2 times the squared window over that of f^2, up to the Nyquist frequency; and what linear interpolation
# between two neighbours leaves of it on average, 2/3 + rho/3 with their correlation rho.
_POWER = {"ramp": 0.464, "hann": 0.0900 * 0.733}


def voxel_sigma(sigma: float, n_angles: float, filter_name: str = "hann") -> float:
    """Return the standard deviation of a voxel of a filtered back projection.

    Parameters
    ----------
    sigma : float
        Standard deviation of the optical depth of a projection.
    n_angles : float
        Angles over half a turn, or twice as many over a whole one.
    filter_name : {"hann", "ramp"}
        Window on the ramp filter.

    Returns
    -------
    float
        Standard deviation of the optical depth per voxel, Kak and Slaney, Principles of Computerized Tomographic
        Imaging (1988), section 5.2: ``pi sigma / sqrt(12 n)`` for the bare ramp.

    Raises
    ------
    EdgeFittingError
        There is no such filter.
    """
    if filter_name not in _POWER:
        raise EdgeFittingError(f"there is no filter {filter_name!r}; choose one of {', '.join(FILTERS)}")
    return math.pi * sigma * math.sqrt(_POWER[filter_name] / (12.0 * max(n_angles, 1.0)))
