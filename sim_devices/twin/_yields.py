"""What point detectors see: transmission, yield and fluorescence of what is in the beam."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scan_contract import optional_import

from ._absorption import SOC_NODES, OxideAbsorption, PureAbsorption
from ._compounds import METALS
from ._twin import Twin

with optional_import("sim", "simulated beamlines"):
    import xraydb

__all__ = ["FLUORESCENCE_EV", "Yields", "yields_of"]

FLUORESCENCE_EV = {metal: float(xraydb.xray_lines(metal, "K")["Ka1"].energy) for metal in METALS}
"""Energy of the K-alpha line of each metal."""

_SAMPLED_PIXELS = 4096
_FOIL_UM = 5.0
_K_EDGES = {metal: xraydb.xray_edge(metal, "K") for metal in METALS}


@dataclass(frozen=True)
class Yields:
    """Signals per unit of incident intensity.

    Attributes
    ----------
    transmitted : float
        Share that passes the sample, averaged over the field.
    behind_foil : float
        Share that passes the sample and the foil behind it, which is of the metal whose K edge is nearest.
    absorbed : float
        Share absorbed in the material.
    fluorescence : ndarray (metals,)
        Share that comes back as K-alpha photons of each metal of an oxide, self-absorption left out.
    """

    transmitted: float
    behind_foil: float
    absorbed: float
    fluorescence: NDArray[np.float64]


@lru_cache(maxsize=8)
def _foil_absorber(metal: str, resolution: float) -> PureAbsorption:
    return PureAbsorption(metal, resolution)


def _foil(energy_ev: float, resolution: float) -> float:
    """Optical depth of the reference foil that a foil wheel puts in at an energy."""
    metal = min(METALS, key=lambda name: abs(_K_EDGES[name].energy - energy_ev))
    return _FOIL_UM * float(_foil_absorber(metal, resolution).table(energy_ev)[0, 0])


def yields_of(twin: Twin) -> Yields:
    """Return the signals at the present energy with the present sample, per unit of light that reaches it."""
    energy_ev = twin.true_ev
    foil = float(np.exp(-_foil(energy_ev, twin.settings.mono.resolution)))
    if not twin.sample_in:
        return Yields(1.0, foil, 0.0, np.zeros(len(METALS)))
    sample = twin.sample
    rows, columns = twin.view
    step = max(int(np.sqrt(np.prod(twin.shape) / _SAMPLED_PIXELS)), 1)
    soc = sample.soc[rows, columns][::step, ::step]
    table = sample.absorber.table(energy_ev)
    depths = np.array(
        [
            areal[rows, columns][::step, ::step] * np.interp(soc, SOC_NODES, column)
            for areal, column in zip(sample.areal, table, strict=True)
        ]
    )
    total = depths.sum(axis=0)
    transmitted = float(np.exp(-total).mean())
    fluorescence = np.zeros(len(METALS))
    if isinstance(sample.absorber, OxideAbsorption):
        absorbed = -np.expm1(-total)
        share = np.divide(absorbed * depths, total, out=np.zeros_like(depths), where=total > 0)
        for row, metal in enumerate(METALS):
            if energy_ev > _K_EDGES[metal].energy:
                fluorescence[row] = share[row].mean() * _K_EDGES[metal].fyield
    return Yields(
        transmitted=transmitted,
        behind_foil=transmitted * foil,
        absorbed=1.0 - transmitted,
        fluorescence=fluorescence,
    )
