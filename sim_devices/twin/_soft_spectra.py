"""Normalised L2,3 and O K spectra of the oxide's components, as sums of Voigt lines over a two-step continuum."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import voigt_profile

from beamline_devices import DeviceError

from ._constants import FWHM_PER_SIGMA

__all__ = ["SOFT_COMPONENTS", "SOFT_EDGES_EV", "SoftComponent", "soft_continuum", "soft_spectrum"]

Array = NDArray[np.float64]

# Width (FWHM) of the steps: about that of the core holes.
_ATANS_EV = 0.4
_L3_SHARE = 2.0 / 3.0
# The L2 lines repeat those of L3, weaker by the statistical ratio and broader by the Coster-Kronig decay.
_L2_AREA = 0.46
_L2_WIDER_EV = 0.35


@dataclass(frozen=True)
class SoftComponent:
    """Spectrum of a metal, or of oxygen, in one state.

    Attributes
    ----------
    valence : float
        Of the metal; of oxygen, the share of holes on it: 0 reduced, 1 oxidised.
    lines : tuple of (float, float, float, float)
        Energy (eV), height above the continuum in edge steps, Lorentzian width (FWHM, eV) and Gaussian width of each.
    step_ev : tuple of float
        Where the continuum of L3, or of K, begins, and that of L2 where there is one.
    split_ev : float
        L2 lines above those of L3; 0 for none.
    """

    valence: float
    lines: tuple[tuple[float, float, float, float], ...]
    step_ev: tuple[float, ...]
    split_ev: float = 0.0


def _nickel(valence: float, low: float, high: float, moved_ev: float) -> SoftComponent:
    lines = (
        (853.0 + moved_ev, low, 0.55, 1.05),
        (855.5 + moved_ev, high, 0.75, 1.35),
        (858.3 + moved_ev, 0.25, 1.0, 1.6),
    )
    return SoftComponent(valence, lines, (855.0, 872.2), 17.2)


#: Components by edge and name. The lines are those of Ni, Mn and Co oxides as published, rounded.
SOFT_COMPONENTS: Mapping[str, Mapping[str, SoftComponent]] = MappingProxyType(
    {
        "Ni_L3": MappingProxyType(
            {
                "Ni2+": _nickel(2.0, 6.8, 1.55, 0.0),
                "Ni3+": _nickel(3.0, 4.4, 4.6, 0.05),
                "Ni4+": _nickel(4.0, 2.2, 6.9, 0.1),
            }
        ),
        "Mn_L3": MappingProxyType(
            {
                "Mn2+": SoftComponent(
                    2.0,
                    ((640.1, 7.4, 0.35, 0.9), (641.5, 1.9, 0.5, 1.1), (643.6, 1.5, 0.6, 1.4)),
                    (641.5, 652.8),
                    11.3,
                ),
                "Mn3+": SoftComponent(
                    3.0,
                    ((640.6, 2.2, 0.5, 1.4), (642.1, 5.2, 0.7, 1.9), (643.6, 2.2, 0.8, 2.0)),
                    (642.0, 653.3),
                    11.2,
                ),
                "Mn4+": SoftComponent(
                    4.0,
                    ((641.2, 3.4, 0.4, 0.9), (643.6, 6.2, 0.7, 1.6)),
                    (642.8, 654.0),
                    11.2,
                ),
            }
        ),
        "Co_L3": MappingProxyType(
            {
                "Co2+": SoftComponent(
                    2.0,
                    ((777.6, 1.8, 0.4, 0.8), (778.6, 4.4, 0.5, 1.1), (779.8, 3.0, 0.6, 1.3)),
                    (779.2, 794.4),
                    15.1,
                ),
                "Co3+": SoftComponent(
                    3.0,
                    ((780.6, 7.2, 0.6, 1.3), (782.2, 1.9, 0.8, 1.6)),
                    (780.8, 795.7),
                    15.0,
                ),
            }
        ),
        "O_K": MappingProxyType(
            {
                "O reduced": SoftComponent(
                    0.0,
                    ((531.9, 0.30, 0.3, 1.3), (537.6, 0.75, 1.5, 4.0), (541.6, 0.45, 1.5, 4.5)),
                    (536.5,),
                ),
                "O oxidised": SoftComponent(
                    1.0,
                    (
                        (528.9, 0.85, 0.3, 1.2),
                        (531.2, 0.55, 0.4, 1.5),
                        (537.8, 0.6, 1.5, 4.5),
                        (542.5, 0.5, 1.5, 5.0),
                    ),
                    (536.5,),
                ),
            }
        ),
    }
)

#: Where the edges are, eV.
SOFT_EDGES_EV: Mapping[str, float] = MappingProxyType(
    {"Ni_L3": 852.7, "Co_L3": 778.1, "Mn_L3": 638.7, "O_K": 531.0}
)


def soft_spectrum(edge: str, name: str, energy_ev: ArrayLike, resolving_power: float) -> Array:
    """Return the normalised absorption of a component as a monochromator of finite resolution records it.

    Parameters
    ----------
    edge : str
        Key of `SOFT_COMPONENTS`.
    name : str
        Component of that edge.
    energy_ev : array_like, shape (n,)
        Energies.
    resolving_power : float
        Energy over its width (FWHM).

    Returns
    -------
    ndarray, shape (n,)
        0 below the edge, 1 far above it.

    Raises
    ------
    DeviceError
        There is no such component.
    """
    try:
        component = SOFT_COMPONENTS[edge][name]
    except KeyError:
        known = {key: list(held) for key, held in SOFT_COMPONENTS.items()}
        raise DeviceError(f"the twin has no component {name!r} at {edge!r}, it has {known}") from None
    x = np.asarray(energy_ev, dtype=np.float64)
    width_ev = SOFT_EDGES_EV[edge] / resolving_power
    out = soft_continuum(edge, name, x, resolving_power)
    for at_ev, height, lorentz_ev, gauss_ev in component.lines:
        # The height is that without the width of the monochromator, which keeps the area.
        area = height / voigt_profile(0.0, gauss_ev / FWHM_PER_SIGMA, 0.5 * lorentz_ev)
        sigma_ev = float(np.hypot(gauss_ev, width_ev)) / FWHM_PER_SIGMA
        out += area * voigt_profile(x - at_ev, sigma_ev, 0.5 * lorentz_ev)
        if component.split_ev:
            wider_ev = 0.5 * (lorentz_ev + _L2_WIDER_EV)
            out += _L2_AREA * area * voigt_profile(x - at_ev - component.split_ev, sigma_ev, wider_ev)
    return out


def soft_continuum(edge: str, name: str, energy_ev: Array, resolving_power: float) -> Array:
    """Return the steps below the lines of a component, shape (n,)."""
    component = SOFT_COMPONENTS[edge][name]
    half_width_ev = 0.5 * (_ATANS_EV + SOFT_EDGES_EV[edge] / resolving_power)
    shares = (_L3_SHARE, 1.0 - _L3_SHARE) if len(component.step_ev) == 2 else (1.0,)
    out = np.zeros_like(energy_ev)
    for share, at_ev in zip(shares, component.step_ev, strict=True):
        out += share * (0.5 + np.arctan((energy_ev - at_ev) / half_width_ev) / np.pi)
    return out
