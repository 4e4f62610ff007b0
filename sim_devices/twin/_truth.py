"""What a perfect analysis of the sample would find."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ._absorption import PureAbsorption, edge_truth
from ._sample import SampleMaps

__all__ = ["Truth", "truth_in_view"]

_LEAST_JUMP = 0.01


@dataclass(frozen=True)
class Truth:
    """What a perfect analysis of one edge would find.

    Attributes
    ----------
    soc : ndarray float32 (rows, cols)
        State of charge, the mean along the ray; NaN without material.
    edge_energy_ev : ndarray float32 (rows, cols)
        Half-jump energy at that state of the spectrum as the monochromator records it, eV on the axis of the
        readback; NaN without material.
    jump : ndarray float32 (rows, cols)
        Edge jump in optical depth.
    mask : ndarray bool (rows, cols)
        Where there is material (jump above 0.01).
    particle : ndarray int32 (rows, cols)
        Number of the secondary particle, 0 for none; of several along a ray the thickest.
    crack : ndarray float32 (rows, cols)
        Share of the particle's thickness that its cracks take away.
    """

    soc: NDArray[np.float32]
    edge_energy_ev: NDArray[np.float32]
    jump: NDArray[np.float32]
    mask: NDArray[np.bool_]
    particle: NDArray[np.int32]
    crack: NDArray[np.float32]


def truth_in_view(
    sample: SampleMaps, view: tuple[slice, slice], edge: str, resolution: float, axis_ev: float
) -> Truth:
    """Return the truth of one edge in a window of the sample.

    Parameters
    ----------
    sample : SampleMaps
        What is on the stage.
    view : tuple of slice
        Rows and columns of its maps.
    edge : str
        Ni_K, Mn_K or Co_K.
    resolution : float
        Relative resolution of the monochromator.
    axis_ev : float
        Readback minus true energy.
    """
    per_um = sample.absorber.jump_per_um(edge).astype(np.float32)
    jump = np.tensordot(per_um, sample.areal[(slice(None), *view)], axes=1).astype(np.float32)
    mask = jump > _LEAST_JUMP
    if isinstance(sample.absorber, PureAbsorption):
        soc = np.full(jump.shape, np.nan, dtype=np.float32)
        energy = np.full(jump.shape, np.nan)
    else:
        table = edge_truth(edge, resolution)
        soc = sample.soc[view]
        energy = np.interp(soc, table.soc, table.half_jump_ev) + axis_ev
    nan = np.float32(np.nan)
    return Truth(
        soc=np.where(mask, soc, nan),
        edge_energy_ev=np.where(mask, energy, nan).astype(np.float32),
        jump=jump,
        mask=mask,
        particle=sample.particle[view],
        crack=sample.crack[view],
    )
