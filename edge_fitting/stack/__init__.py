"""Estimators that need whole spectra, driven pixel block by pixel block."""

from ._stack_fit import FrameStore, StackMethod, Values, fit_pixels, mean_spectrum, too_many_saturated

__all__ = [
    "FrameStore",
    "StackMethod",
    "Values",
    "fit_pixels",
    "mean_spectrum",
    "too_many_saturated",
]
