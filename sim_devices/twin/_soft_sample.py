"""A particle whose surface is reduced, and what two yields of different depth see of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import ArrayLike, NDArray

from beamline_devices import DeviceError

from ._soft_spectra import SOFT_COMPONENTS, soft_continuum, soft_spectrum

__all__ = ["PUBLISHED_GAMMA", "SOFT_SAMPLES", "LayeredSample", "SoftTruth", "YieldDepth"]

Array = NDArray[np.float64]

# Where gamma of nickel takes its two maxima, eV; the valley between them is where one window ends.
_LOW_EV, _HIGH_EV = (851.5, 854.2), (854.2, 857.5)
_FINE_EV = 0.002


@dataclass(frozen=True)
class YieldDepth:
    """How deep a yield sees.

    Attributes
    ----------
    depth_nm : float
        Depth in which its signal falls to 1/e.
    saturation : float
        Absorption of the edge step along the incident beam over that depth: what makes the yield less than
        proportional to the absorption. 0 for none.
    """

    depth_nm: float
    saturation: float


@dataclass(frozen=True)
class LayeredSample:
    """A bulk, and a surface layer in which a part of the metal is reduced.

    Attributes
    ----------
    name : str
        What it is.
    ni_valence : float
        Mean valence of nickel in the bulk, 2 to 4.
    layer_nm : float
        Thickness of the layer.
    reduced_fraction : float
        Part of the layer that is the most reduced component of each element; the rest is as the bulk.
    """

    name: str
    ni_valence: float
    layer_nm: float
    reduced_fraction: float

    def __post_init__(self) -> None:
        if not 2.0 <= self.ni_valence <= 4.0:
            raise DeviceError(f"the valence of nickel has to be 2 to 4, not {self.ni_valence:g}")
        if not 0.0 <= self.reduced_fraction <= 1.0 or not 0.0 <= self.layer_nm < 1e6:
            raise DeviceError(
                f"a layer of {self.layer_nm:g} nm cannot be reduced by {self.reduced_fraction:g}: give a thickness "
                "that is not negative and a fraction of 0 to 1"
            )

    def bulk_fractions(self, edge: str) -> dict[str, float]:
        """Return the components of the bulk; those of Mn and Co stay what they are on charge."""
        names = list(SOFT_COMPONENTS[edge])
        if edge == "Ni_L3":
            place = [SOFT_COMPONENTS[edge][name].valence for name in names]
            return {
                name: float(np.interp(self.ni_valence, place, row))
                for name, row in zip(names, np.eye(len(names)), strict=True)
            }
        share = (self.ni_valence - 2.0) / 2.0 if edge == "O_K" else 1.0
        return dict.fromkeys(names, 0.0) | {names[-1]: share, names[0]: 1.0 - share}

    def seen_fractions(self, edge: str, depth: YieldDepth) -> dict[str, float]:
        """Return the components that a yield sees where nothing saturates: weighted by depth."""
        share = -float(np.expm1(-self.layer_nm / depth.depth_nm)) * self.reduced_fraction
        bulk = self.bulk_fractions(edge)
        most_reduced = next(iter(bulk))
        return {name: (1.0 - share) * part + share * (name == most_reduced) for name, part in bulk.items()}

    def seen(self, edge: str, energy_ev: ArrayLike, depth: YieldDepth, resolving_power: float) -> Array:
        """Return the yield, which is 0 without the edge and about 1 far above it, shape (n,).

        The layer and the bulk below it each add what they absorb, attenuated on the way in by what they absorb and on
        the way out by ``depth``.
        """
        x = np.asarray(energy_ev, dtype=np.float64)
        spectra = {
            name: _component(edge, name, x.tobytes(), resolving_power) for name in SOFT_COMPONENTS[edge]
        }
        bulk = sum(
            (part * spectra[name] for name, part in self.bulk_fractions(edge).items()), np.zeros_like(x)
        )
        reduced = spectra[next(iter(spectra))]
        layer = (1.0 - self.reduced_fraction) * bulk + self.reduced_fraction * reduced
        in_layer, in_bulk = (1.0 + depth.saturation * part for part in (layer, bulk))
        thick = self.layer_nm / depth.depth_nm
        out = layer * -np.expm1(-thick * in_layer) / in_layer + np.exp(-thick * in_layer) * bulk / in_bulk
        return np.asarray((1.0 + depth.saturation) * out)

    def gamma(self, depth: YieldDepth, resolving_power: float) -> float:
        """Return the true I(L3 high)/I(L3 low) of nickel: maxima above the continuum of a yield without noise."""
        x = np.arange(_LOW_EV[0], _HIGH_EV[1], _FINE_EV)
        y = self.seen("Ni_L3", x, depth, resolving_power)
        for name, part in self.bulk_fractions("Ni_L3").items():
            y -= part * soft_continuum("Ni_L3", name, x, resolving_power)
        low, high = (y[(x >= a) & (x <= b)].max() for a, b in (_LOW_EV, _HIGH_EV))
        return float(high / low)


@lru_cache(maxsize=64)
def _component(edge: str, name: str, energies: bytes, resolving_power: float) -> Array:
    spectrum = soft_spectrum(edge, name, np.frombuffer(energies), resolving_power)
    spectrum.flags.writeable = False
    return spectrum


@dataclass(frozen=True)
class SoftTruth:
    """What a perfect analysis of both yields would find.

    Attributes
    ----------
    gamma : mapping of str to float
        I(L3 high)/I(L3 low) of nickel by yield, "tey" and "fy".
    fractions : mapping of str to mapping of str to float
        Share of each component that a yield sees, by yield.
    layer_nm, reduced_fraction, ni_valence : float
        Of the sample.
    axis_offset_ev : float
        What the energies as read back have too much.
    """

    gamma: Mapping[str, float]
    fractions: Mapping[str, Mapping[str, float]]
    layer_nm: float
    reduced_fraction: float
    ni_valence: float
    axis_offset_ev: float


#: gamma of Ni L3 in NMC622 by sample: electron yield and fluorescence yield.
PUBLISHED_GAMMA: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "pristine": (0.56, 0.83),
        "charged": (0.87, 1.28),
        "discharged": (0.57, 1.04),
        "chemically delithiated": (1.64, 1.78),
    }
)

# One thickness for all; valence of the bulk and reduced fraction are what the two published gammas leave free.
SOFT_SAMPLES: Mapping[str, LayeredSample] = MappingProxyType(
    {
        name: LayeredSample(name, valence, 8.0, reduced)
        for name, valence, reduced in (
            ("pristine", 2.878, 0.679),
            ("charged", 3.373, 0.518),
            ("discharged", 3.165, 0.843),
            ("chemically delithiated", 3.685, 0.127),
        )
    }
)
