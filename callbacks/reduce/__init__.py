"""From frames to optical depth: darks, flats, incident intensity, and sampled spectra."""

from ._flat_field import FlatFieldBook, ReadyFrame
from ._i0 import I0Sign
from ._image_store import HeldFrame
from ._light import LEAST_OF_BRIGHTEST
from ._spectra import SampledSpectra, Spectrum, counting_variance, finite_mean, optical_depth

__all__ = [
    "LEAST_OF_BRIGHTEST",
    "FlatFieldBook",
    "HeldFrame",
    "I0Sign",
    "ReadyFrame",
    "SampledSpectra",
    "Spectrum",
    "counting_variance",
    "finite_mean",
    "optical_depth",
]
